"""A node without FRR: it has no sessions with routers, and reports that."""

import asyncio
from collections.abc import Iterator, Sequence

from services.dataplane.applier import Step
from weir.decider import World
from weir.events import AnyEvent, BgpSessionPlanned, key_of
from weir.model import Rejection
from weir.service.metrics import Sample
from weir.service.runner import Runner


class NoFrr:
    """An applier that refuses every session of this node."""

    interested = (BgpSessionPlanned,)
    unfinished = False
    impaired = ""

    def __init__(self, node: str) -> None:
        self._node, self._world, self.through = node, World(), 0

    def apply(self, step: Step) -> None:
        """Hold nothing of it."""
        self._world, self.through = step.world, step.position

    def rejections(self) -> Sequence[Rejection]:
        """Return one for each session."""
        reason = "this node runs no FRR: install it (Debian: frr) and start Weir again; in a cluster: deploy/components/bgp"
        return [Rejection(entity=key_of(each), reason=reason) for each in self._world.of(BgpSessionPlanned) if self._node in each.nodes]

    def news(self, _: World) -> Iterator[AnyEvent]:
        """There is nothing to tell."""
        return iter(())

    def samples(self) -> Iterator[Sample]:
        """Nor to count."""
        return iter(())

    async def serve(self, _: Runner) -> None:
        """Nothing happens later."""
        await asyncio.Event().wait()
