"""What `weir get` shows of the log's world."""

import msgspec

from services.ipam.metrics import usage
from weir.cli.output import Row
from weir.decider import World
from weir.events import (
    AppliedThrough,
    BackendsPlanned,
    EndpointDown,
    ManifestRejected,
    ServiceObserved,
    StatusPlanned,
    VipAllocated,
    VipPlanned,
    VipReleased,
)
from weir.lbnodes import counted, is_silent
from weir.model import Condition, endpoint_name

SVC = ("name", "vips", "ports", "backends", "state", "message")


def services(world: World) -> list[Row]:
    """Each Service that is served, or should be."""
    observed = {event.root.path: event for event in world.of(ServiceObserved)}
    backends = backends_of(world)
    return [_service(status, observed.get(status.service), backends.get(status.service, set())) for status in statuses(world)]


def backends_of(world: World) -> dict[str, set[str]]:
    """Service -> names of the backends that are planned for it."""
    found: dict[str, set[str]] = {}
    for chunk in world.of(BackendsPlanned):
        names = (endpoint_name(b.address, b.port, chunk.protocol) for b in chunk.backends)
        found.setdefault(chunk.root.path, set()).update(names)
    return found


def statuses(world: World) -> list[StatusPlanned]:
    """What is reported of each Service; of one that nothing was decided about yet, that it is pending."""
    reported = {status.service: status for status in world.of(StatusPlanned)}
    for event in world.of(ServiceObserved):
        if event.exposed and event.root.path not in reported:
            pending = Condition(type="Programmed", status=False, reason="Pending", message="no address was given or denied yet")
            reported[event.root.path] = StatusPlanned(service=event.root.path, vips=(), conditions=(pending,), root=event.root)
    return [reported[name] for name in sorted(reported)]


def _service(status: StatusPlanned, observed: ServiceObserved | None, backends: set[str]) -> Row:
    failed = next((condition for condition in status.conditions if not condition.status), None)
    return {
        "name": status.service,
        "vips": list(status.vips),
        "ports": [f"{port.port}/{port.protocol}" for port in observed.ports] if observed else [],
        "backends": len(backends),
        "state": failed.reason if failed else "Serving",
        "message": failed.message if failed else "",
        "labels": dict(observed.labels) if observed else {},
        "conditions": [msgspec.to_builtins(each) | {"status": each.status} for each in status.conditions],
        "endpoints": sorted(backends),
    }


def pools(world: World) -> list[Row]:
    """Each pool, how much of it is given, and what of its latest manifest cannot be used."""
    rejected = (event for event in world.of(ManifestRejected) if event.root and event.root.kind == "VIPPool")
    problems = {event.root.name: list(map(str, event.problems)) for event in rejected if event.root}
    return [
        {
            "name": each.pool.root.name,
            "addresses": list(each.pool.addresses),
            "auto assign": each.pool.auto_assign,
            "used": each.held + each.orphaned + each.releasing,
            "total": each.total,
            "orphaned": each.orphaned,
            "problems": problems.get(each.pool.root.name, []),
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
            "services": list(event.services),
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
