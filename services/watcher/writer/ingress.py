"""Status of an Ingress: the addresses of its class, once nodes have confirmed what they serve for it."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from services.watcher.writer.conditions import MOST_WORDS, planned_status, same
from services.watcher.writer.service import written_as
from services.watcher.writer.status import Json, Mark, Note, Status, View, Wanted, of_owner
from weir.decider import World
from weir.events import AnyEvent, GatewayStatusPlanned, StatusWithdrawn, VipAllocated, VipReleased
from weir.model import Condition


def _wanted(view: View) -> Wanted | None:
    if not view.seen("Ingress"):
        return None
    planned = planned_status(view.world, view.owner("Ingress"))
    written = _written(view.before)
    if not isinstance(planned, GatewayStatusPlanned):  # another controller's, unless an address of ours was left there
        left = bool(written) and written <= _ours(view.world, view.host)
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


def _ours(world: World, host: str) -> set[str]:
    """The addresses of our classes, as they are written."""
    held = (vip for kind in (VipAllocated, VipReleased) for vip in world.of(kind))
    return {written_as(vip.vip, host) for vip in held if any(holder.startswith("IngressClass/") for holder in vip.holders)}


def _notes(conditions: Iterable[Condition]) -> list[Note]:
    """Warnings: an Ingress has no conditions that could say it."""
    wrong = (each for each in conditions if not each.status and each.message and each.reason not in ("Pending", "NoNode", "NodeSilent"))
    return [Note(True, each.reason, each.message[:MOST_WORDS]) for each in wrong]


def _marked(_: World, event: GatewayStatusPlanned | StatusWithdrawn, __: AnyEvent | None) -> Iterable[Mark]:
    return of_owner(event.owner, "Ingress")


STATUS: Final = Status(wanted=_wanted, marks={GatewayStatusPlanned: _marked, StatusWithdrawn: _marked}, urgent=True)
