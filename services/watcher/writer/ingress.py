"""Status of an Ingress: the addresses of its class, once nodes have confirmed what they serve for it."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from services.watcher.writer.conditions import MOST_WORDS, planned_status, same
from services.watcher.writer.service import written_as
from services.watcher.writer.status import Json, Mark, Note, Status, View, Wanted, of_owner
from weir.decider import World
from weir.events import (
    AnyEvent,
    GatewayStatusPlanned,
    IngressClassObserved,
    IngressObserved,
    StatusWithdrawn,
    VipAllocated,
    VipReleased,
    object_key,
)
from weir.model import Condition, name_in


def _wanted(view: View) -> Wanted | None:
    if not view.seen("Ingress"):
        return None
    planned = planned_status(view.world, view.owner("Ingress"))
    written = _written(view.before)
    if not isinstance(planned, GatewayStatusPlanned):  # another controller's, unless an address of ours was left there
        left = bool(written) and written <= _ours(view)
        return Wanted(status={"loadBalancer": {"ingress": []}}) if left else None
    done = planned.programmed()
    addresses = [written_as(vip, view.host) for vip in planned.addresses]
    shown = [address for address in addresses if (done and done.status) or address in written]
    status: Json = {"loadBalancer": {"ingress": [{"hostname" if view.host else "ip": address} for address in shown]}}
    stands = {"loadBalancer": view.before.get("loadBalancer") or {}}
    return Wanted(
        status=None if same(status, stands) else status,
        standing=_notes(planned.conditions),
        settling=planned.is_pending(),
    )


def _written(before: Mapping[str, Any]) -> set[str]:
    entries = (before.get("loadBalancer") or {}).get("ingress") or ()
    return {entry.get("ip") or entry.get("hostname") or "" for entry in entries}


def _ours(view: View) -> set[str]:
    """The addresses of our classes, as they are written; of the one that the Ingress names also when it is gone.

    view.world: with the index "holder" of the watcher.
    """
    world, ingress = view.world, view.world.get(object_key(view.owner("Ingress")))
    classes = {each.root.owner for each in world.of(IngressClassObserved)}
    if isinstance(ingress, IngressObserved):
        classes.add(f"IngressClass/{name_in(view.source, ingress.class_name)}")
    held = (vip for owner in classes for kind in (VipAllocated, VipReleased) for vip in world.find("holder", owner, kind))
    return {written_as(vip.vip, view.host) for vip in held}


def _notes(conditions: Iterable[Condition]) -> list[Note]:
    """Warnings: an Ingress has no conditions that could say it."""
    wrong = (each for each in conditions if not each.status and each.message and each.reason not in ("Pending", "NoNode", "NodeSilent"))
    return [Note(True, each.reason, each.message[:MOST_WORDS]) for each in wrong]


def _marked(_: World, event: GatewayStatusPlanned | StatusWithdrawn, __: AnyEvent | None) -> Iterable[Mark]:
    return of_owner(event.owner, "Ingress")


CONTENDED: Final = Note(
    True, "Contended", "Another controller keeps overwriting this status; check which controllers handle its ingressClassName."
)
STATUS: Final = Status(wanted=_wanted, marks={GatewayStatusPlanned: _marked, StatusWithdrawn: _marked}, contended=CONTENDED, urgent=True)
