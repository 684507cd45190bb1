"""Differences between two moments of the log, entity by entity."""

from typing import Any, Literal

import msgspec

from weir.decider import World
from weir.events import AnyEvent, AppliedThrough, BackendsPlanned, EpochStarted, MapPressure, ReaderAnnounced, VipTaken, tag_of
from weir.model import endpoint_name
from weir.view.value import View

KINDS = {
    "planvip": "announced",
    "lbnode": "node",
    "vip": "VIP",
    "claim": "waiting",
    "endpoint": "down",
}  # where the event's kind is not the word that users know

Fields = dict[str, Any]
Picture = dict[tuple[str, str], Fields]  # kind and name of an entity -> its fields


class Changed(View, frozen=True):
    """One field at both moments; None where the entity did not have it."""

    before: Any
    after: Any


class Difference(View, frozen=True):
    """One entity that differs, and the fields in which it does."""

    change: Literal["added", "changed", "removed"]
    kind: str
    name: str
    fields: dict[str, Changed]


def picture(world: World) -> Picture:
    """Return the fields of each entity in `world`, without those that show progress only: watermarks, fill levels and epochs."""
    found: Picture = {}
    for _, fact in sorted(world.facts.items()):
        match fact.event:
            case AppliedThrough(rejected=()) | VipTaken() | MapPressure() | EpochStarted() | ReaderAnnounced():
                continue
            case AppliedThrough(node=node, rejected=rejected):
                found["refused by", node] = {refused.entity: refused.reason for refused in rejected}
            case BackendsPlanned(set=name, backends=backends, protocol=protocol):
                states = {endpoint_name(b.address, b.port, protocol): b.state for b in backends}
                found.setdefault(("backends", name), {}).update(states)
            case event:
                found[KINDS.get(event.kind, event.kind), "/".join(filter(None, event.entity()))] = _fields(event)
    return found


def differences(before: Picture, after: Picture) -> list[Difference]:
    """Return the entities that differ, by kind and name."""
    found = []
    for kind, name in sorted(before.keys() | after.keys()):
        old, new = before.get((kind, name)), after.get((kind, name))
        if old != new:
            change: Literal["added", "changed", "removed"] = "added" if old is None else "removed" if new is None else "changed"
            found.append(Difference(change=change, kind=kind, name=name, fields=_changed(old or {}, new or {})))
    return found


def _fields(event: AnyEvent) -> Fields:
    """Return all fields, defaults too, but for the root: an object that is written again unchanged is no difference."""
    fields = {name: msgspec.to_builtins(getattr(event, name)) for name in event.__struct_fields__ if name != "root"}
    return fields | {"type": tag_of(type(event))}


def _changed(old: Fields, new: Fields) -> dict[str, Changed]:
    names = sorted(old.keys() | new.keys())
    return {name: Changed(before=old.get(name), after=new.get(name)) for name in names if old.get(name) != new.get(name)}
