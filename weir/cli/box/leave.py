"""`weir leave`: remove an LB node permanently, with the operator's key."""

import asyncio
from pathlib import Path

from weir.bus.client import Bus
from weir.bus.permissions import OPERATOR
from weir.cli.box.join import speak_as_operator
from weir.decider import Decided
from weir.events import NodeLeft, NodeSeen


def leave(url: str, credentials: Path | None, node: str) -> bool:
    """Remove a node; return whether the log knows it.  Raises LogError, UpError."""
    speak_as_operator(credentials)
    return asyncio.run(_leave(url, node))


async def _leave(url: str, node: str) -> bool:
    async with await Bus.connect(url, OPERATOR) as bus:
        known = [entry.fact.event async for entries in bus.state((NodeSeen.kind,)) for entry in entries]
        if not any(isinstance(event, NodeSeen) and event.node == node for event in known):
            return False
        await bus.append(OPERATOR, [Decided(NodeLeft(lbnode=node), 0)], await bus.last(OPERATOR))
        return True
