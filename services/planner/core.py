"""The planner: parts that each plan one kind of owner, and what is the same for all of them.

The plan is published as a difference from the last, so skipping states in between never changes the result.  A backend's
chunk follows from its address alone, never from history: one endpoint that flips rewrites one chunk.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import Protocol

from services.planner.bgp.sessions import Sessions
from services.planner.causes import cause_of, newest_basis, scopes_of
from services.planner.gateway.part import Gateways
from services.planner.ingress.part import IngressClasses, Ingresses
from services.planner.l4.services import Services
from services.planner.shared import touched as shared
from services.planner.shared.difference import differences
from services.planner.shared.indexes import INDEXES
from services.planner.vips import Vips
from weir.decider import Change, Decided, Index, World
from weir.events import AnyEvent, AppliedThrough, BackendsPlanned, Event, FrontendPlanned, Planned, StatusPlanned, key_of
from weir.model import service_of


class Part(Protocol):
    """How owners of some kinds are planned.  All functions are pure."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of the owners that it plans: "Service" of "Service/shop/web"."""

    @property
    def indexes(self) -> Mapping[str, Index]:
        """Its own, beside `services.planner.shared.indexes`."""

    @property
    def subscribes(self) -> tuple[type[Event], ...]:
        """One event of each entity that it looks at, beside those of `services.planner.shared.touched`."""

    def owners(self, world: World) -> Iterable[str]:
        """All that may have a plan."""

    def touched(self, world: World, change: Change) -> set[str]:
        """Owners, of any kind, whose plan may differ after `change`, beside those of `services.planner.shared.touched`."""

    def plan(self, world: World, owner: str) -> list[AnyEvent]:
        """The entries of an owner, the chunks of all backend sets that these refer to, and the status."""


PARTS: tuple[Part, ...] = (
    Services(),
    Gateways(),
    IngressClasses(),
    Ingresses(),
    Vips(),
    Sessions(),
)  # in this order: who confirms that a VIP is withdrawn confirms that of its frontends, too


class Planner:
    """The core."""

    def __init__(self, parts: Sequence[Part] = PARTS) -> None:
        self._parts = parts
        self._places = {kind: place for place, part in enumerate(parts) for kind in part.kinds}
        self.indexes: Mapping[str, Index] = _merged([INDEXES, *(part.indexes for part in parts)])
        own: tuple[type[Event], ...] = (FrontendPlanned, BackendsPlanned, StatusPlanned)
        self.subscribes = tuple(dict.fromkeys([*shared.SUBSCRIBES, *own, *(event for part in parts for event in part.subscribes)]))

    def decide(self, world: World, changes: Sequence[Change]) -> Iterable[Decided]:
        """The part of the plan that `changes` touch, as a difference from what is planned; each owner once.

        What a node holds changes what is reported of an owner and never what is planned for it, so it is the cause of a status only.
        """
        owners: dict[str, int] = {}
        causes: dict[tuple[str, str], int] = {}  # owner and scope -> the last change of what is planned in that scope
        for change in changes:
            seq, event = change.fact[:2]
            found = self.touched(world, change)
            owners |= dict.fromkeys(found, seq)
            if not isinstance(event, AppliedThrough):
                causes |= {(owner, scope): seq for owner in found for scope in scopes_of(event)}
        for owner, event in self._differences(world, owners):
            yield Decided(event, cause_of(event, owner, causes) or owners[owner])

    def reconcile(self, world: World) -> Iterable[Decided]:
        """The whole plan, as a difference from what is planned."""
        owners = {*world.words("planned"), *(owner for part in self._parts for owner in part.owners(world))}
        for owner, event in self._differences(world, dict.fromkeys(owners, 0)):
            yield Decided(event, newest_basis(world, owner, event))

    def touched(self, world: World, change: Change) -> set[str]:
        """The owners whose plan may differ after `change`."""
        found = shared.touched(world, change).union(*(part.touched(world, change) for part in self._parts))
        return found | shared.users(world, found)

    def _differences(self, world: World, owners: dict[str, int]) -> Iterator[tuple[str, AnyEvent]]:
        """What is to be planned for `owners`, part after part.

        An entry may take the place of another owner's.  The Services whose sets that one referred to are added, with the same cause; so
        are those whose status follows from entries that changed.
        """
        queue = [(place, owner) for owner in owners if (place := self._places.get(owner.partition("/")[0])) is not None]
        heapify(queue)
        waiting = {owner for _, owner in queue}

        def add(more: Iterable[str], because_of: str) -> None:
            for each in {*more} - waiting:
                heappush(queue, (self._places[each.partition("/")[0]], each))
                waiting.add(each)
                owners.setdefault(each, owners[because_of])

        while queue:
            place, owner = heappop(queue)
            waiting.discard(owner)
            for event in differences(world, owner, self._parts[place].plan(world, owner)):
                add(_released(world, owner, event), owner)
                add(shared.followers(world, event) | shared.followers(world, world.get(key_of(event))), owner)
                yield owner, event


def plan(world: World, parts: Sequence[Part] = PARTS) -> dict[str, AnyEvent]:
    """Everything the kernel of any node should hold, and every status, by entity key."""
    events = (event for part in parts for owner in part.owners(world) for event in part.plan(world, owner))
    return dict(sorted((key_of(event), event) for event in events))


def _released(world: World, owner: str, event: AnyEvent) -> set[str]:
    """The Services to whose sets an entry refers that `event` takes the place of, where it is another owner's."""
    before = world.get(key_of(event)) if isinstance(event, Planned) and event.refers_to() else None
    if not isinstance(before, Planned) or before.planned_for() == owner:
        return set()
    return {service_of(part.name) for part in before.refers_to()}


def _merged(indexes: Iterable[Mapping[str, Index]]) -> dict[str, Index]:
    """All indexes by name; two parts may share one, and not give one name to two."""
    merged: dict[str, Index] = {}
    for found in indexes:
        if twice := [name for name, index in found.items() if merged.get(name, index) is not index]:
            raise ValueError(f"indexes {', '.join(twice)}: got two functions of one name, accepted: one")
        merged |= found
    return merged
