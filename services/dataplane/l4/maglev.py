"""Lookup tables: consistent hashing by Maglev, and round robin, both with weights."""

import ctypes
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from hashlib import blake2b
from itertools import count, groupby
from math import gcd, lcm
from pathlib import Path
from typing import NamedTuple

# Primes just above 100 slots per backend; few and far apart, so that a set seldom changes the size of its table.
SIZES = (101, 307, 1009, 2003, 5003, 10007, 20011, 50021, 100003, 200003, 500009, 1000003)
WEIGHED_MOST = 100  # for a backend with a small share a table grows as if it had so many backends, and no further
ROUND_MOST = 10_007  # slots of a round robin table whose weights have no small common measure


class PlanError(ValueError):
    """A plan that cannot be put into the kernel; the message says what and why."""


class Weighted(NamedTuple):
    """Backends that share `weight` parts of a table evenly."""

    weight: int
    names: Sequence[str]


def table_size(sets: Iterable[Weighted]) -> int:
    """Return the slots of a Maglev table, about 100 for the backend with the smallest share.  Raises PlanError above 10,000 backends."""
    sets = _serving(sets)
    total, backends = sum(part.weight for part in sets), sum(len(part.names) for part in sets)
    smallest = max((-(-total * len(part.names) // part.weight) for part in sets), default=0)
    wanted = max(backends, min(smallest, WEIGHED_MOST))
    for size in SIZES:
        if size > 100 * wanted:
            return size
    raise PlanError(f"{backends} backends in one set, expected at most {SIZES[-1] // 100}")


def shares(sets: Iterable[Weighted], size: int) -> dict[str, int]:
    """Divide `size` slots: among sets by weight, to less than one slot, and within a set evenly.

    A set without backends takes no share.  Where slots are left over, sets with the largest remainder get them, then backends by name.
    """
    sets = _serving(sets)
    total, found = sum(part.weight for part in sets), Counter[str]()
    parts = [size * part.weight // total for part in sets]
    remainders = sorted(range(len(sets)), key=lambda at: (-(size * sets[at].weight % total), at))
    for at in remainders[: size - sum(parts)]:
        parts[at] += 1
    for part, slots in zip(sets, parts, strict=True):
        each, more = divmod(slots, len(part.names))
        for at, name in enumerate(sorted(part.names)):
            found[name] += each + (at < more)
    return found


def maglev_table(slots: Mapping[str, int], ids: Mapping[str, int]) -> "array[int]":
    """Build a lookup table for consistent hashing.

    slots: how many each backend takes; their sum is the size, a prime.  Names are the same on every node, their order does not matter.
    ids: what the table holds for each name, uint32, never 0.   Raises PlanError when `slots` is empty.
    Source: Eisenbud et al., "Maglev", NSDI 2016, section 3.4; weights are the frequency of turns, as proposed there.
    """
    turns = _turns(slots)
    size = sum(slots.values())
    table = array("I", bytes(4 * size))
    permutations = [_permutation(name, size) for name in turns.names]
    (_compiled() or _in_python)(permutations, [ids[name] for name in turns.names], turns, table)
    return table


def round_robin_table(sets: Iterable[Weighted], ids: Mapping[str, int]) -> "array[int]":
    """Build the table of one round: backends by name, those with more weight several times and spread.  Raises PlanError when empty."""
    sets = _serving(sets)
    least = lcm(*(len(part.names) for part in sets))
    weights = [part.weight * least // len(part.names) for part in sets]
    slots = sum(weight // gcd(*weights) * len(part.names) for weight, part in zip(weights, sets, strict=True)) if sets else 0
    turns = _turns(shares(sets, min(slots, max(ROUND_MOST, sum(len(part.names) for part in sets)))))
    return array("I", (ids[turns.names[at]] for at in turns.order()))


class _Turns(NamedTuple):
    """names: by slots, the most first, then by name.   groups: where those of equal slots end, and their slots."""

    names: list[str]
    groups: list[tuple[int, int]]

    def order(self) -> Iterator[int]:
        """Who takes a slot, turn by turn: with the most slots in every round, the others as often as their credit allows."""
        most = self.groups[0][1]
        credit = [most - 1] * len(self.groups)
        for _ in range(most):
            start = 0
            for group, (end, slots) in enumerate(self.groups):
                credit[group] += slots
                if credit[group] >= most:
                    credit[group] -= most
                    yield from range(start, end)
                start = end


def _turns(slots: Mapping[str, int]) -> _Turns:
    """Group backends by their slots.  Raises PlanError when none has any."""
    names = sorted((name for name, taken in slots.items() if taken), key=lambda name: (-slots[name], name))
    if not names:
        raise PlanError("a table of no backends")
    groups, end = list[tuple[int, int]](), 0
    for taken, group in groupby(names, slots.__getitem__):
        end += len(list(group))
        groups.append((end, taken))
    return _Turns(names, groups)


def _serving(sets: Iterable[Weighted]) -> list[Weighted]:
    return [part for part in sets if part.weight > 0 and part.names]


_Fill = Callable[[Sequence[tuple[int, int]], Sequence[int], _Turns, "array[int]"], None]


def _in_python(permutations: Sequence[tuple[int, int]], ids: Sequence[int], turns: _Turns, table: "array[int]") -> None:
    """Each backend in turn takes the next free slot of its own permutation."""
    size, free = len(table), [1] * len(table)
    walks = [filter(free.__getitem__, map(size.__rmod__, count(*each))).__next__ for each in permutations]
    for at in turns.order():
        slot = walks[at]()
        table[slot] = ids[at]
        free[slot] = 0


@cache
def _compiled() -> _Fill | None:
    """The same in C, ten times as fast, where `deploy/setup` compiled it."""
    try:
        run = ctypes.CDLL(str(Path(__file__).with_name("libmaglev.so"))).maglev_fill
    except (OSError, AttributeError):  # missing, or of another version
        return None

    def fill(permutations: Sequence[tuple[int, int]], ids: Sequence[int], turns: _Turns, table: "array[int]") -> None:
        numbers, of_groups = ctypes.c_uint32 * len(ids), ctypes.c_uint32 * len(turns.groups)
        at, step = (numbers(*part) for part in zip(*permutations, strict=True))
        ends, slots = (of_groups(*part) for part in zip(*turns.groups, strict=True))
        credit = of_groups(*[slots[0] - 1] * len(turns.groups))
        held = (ctypes.c_uint32 * len(table)).from_buffer(table)
        run(at, step, numbers(*ids), ends, slots, credit, len(turns.groups), len(table), held)

    return fill


def _permutation(name: str, size: int) -> tuple[int, int]:
    digest = blake2b(name.encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little") % size, int.from_bytes(digest[8:], "little") % (size - 1) + 1
