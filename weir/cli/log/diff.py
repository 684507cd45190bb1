"""`weir diff A B`: what changed between two moments of the log, in words."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weir.cli.ask import ask
from weir.cli.output import MACHINE, emit, harmless, paint, row_of
from weir.decider import World
from weir.view.diff import Difference, differences, picture
from weir.view.history import source, world_at

SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}
IN_NAME = ("vip", "port", "protocol", "node", "service")  # fields that an entity's name may already show


def diff(instance: str, before: str, after: str, output: str, file: Path | None = None) -> int:
    """Print what changed between two moments; `after` empty is now.  Return 1 where they differ, as diff(1) does."""

    async def question() -> tuple[tuple[World, int], tuple[World, int]]:
        async with source(instance, file) as log:
            return await world_at(log, before), await world_at(log, after)

    (old, first), (new, last) = ask(instance, question())
    found = differences(picture(old), picture(new))
    if output in MACHINE:
        emit([row_of(each) for each in found], output)
    else:
        for each in found:
            _print(each)
    print(f"from sequence {first} to {last}: {len(found) or 'no'} difference{'' if len(found) == 1 else 's'}", file=sys.stderr)
    return bool(found)


def _print(found: Difference) -> None:
    sign, colour = SIGNS[found.change]
    print(paint(f"{sign} {found.kind} {harmless(found.name)}", colour))
    if found.change == "removed":
        return
    for name, field in found.fields.items():
        if found.change == "added" and _is_plain(name, field.after, found.name):
            continue
        print(f"    {harmless(name)}: {harmless(change(field.before, field.after))}")


def _is_plain(field: str, content: Any, name: str) -> bool:
    """Whether a field of a new entity adds nothing to its kind and name."""
    return not content or field == "type" or (field in IN_NAME and value(content) in name)


def change(before: Any, after: Any) -> str:
    """Describe a change: `1 → 2`; for lists what was added and removed; for a new field its value."""
    if isinstance(before, list | tuple) and isinstance(after, list | tuple):
        old, new = list(map(value, before)), list(map(value, after))
        removed, added = [word for word in old if word not in new], [word for word in new if word not in old]
        return ", ".join([*(f"+ {word}" for word in added), *(f"- {word}" for word in removed)]) or "in another order"
    if before is None:
        return value(after)
    return f"{value(before) or 'none'} → {value(after) or 'none'}"


def value(content: Any) -> str:
    """Format a field's content in one line; "" for what is empty."""
    match content:
        case Mapping():
            return " ".join(f"{name}={value(each)}" for name, each in content.items() if each not in (None, "", [], {}))
        case list() | tuple():
            return ", ".join(map(value, content))
        case bool():
            return "yes" if content else "no"
        case None:
            return ""
    return str(content)
