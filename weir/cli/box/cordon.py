"""`weir node cordon`, `drain` and `uncordon`: move what a node announces to others, with the operator's key."""

import asyncio
from pathlib import Path

from weir.bus.client import Bus
from weir.bus.permissions import OPERATOR
from weir.cli.box.join import speak_as_operator
from weir.decider import Decided, World
from weir.events import AppliedThrough, BgpRoutePlanned, NodeCordoned, NodeSeen, NodeUncordoned, key_of
from weir.view.history import world_at
from weir.view.owners import owners


class UnknownNodeError(Exception):
    """The log does not know the node."""


def cordon(url: str, credentials: Path | None, node: str, *, back: bool) -> None:
    """Make the node the last choice for every VIP; with `back` one like the others.  Raises LogError, UpError, UnknownNodeError."""
    speak_as_operator(credentials)
    asyncio.run(_cordon(url, node, back=back))


def drain(url: str, credentials: Path | None, node: str, timeout_s: float) -> list[str]:
    """Cordon the node and wait until it announces nothing; return the VIPs that it still announces then.  Raises as `cordon`."""
    speak_as_operator(credentials)
    return asyncio.run(_drain(url, node, timeout_s))


async def _cordon(url: str, node: str, *, back: bool) -> None:
    async with await Bus.connect(url, OPERATOR) as bus:
        await _mark(bus, node, back=back)


async def _mark(bus: Bus, node: str, *, back: bool) -> tuple[World, int]:
    """Return the log as it was before."""
    world, position = await world_at(bus, "")
    if world.get(key_of(NodeSeen(node=node, hook="", layout=0, interfaces=()))) is None:
        raise UnknownNodeError(f"node {node!r} not found")
    event = NodeUncordoned(lbnode=node) if back else NodeCordoned(lbnode=node)
    if (world.get(key_of(event)) is None) != back:
        await bus.append(OPERATOR, [Decided(event, 0)], await bus.last(OPERATOR))
    return world, position


async def _drain(url: str, node: str, timeout_s: float) -> list[str]:
    async with await Bus.connect(url, OPERATOR) as bus:
        world, position = await _mark(bus, node, back=False)
        async with bus.follow(position) as pull:
            try:
                async with asyncio.timeout(timeout_s):
                    while _announced(world, node):
                        for entry in await pull.next():
                            world.evolve(entry.fact)
            except TimeoutError:
                return sorted(_announced(world, node))
    return []


def _announced(world: World, node: str) -> set[str]:
    """The VIPs that the node announces on the wire, or tells routers of: as long as it has not confirmed that it does no more."""
    applied = world.get(key_of(AppliedThrough(node=node, seq=0)))
    through = applied.seq if isinstance(applied, AppliedThrough) else 0
    told = {route.vip for route in world.of(BgpRoutePlanned) if node in route.nodes or (world.seq(route) > through)}
    return {owner.vip for owner in owners(world) if owner.node == node} | told
