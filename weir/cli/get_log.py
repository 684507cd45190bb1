"""What `weir get` shows of the log's world."""

from services.ipam.metrics import usage
from weir.cli.output import Row
from weir.decider import World
from weir.events import AppliedThrough, EndpointDown, ManifestRejected, VipAllocated, VipPlanned, VipReleased
from weir.lbnodes import counted, is_silent


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
