"""`weir leave`: a node is taken away for good.  Said in its own name, with its keys: nobody waits for it, and none is dead for its sake."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from weir.bus import BATCH, Bus
from weir.cli.join import keys
from weir.decider import Decided
from weir.events import AnyEvent, EndpointDown, EndpointUp, NodeLeft, NodeSeen
from weir.permissions import user

_KINDS: Final = {"health": EndpointDown.kind, "dataplane": NodeSeen.kind}  # the prober first: until the node has left it is missed


def leave(url: str, credentials: Path | None, node: str) -> int:
    """Returns how many facts were said; none of a node that the log does not know.  Raises LogError, UpError."""
    return sum(asyncio.run(_say(url, credentials, service, node)) for service in _KINDS)


async def _say(url: str, credentials: Path | None, service: str, node: str) -> int:
    author = user(service, node).name
    os.environ.update(keys(credentials, service, node) if credentials else {})
    async with await Bus.connect(url, author) as bus:
        known = [entry.fact.event async for entries in bus.state((_KINDS[service],)) for entry in entries]
        events = _goodbye(known, node)
        for start in range(0, len(events), BATCH):
            await bus.append(author, [Decided(event, 0) for event in events[start : start + BATCH]], await bus.last(author))
    return len(events)


def _goodbye(known: Sequence[AnyEvent], node: str) -> list[AnyEvent]:
    events: list[AnyEvent] = []
    for event in known:
        match event:
            case EndpointDown(node=name, address=address, port=port, protocol=protocol) if name == node:
                events.append(EndpointUp(node=node, address=address, port=port, protocol=protocol, reason="its prober's node left"))
            case NodeSeen(node=name) if name == node:
                events.append(NodeLeft(node=node))
    return events
