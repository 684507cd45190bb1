"""The configuration of one FRR daemon as statements, and the commands that lead from what it runs to what it should.

A statement is the path of contexts that it stands in, and itself: ("router bgp 65001", "address-family ipv4 unicast", "network …").
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

Statement = tuple[str, ...]

_NOT_OURS: Final = re.compile(r"frr |hostname |log |line vty|service |no service |exit|end$|!")
_SEQUENCE: Final = re.compile(r"^(ip|ipv6) (prefix-list \S+) seq \d+ ")
BFD_DEFAULTS: Final = {"detect-multiplier": 3, "transmit-interval": 300, "receive-interval": 300}  # not printed, and not to be removed
_PREPEND: Final = "set as-path prepend"
_NEIGHBOR: Final = re.compile(r"neighbor (\S+) (?:interface )?remote-as ")


def parse(running: str) -> list[Statement]:
    """What `show running-config` prints.  The numbers that a daemon gives to entries of prefix lists are left out."""
    found: list[Statement] = []
    path: Statement = ()
    for line in running.splitlines():
        text = line.strip()
        if text and not _NOT_OURS.match(text):
            path = (*path[: len(line) - len(line.lstrip())], _SEQUENCE.sub(r"\1 \2 ", text))
            found += [] if _is_always(text) else [path]
    return found


def text_of(statements: Iterable[Statement]) -> str:
    """A configuration file that the daemon reads when it starts."""
    return "".join(f"{line}\n" for line in _entered(statements))


def changes(running: Sequence[Statement], wanted: Sequence[Statement]) -> list[str]:
    """The commands, after `configure terminal`: what is not wanted goes first, in reverse order, then comes what is missing, in order.

    A neighbor that is another goes with all that is said of it.  A network that stays is told in its new way, and never withdrawn.
    """
    held, goal = set(running), set(wanted)
    networks = {_network(each) for each in goal - held} - {None}
    gone: list[Statement] = []
    for each in reversed(running):
        if each not in goal and each in held and _network(each) not in networks:
            gone.append(each)
            held -= {other for other in held if _goes_with(other, each)} if _takes_others(each) else {each}
    outer = [each for each in gone if _takes_others(each)]
    alone = (each for each in gone if not any(_goes_with(each, other) for other in outer if other != each))
    return [*_entered((*each[:-1], _removal(each[-1])) for each in alone), *_entered(each for each in wanted if each not in held)]


def _entered(statements: Iterable[Statement]) -> Iterator[str]:
    """Each statement after the commands that enter its context."""
    entered: Statement = ()
    for each in statements:
        common = next((i for i, (a, b) in enumerate(zip(entered, each[:-1], strict=False)) if a != b), min(len(entered), len(each) - 1))
        yield from ("exit" for _ in entered[common:])
        yield from each[common:-1]
        yield each[-1]
        entered = each if _is_context(each[-1]) else each[:-1]
    yield from ("exit" for _ in entered)


def _is_context(line: str) -> bool:
    return line.startswith(("router bgp ", "route-map ", "profile ")) or _is_always(line)


def _is_always(line: str) -> bool:
    """Whether it is a context that is there whether it holds anything or not: no statement of its own."""
    return line.startswith("address-family ") or line == "bfd"


def _takes_others(removed: Statement) -> bool:
    return _is_context(removed[-1]) or bool(_NEIGHBOR.match(removed[-1]))


def _goes_with(statement: Statement, removed: Statement) -> bool:
    """Whether it is in a context that is removed, or is said of a neighbor that is."""
    neighbor = _NEIGHBOR.match(removed[-1])
    about = f"neighbor {neighbor[1]} " if neighbor else ""
    return statement[: len(removed)] == removed or bool(about and statement[:1] == removed[:1] and statement[-1].startswith(about))


def _removal(line: str) -> str:
    """The command by which a statement goes, as FRR 8.4 knows it."""
    word = line.partition(" ")[0]
    if word in BFD_DEFAULTS:
        return f"{word} {BFD_DEFAULTS[word]}"
    if neighbor := _NEIGHBOR.match(line):
        return f"no neighbor {neighbor[1]}" + (" interface" if " interface " in line else "")
    if line.startswith(_PREPEND):
        return f"no {_PREPEND}"
    return line.removeprefix("no ") if line.startswith("no ") else f"no {line}"


def _network(statement: Statement) -> Statement | None:
    """What a statement `network PREFIX route-map …` is about, in its family; None for others."""
    return (*statement[:-1], statement[-1].split(" ")[1]) if statement[-1].startswith("network ") else None
