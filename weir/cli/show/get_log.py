"""What `weir get` shows of the log's world."""

from collections import defaultdict

import msgspec

from services.ipam.metrics import usage
from services.watcher.writer.conditions import counts
from weir.cli.output import Row
from weir.decider import World
from weir.events import (
    AppliedThrough,
    BackendsPlanned,
    EndpointDown,
    EndpointSliceObserved,
    ManifestRejected,
    ServiceObserved,
    StatusPlanned,
    VipAllocated,
    VipPlanned,
    VipReleased,
    endpoints_of,
)
from weir.lbnodes import counted, is_down, is_silent
from weir.model import (
    Condition,
    shown,
)

SVC = ("name", "vips", "ports", "ready", "state", "message")


def services(world: World) -> list[Row]:
    """Each Service that is served, or should be."""
    observed = {event.root.path: event for event in world.of(ServiceObserved)}
    endpoints, ready = endpoints_of_services(world), ready_of(world)
    return [
        _service(status, observed.get(status.root.path), endpoints.get(status.root.path, set()), *ready.get(status.root.path, (0, 0)))
        for status in statuses(world)
    ]


def endpoints_of_services(world: World) -> dict[str, set[str]]:
    """Service -> names of the endpoints that are planned for it: one for each address, port and protocol."""
    found: dict[str, set[str]] = {}
    for chunk in world.of(BackendsPlanned):
        found.setdefault(chunk.root.path, set()).update(endpoints_of(chunk))
    return found


def ready_of(world: World) -> dict[str, tuple[int, int]]:
    """Service -> its backends that get new flows, and all it has; one with several ports or families counts once."""
    slices, verdicts = defaultdict[str, list[EndpointSliceObserved]](list), defaultdict[str, list[EndpointDown]](list)
    for found in world.of(EndpointSliceObserved):
        slices[found.owner].append(found)
    for verdict in world.of(EndpointDown):
        verdicts[verdict.address].append(verdict)
    down = {address for address, found in verdicts.items() if is_down(world, found)}
    return {each.root.path: counts(each, slices[each.root.owner], down.__contains__) for each in world.of(ServiceObserved)}


def statuses(world: World) -> list[StatusPlanned]:
    """What is reported of each Service; of one that nothing was decided about yet, that it is pending."""
    reported = {status.root.path: status for status in world.of(StatusPlanned)}
    for event in world.of(ServiceObserved):
        if event.exposed and event.root.path not in reported:
            pending = Condition(type="Programmed", status=False, reason="Pending", message="no address was given or denied yet")
            reported[event.root.path] = StatusPlanned(owner=event.root.owner, vips=(), conditions=(pending,), root=event.root)
    return [reported[name] for name in sorted(reported)]


def _service(status: StatusPlanned, observed: ServiceObserved | None, endpoints: set[str], up: int, backends: int) -> Row:
    failed = next((condition for condition in status.conditions if not condition.status), None)
    return {
        "name": status.root.path,
        "vips": list(status.vips),
        "ports": [f"{port.port}/{port.protocol}" for port in observed.ports] if observed else [],
        "ready": f"{up}/{backends}",
        "state": failed.reason if failed else "Serving",
        "message": failed.message if failed else "",
        "labels": dict(observed.labels) if observed else {},
        "conditions": [msgspec.to_builtins(each) | {"status": each.status} for each in status.conditions],
        "backends": backends,
        "up": up,
        "endpoints": sorted(endpoints),
    }


def pools(world: World) -> list[Row]:
    """Each pool, how much of it is given, and what of its latest manifest cannot be used."""
    rejected = (event for event in world.of(ManifestRejected) if event.root and event.root.kind == "VIPPool")
    problems = {event.root.path: list(map(str, event.problems)) for event in rejected if event.root}
    return [
        {
            "name": each.pool.root.path,
            "addresses": list(each.pool.addresses),
            "auto assign": each.pool.auto_assign,
            "used": each.held + each.orphaned + each.releasing,
            "total": each.total,
            "orphaned": each.orphaned,
            "problems": problems.get(each.pool.root.path, []),
        }
        for each in usage(world)
    ]


def vips(world: World) -> list[Row]:
    """Each VIP that is given, or not yet let go of by every node."""
    announced = {event.vip for event in world.of(VipPlanned)}
    given: list[VipAllocated | VipReleased] = [*world.of(VipAllocated), *world.of(VipReleased)]
    return [
        {
            "vip": event.vip,
            "pool": event.pool,
            "services": list(map(shown, event.holders)),
            "state": "releasing" if isinstance(event, VipReleased) else "announced" if event.vip in announced else "held",
            "share key": getattr(event, "share_key", ""),
            "orphaned": getattr(event, "orphaned", False),
        }
        for event in sorted(given, key=lambda event: event.vip)
    ]


def nodes(world: World) -> list[Row]:
    """Each node that forwards."""
    applied = {event.node: event for event in world.of(AppliedThrough)}
    down: dict[str, int] = {}
    for event in world.of(EndpointDown):
        down[event.node] = down.get(event.node, 0) + 1
    return [
        {
            "name": seen.node,
            "hook": seen.attached,
            "interfaces": list(seen.interfaces),
            "applied": applied[seen.node].seq if seen.node in applied else 0,
            "rejected": len(applied[seen.node].rejected) if seen.node in applied else 0,
            "backends down": down.get(seen.node, 0),
            "heard": not is_silent(world, seen.node),
            "problems": [f"{r.entity}: {r.reason}" for r in applied[seen.node].rejected] if seen.node in applied else [],
        }
        for seen in counted(world)
    ]
