"""Announcements as a part of this node: each VIP that this node newly announces is claimed on the wire, once, and recorded.

Later questions for its MAC are answered by BPF, with or without this process.  What a dead node announced is claimed by the hello
process, at once; here it is only recorded.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from services.dataplane.announce.arp import Announcer
from services.dataplane.announce.order import Alive, NodeTable, is_ours, named
from services.dataplane.announce.peers import Peers
from services.dataplane.applier import Step
from services.dataplane.l4.vips import announcers_of
from weir.decider import World
from weir.events import AnnouncersPlanned, AnnouncersWithdrawn, AnyEvent, PeersObserved, VipPlanned, VipTaken, key_of
from weir.model import Rejection
from weir.pins import Map
from weir.service.runner import Runner

LOOK_EVERY_S = 0.5


class Shared(NamedTuple):
    """How this node takes turns with others: who they are, and who of them is alive.   seen: the map `hello_seen`."""

    peers: Peers
    table: NodeTable
    seen: Map

    def alive(self) -> Alive:
        """Return who is alive and ready now."""
        return self.table.at(time.clock_gettime_ns(time.CLOCK_MONOTONIC))


class Announcements:
    """An applier, which applies after the kernel.

    taken: yields the VIPs that the kernel newly answers for, each once.   shared: None where this node announces every VIP.
    """

    interested = (VipPlanned, AnnouncersPlanned)
    unfinished = False

    def __init__(
        self,
        node: str,
        interfaces: Sequence[str],
        taken: Callable[[], list[str]],
        moved: Callable[[], None] = lambda: None,
        shared: Shared | None = None,
    ) -> None:
        self._node, self._interfaces, self._taken, self._moved, self._shared = node, interfaces, taken, moved, shared
        self._announcer = Announcer()
        self._unrecorded: list[VipTaken] = []
        self._orders: dict[str, tuple[int, ...]] = {}  # slots of each VIP's announcers, where it has some
        self._ours: set[str] = set()  # of these the ones that this node announces
        self._alive = Alive()
        self.through = 0

    def apply(self, step: Step) -> None:
        """Claim what this node newly announces.  Nothing is undone for what it no longer does: the kernel does not answer for it."""
        changed, alive = self._reordered(step), self._shared.alive() if self._shared else Alive()
        alone = {vip for vip in self._taken() if vip not in self._orders}
        for vip in sorted(alone | self._newly_ours(changed, alive)):
            interfaces = self._announcer.announce(vip, self._interfaces)
            self._unrecorded.append(VipTaken(node=self._node, vip=vip, interfaces=interfaces))
        self.through = step.position

    def _reordered(self, step: Step) -> list[str]:
        """Take over the orders of a step; return the VIPs that it concerns."""
        if self._shared is None:
            return []
        peers = self._shared.peers
        if step.changes is None:
            changed = sorted({*self._orders, *(planned.vip for planned in step.world.of(AnnouncersPlanned))})
            peers.keep({node for vip in changed for node in announcers_of(step.world, vip)})
        else:
            events = (change.fact.event for change in step.changes)
            changed = [event.vip for event in events if isinstance(event, AnnouncersPlanned | AnnouncersWithdrawn)]
        for vip in changed:
            self._orders.pop(vip, None)
            if nodes := announcers_of(step.world, vip):
                self._orders[vip] = peers.of(nodes)
        if changed:
            peers.learn(max((step.world.seq(planned) for planned in step.world.of(AnnouncersPlanned)), default=0))
        return changed

    def _newly_ours(self, vips: Iterable[str], alive: Alive) -> set[str]:
        """Return those of `vips` that this node announces now, and did not when it was last asked."""
        now = {vip for vip in vips if vip in self._orders and is_ours(self._orders[vip], alive)}
        newly = now - self._ours
        self._ours = (self._ours - set(vips)) | now
        return newly

    def rejections(self) -> Sequence[Rejection]:
        return ()  # an interface that is down is reported by the node, and asks again when it comes up

    def unrecorded(self) -> int:
        """Return how many announcements the log may not have."""
        return len(self._unrecorded)

    def recorded(self, count: int) -> None:
        """The log has the first `count` of them."""
        del self._unrecorded[:count]

    def news(self, world: World) -> Iterator[AnyEvent]:
        """Announcements that the log does not have, and whom this node hears, where the log has it otherwise."""
        last = {taken.vip: taken for taken in self._unrecorded if taken.vip not in self._orders or taken.vip in self._ours}
        yield from (taken for taken in last.values() if not self._is_recorded(world, taken))
        if self._shared and self._orders:
            names = self._shared.peers.names
            heard = PeersObserved(node=self._node, alive=named(self._alive.alive, names), ready=named(self._alive.ready, names))
            if world.get(key_of(heard)) != heard:
                yield heard

    def _is_recorded(self, world: World, taken: VipTaken) -> bool:
        """Whether this node is the last that took the VIP, by the log."""
        others = (replace(taken, node=node) for node in announcers_of(world, taken.vip) if node != self._node)
        return world.get(key_of(taken)) == taken and world.seq(taken) > max(map(world.seq, others), default=0)

    async def follow_peers(self, _: Runner) -> None:
        """Edge: see every half a second who is alive, and record the VIPs that this node announces since."""
        while self._shared:
            before, self._alive = self._alive, self._shared.alive()
            if self._alive != before:
                taken = self._newly_ours([*self._orders], self._alive)
                self._unrecorded += [VipTaken(node=self._node, vip=vip, interfaces=tuple(self._interfaces)) for vip in sorted(taken)]
                self._moved()
            await asyncio.sleep(LOOK_EVERY_S)
