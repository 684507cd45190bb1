"""Presence of LB nodes: the edge that listens for their heartbeats and appends an event when one falls silent or is heard again.

Cores have no clock, so silence is an event.  While nothing changes nothing is appended.
"""

import asyncio
import contextlib
from collections.abc import Container
from math import inf
from typing import Final

from services.watcher.edge import Appending
from weir.decider import World
from weir.events import AnyEvent, NodeHeard, NodeSilent, untoken
from weir.lbnodes import counted
from weir.service.runner import Runner

SILENT_S: Final = 40.0  # a node sends a heartbeat each 2 s (weir.service.heartbeat); with CHECK_S it is called silent within a minute
CHECK_S: Final = 5.0
AUTHOR: Final = "dataplane-"


def transitions(world: World, heard: Container[str], missed: Container[str]) -> list[AnyEvent]:
    """Return what the log lacks.   heard, missed: nodes with a heartbeat within SILENT_S, and without one though we listened."""
    nodes = [seen.node for seen in counted(world)]
    silent = [event.lbnode for event in world.of(NodeSilent)]
    fallen = [NodeSilent(lbnode=node) for node in nodes if node in missed and node not in silent]
    return [*fallen, *(NodeHeard(lbnode=node) for node in silent if node in heard or node not in nodes)]


class Presence:
    """Heartbeats, as this process received them.   appending: called with the events that are about to be appended."""

    def __init__(self, appending: Appending) -> None:
        self._appending = appending
        self._beat_s: dict[str, float] = {}
        self._counted_s: dict[str, float] = {}  # since when a node counts, as far as we saw
        self._since_s = inf  # since when we listen without a gap
        self._checked_s = -inf
        self._turned = asyncio.Event()
        self._silent: set[str] = set()

    def beat(self, author: str, _: bytes = b"") -> None:
        """Take the heartbeat of a service."""
        if author.startswith(AUTHOR):
            node = untoken(author.removeprefix(AUTHOR))
            self._beat_s[node] = asyncio.get_running_loop().time()
            if node in self._silent:
                self._turned.set()

    async def run(self, runner: Runner) -> None:
        """Append transitions, without end; only while this process leads."""
        while True:
            if self._listened(runner) and self._news(runner.world):
                await runner.propose(self._stated)
            self._silent = {event.lbnode for event in runner.world.of(NodeSilent)}
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_S):
                    await self._turned.wait()
            self._turned.clear()

    def _listened(self, runner: Runner) -> bool:
        """Whether this process leads.  While it did not, or was stopped or starved, or had no log, no node counts as missed."""
        now_s = asyncio.get_running_loop().time()
        if not runner.following or now_s - self._checked_s > 3 * CHECK_S:
            self._since_s = now_s
        self._checked_s = now_s
        return runner.following

    def _stated(self, world: World) -> list[AnyEvent]:
        events = self._news(world)
        self._appending(events)
        return events

    def _news(self, world: World) -> list[AnyEvent]:
        now_s = asyncio.get_running_loop().time()
        self._counted_s = {seen.node: self._counted_s.get(seen.node, now_s) for seen in counted(world)}
        heard = {node for node, beat_s in self._beat_s.items() if now_s - beat_s <= SILENT_S}
        awaited_s = {node: max(self._since_s, counted_s) for node, counted_s in self._counted_s.items()}
        missed = {node for node, since_s in awaited_s.items() if node not in heard and now_s - since_s > SILENT_S}
        return transitions(world, heard, missed)
