"""Sync: how far each LB node is behind the plan."""

from weir.bus.client import Bus
from weir.decider import World
from weir.plan import PLAN_KINDS
from weir.view.nodes import NodeView, nodes
from weir.view.value import View


class SyncView(View, frozen=True):
    """One node.  applied: sequence up to which the plan is in its kernel.   behind: events of the plan after that."""

    node: str
    applied: int
    behind: int
    rejected: tuple[str, ...]


async def synced(bus: Bus, world: World) -> list[SyncView]:
    """Return every LB node, by name."""
    return [await _synced(bus, node) for node in nodes(world)]


async def _synced(bus: Bus, node: NodeView) -> SyncView:
    return SyncView(node=node.name, applied=node.applied, behind=await unapplied(bus, node.applied), rejected=node.problems)


async def unapplied(bus: Bus, applied: int) -> int:
    """Return how many events of the plan there are after sequence `applied`."""
    async with bus.follow(applied, sorted(PLAN_KINDS)) as pull:
        return pull.pending
