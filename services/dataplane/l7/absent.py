"""A node without a proxy: it serves nothing of the plan for L7, and reports that."""

import asyncio
from collections.abc import Sequence

from services.dataplane.applier import Step
from weir.decider import World
from weir.events import ListenerPlanned, key_of
from weir.model import Rejection
from weir.service.runner import Runner


class NoProxy:
    """An applier that refuses every listener."""

    interested = (ListenerPlanned,)
    unfinished = False
    impaired = ""

    def __init__(self) -> None:
        self._world, self.through = World(), 0

    def apply(self, step: Step) -> None:
        """Hold nothing of it."""
        self._world, self.through = step.world, step.position

    def rejections(self) -> Sequence[Rejection]:
        """Return one for each listener."""
        reason = "this node runs no proxy: start its agent with --proxy, and Envoy beside it"
        return [Rejection(entity=key_of(planned), reason=reason) for planned in self._world.of(ListenerPlanned)]

    async def serve(self, _: Runner) -> None:
        """Nothing happens later."""
        await asyncio.Event().wait()
