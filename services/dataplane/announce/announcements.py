"""Announcements as a part of this node: each VIP that the kernel newly answers for is claimed on the wire, once.

Later questions for its MAC are answered by BPF, with or without this process.
"""

from collections.abc import Callable, Iterator, Sequence

from services.dataplane.announce.arp import Announcer
from services.dataplane.applier import Step
from weir.decider import World
from weir.events import AnyEvent, VipPlanned, VipTaken, key_of
from weir.model import Rejection


class Announcements:
    """An applier, which applies after the kernel.   taken: yields the VIPs that the kernel newly answers for, each once."""

    interested = (VipPlanned,)
    unfinished = False

    def __init__(self, node: str, interfaces: Sequence[str], taken: Callable[[], list[str]]) -> None:
        self._node, self._interfaces, self._taken = node, interfaces, taken
        self._announcer = Announcer()
        self._unrecorded: list[VipTaken] = []
        self.through = 0

    def apply(self, step: Step) -> None:
        """Announce new VIPs.  Nothing is undone for one that is withdrawn: the kernel no longer answers for it."""
        for vip in self._taken():
            interfaces = self._announcer.announce(vip, self._interfaces)
            self._unrecorded.append(VipTaken(node=self._node, vip=vip, interfaces=interfaces))
        self.through = step.position

    def rejections(self) -> Sequence[Rejection]:
        return ()  # an interface that is down is reported by the node, and asks again when it comes up

    def unrecorded(self) -> int:
        """Return how many announcements the log may not have."""
        return len(self._unrecorded)

    def recorded(self, count: int) -> None:
        """The log has the first `count` of them."""
        del self._unrecorded[:count]

    def news(self, world: World) -> Iterator[AnyEvent]:
        """Announcements that the log does not have."""
        return (taken for taken in self._unrecorded if world.get(key_of(taken)) != taken)
