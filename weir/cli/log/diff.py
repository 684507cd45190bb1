"""`weir diff A B`: in what two moments of the log differ, entity by entity, in words."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from weir.cli.log.history import ask, source, world_at
from weir.cli.output import MACHINE, Row, emit, harmless, paint
from weir.decider import World
from weir.events import AnyEvent, AppliedThrough, BackendsPlanned, EpochStarted, MapPressure, VipTaken, tag_of
from weir.model import endpoint_name

SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}
KINDS = {
    "planvip": "announced",
    "lbnode": "node",
    "vip": "VIP",
    "claim": "waiting",
    "endpoint": "down",
}  # where the log's word is not the field's
SAID = ("vip", "port", "protocol", "node", "service")  # fields that an entity's name may have in it

Fields = dict[str, Any]
Picture = dict[tuple[str, str], Fields]  # kind and name of an entity -> what it says


def diff(instance: str, before: str, after: str, output: str, file: Path | None = None) -> int:
    """Prints what became between two moments; `after` empty is now.  Returns 1 where they differ, as diff(1) does."""

    async def question() -> tuple[tuple[World, int], tuple[World, int]]:
        async with source(instance, file) as log:
            return await world_at(log, before), await world_at(log, after)

    (old, first), (new, last) = ask(instance, question())
    found = differences(picture(old), picture(new))
    if output in MACHINE:
        emit(found, output)
    else:
        for row in found:
            _print(row)
    print(f"from sequence {first} to {last}: {len(found) or 'no'} difference{'' if len(found) == 1 else 's'}", file=sys.stderr)
    return bool(found)


def picture(world: World) -> Picture:
    """What `world` says of each entity.  Watermarks, announcements, fill levels and epochs are left out: they say how, not what."""
    found: Picture = {}
    for _, fact in sorted(world.facts.items()):
        match fact.event:
            case AppliedThrough(rejected=()) | VipTaken() | MapPressure() | EpochStarted():
                continue
            case AppliedThrough(node=node, rejected=rejected):
                found["refused by", node] = {refused.entity: refused.reason for refused in rejected}
            case BackendsPlanned(set=name, backends=backends, protocol=protocol):
                named = {endpoint_name(b.address, b.port, protocol): b.state for b in backends}
                found.setdefault(("backends", name), {}).update(named)
            case event:
                found[KINDS.get(event.kind, event.kind), "/".join(filter(None, event.entity()))] = _fields(event)
    return found


def differences(before: Picture, after: Picture) -> list[Row]:
    """Rows of `change`, `kind`, `name` and `fields`: each with what it was and what it is, None where it is not said."""
    rows = []
    for kind, name in sorted(before.keys() | after.keys()):
        old, new = before.get((kind, name)), after.get((kind, name))
        if old != new:
            change = "added" if old is None else "removed" if new is None else "changed"
            rows.append({"change": change, "kind": kind, "name": name, "fields": _changed(old or {}, new or {})})
    return rows


def _fields(event: AnyEvent) -> Fields:
    """All it says, defaults too; of its object nothing, as one that is written again, the same, is no difference."""
    said = {name: msgspec.to_builtins(getattr(event, name)) for name in event.__struct_fields__ if name != "root"}
    return said | {"type": tag_of(type(event))}


def _changed(old: Fields, new: Fields) -> dict[str, dict[str, Any]]:
    names = sorted(old.keys() | new.keys())
    return {name: {"before": old.get(name), "after": new.get(name)} for name in names if old.get(name) != new.get(name)}


def _print(row: Row) -> None:
    sign, colour = SIGNS[row["change"]]
    print(paint(f"{sign} {row['kind']} {harmless(row['name'])}", colour))
    if row["change"] == "removed":
        return
    for name, each in row["fields"].items():
        if row["change"] == "added" and _is_plain(name, each["after"], row["name"]):
            continue
        print(f"    {harmless(name)}: {harmless(change(each['before'], each['after']))}")


def _is_plain(field: str, said: Any, name: str) -> bool:
    """Whether a field of a new entity tells nothing that its kind and name have not told."""
    return not said or field == "type" or (field in SAID and value(said) in name)


def change(before: Any, after: Any) -> str:
    """`1 → 2`; of lists what came and went; the value alone where there was none."""
    if isinstance(before, list | tuple) and isinstance(after, list | tuple):
        old, new = list(map(value, before)), list(map(value, after))
        gone, come = [word for word in old if word not in new], [word for word in new if word not in old]
        return ", ".join([*(f"+ {word}" for word in come), *(f"- {word}" for word in gone)]) or "in another order"
    if before is None:
        return value(after)
    return f"{value(before) or 'none'} → {value(after) or 'none'}"


def value(said: Any) -> str:
    """A field's content in one line; "" for what is empty."""
    match said:
        case Mapping():
            return " ".join(f"{name}={value(each)}" for name, each in said.items() if each not in (None, "", [], {}))
        case list() | tuple():
            return ", ".join(map(value, said))
        case bool():
            return "yes" if said else "no"
        case None:
            return ""
    return str(said)
