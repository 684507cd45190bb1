"""What the agent needs of each part of this node that holds some of the plan: the kernel, the announcements, the health ports.

Envoy and a routing daemon are two more.  None knows another; the agent acknowledges the least position that all have reached.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from weir.decider import Change, Fact, World
from weir.events import Event
from weir.model import Rejection


class Step(NamedTuple):
    """A part of the log to apply.

    world: after it.   changes: what changed; None: compare everything.   before: with no `changes`, the planned entities that were
    applied last, by key; empty where that is unknown, and all that this part holds beyond the plan goes.   position: sequence reached.
    """

    world: World
    changes: Sequence[Change] | None
    before: Mapping[str, Fact]
    position: int

    def of(self, interested: Iterable[type[Event]]) -> "Step":
        """Keep the changes of those kinds."""
        kinds = {event.kind for event in interested}
        return self if self.changes is None else self._replace(changes=[each for each in self.changes if each.fact.event.kind in kinds])


class Applier(Protocol):
    """One part of this node.  It calls the `moved` it was made with when `through` or `rejections` changes after `apply` returned."""

    @property
    def interested(self) -> tuple[type[Event], ...]:
        """The events whose changes it gets, and those of the same kind."""

    @property
    def through(self) -> int:
        """The position through which this part holds the plan, as it was read back; it may reach that of a step later than `apply`."""

    @property
    def unfinished(self) -> bool:
        """True while `apply` with no changes would try again what was refused."""

    def apply(self, step: Step) -> None:
        """Make this part hold the plan of a step.  Errors become rejections."""

    def rejections(self) -> Sequence[Rejection]:
        """Return what of the plan this part does not hold, and why."""


def through(appliers: Iterable[Applier]) -> int:
    """Return the position to acknowledge: the least of all."""
    return min(applier.through for applier in appliers)
