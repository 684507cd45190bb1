"""Status of an LBService: the record of what its Service has, made beside it and deleted once it is not exposed and holds nothing."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from services.watcher.writer.conditions import condition_of, is_held, is_programmed, planned_for, same
from services.watcher.writer.service import MARKS
from services.watcher.writer.status import COUNT_S, Json, Mark, Status, View, Wanted, of_owner, of_root
from weir.decider import World
from weir.endpoints import counts
from weir.events import (
    AnyEvent,
    EndpointDown,
    EndpointSliceGone,
    EndpointSliceObserved,
    EndpointUp,
    RecordGone,
    ServiceObserved,
    StatusPlanned,
    object_key,
    record_key,
)
from weir.lbnodes import counted, is_down


def _wanted(view: View) -> Wanted | None:
    owner = view.owner("Service")
    service, planned = view.seen("Service"), planned_for(view.world, owner)
    observed = view.world.get(object_key(owner))
    if not service or not planned or (not planned.vips and _returns(view, owner)):
        unexposed = isinstance(observed, ServiceObserved) and not observed.exposed
        return Wanted(deleted=True) if unexposed and not is_held(view.world, owner) else None  # it is also collected with its Service
    nodes = [seen.node for seen in counted(view.world)] if is_programmed(planned) else []  # a silent one holds it as well
    status = record_status(planned, nodes, *_counts(view.world, observed), view.before, view.now)
    reference = {"apiVersion": "v1", "kind": "Service", "name": view.name, "uid": service.metadata.uid}
    return Wanted(
        status=None if same(status, view.before) else status,
        settling=planned.is_pending(),
        created={"metadata": {"ownerReferences": [reference]}},
    )


def _returns(view: View, owner: str) -> bool:
    """Whether the addresses that the record names are to be allocated again: while the log has them from there, the record keeps them."""
    return bool(view.before.get("vips")) and bool(view.world.get(record_key(owner)))


def _counts(world: World, observed: AnyEvent | None) -> tuple[int, int]:
    if not isinstance(observed, ServiceObserved):
        return 0, 0
    slices = world.find("slices of", observed.root.owner, EndpointSliceObserved)
    return counts(observed, slices, lambda address: is_down(world, world.find("endpoint", address, EndpointDown)))


def _withdrawn(_: World, event: RecordGone, __: AnyEvent | None) -> Iterable[Mark]:
    """Until now it was kept as it is."""
    return (of_root(event.root),)


def _slice(_: World, event: EndpointSliceObserved | EndpointSliceGone, before: AnyEvent | None) -> Iterable[Mark]:
    found = event if isinstance(event, EndpointSliceObserved) else before
    return of_owner(found.owner, "Service", COUNT_S) if isinstance(found, EndpointSliceObserved) else ()


def _endpoint(world: World, event: EndpointDown | EndpointUp, _: AnyEvent | None) -> Iterable[Mark]:
    found = world.find("endpoint", event.address, EndpointSliceObserved)
    return (mark for each in found for mark in of_owner(each.owner, "Service", COUNT_S))


STATUS: Final = Status(
    wanted=_wanted,
    marks={
        **MARKS,
        RecordGone: _withdrawn,
        EndpointSliceObserved: _slice,
        EndpointSliceGone: _slice,
        EndpointDown: _endpoint,
        EndpointUp: _endpoint,
    },
    beside="Service",
)


def record_status(planned: StatusPlanned, nodes: Iterable[str], healthy: int, total: int, before: Mapping[str, Any], now: str) -> Json:
    """`status` of an LBService."""
    names = sorted(nodes)
    conditions = [condition_of(condition, "", before, now) for condition in planned.conditions]
    counts = {"addresses": ", ".join(planned.vips), "healthy": healthy, "total": total}  # a column of kubectl shows text only
    reason = next((each.reason for each in planned.conditions if not each.status), "Serving")
    node = names[0] if len(names) == 1 else ""
    return {"vips": list(planned.vips), "reason": reason, "node": node, "nodes": names, **counts, "conditions": conditions}
