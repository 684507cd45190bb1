"""The core of the watcher: compares the inventory with the log, and returns the events by which they differ.

What a unit contained before is only in the log, so a restart decides as if the process had never stopped: what cannot be read stays as
the log has it, and what no source names any more is gone.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from services.watcher.inventory import Inventory, Observation, scope_of, unit_of, units_of
from services.watcher.kinds.fields import Faults, told
from services.watcher.kinds.kind import Judge
from services.watcher.kinds.reader import Reading
from services.watcher.kinds.registry import KINDS, OBSERVED, kind_of, refers
from services.watcher.settings import DEFAULT, Settings
from services.watcher.writer.gateway_service import services_of
from weir.decider import Change, Decided, Index, World, one_by_one
from weir.events import (
    AnyEvent,
    EndpointDown,
    EndpointSliceObserved,
    Event,
    HomeNamed,
    ManifestAccepted,
    ManifestRejected,
    NodeObserved,
    NodeRetired,
    ObjectObserved,
    VipAllocated,
    VipReleased,
    key,
    key_of,
    object_key,
)
from weir.lbnodes import ABOUT_NODES
from weir.model import Problem, Root

__all__ = ["HEARS", "Inventory", "Observation", "Watcher", "differences"]

HEARS: Final[tuple[type[Event], ...]] = (*OBSERVED, ManifestRejected, *ABOUT_NODES, HomeNamed)
_ORDER: Final = {event.kind: i for i, event in enumerate((*OBSERVED, ManifestRejected, NodeRetired))}


def _addresses_of(event: AnyEvent) -> Iterable[str]:
    return event.addresses if isinstance(event, NodeObserved) else ()


def _endpoints_of(event: AnyEvent) -> Iterable[str]:
    match event:
        case EndpointSliceObserved(endpoints=endpoints):
            return (endpoint.address for endpoint in endpoints)
        case EndpointDown(address=address):
            return (address,)
    return ()


def _service_of(event: AnyEvent) -> Iterable[str]:
    return (event.owner,) if isinstance(event, EndpointSliceObserved) else ()


def _pool_of(event: AnyEvent) -> Iterable[str]:
    return (event.pool,) if isinstance(event, VipAllocated) else ()


def _holders(event: AnyEvent) -> Iterable[str]:
    return event.holders if isinstance(event, VipAllocated | VipReleased) else ()


class Watcher:
    """The core.  Its events come from the sources, and are appended again when the log has lost them."""

    indexes: Mapping[str, Index] = {"unit": units_of, "node address": _addresses_of, "refers": refers}

    def __init__(
        self,
        settings: Settings = DEFAULT,
        scopes: Sequence[str] = ("",),
        home: Callable[[], str] = str,
        late: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        """scopes: of all sources; what the log has from others is gone.  Where one is a cluster, what is written there is looked up.

        home: the cluster whose names are in the log as they are, "" for none.   late: scopes of sources that cannot be followed now.
        """
        self.inventory = Inventory(settings, scopes)
        self._home, self._late = home, late
        if any(scopes):
            slices = {"slices of": _service_of, "endpoint": _endpoints_of}
            self.indexes = {**self.indexes, "holder": _holders, "pool": _pool_of, **slices, "service of gateway": services_of}

    def decide(self, world: World, changes: Sequence[Change]) -> Iterable[Decided]:
        """Return what follows from events of the log (`Kind.follows`): little, as they do not change what the sources contain."""
        return one_by_one(world, changes, _follows)

    def reconcile(self, world: World) -> Iterable[Decided]:
        """Return all differences; none before a source has been read completely.

        A source that cannot be followed now is left out: another replica may have recorded more of it.
        """
        home = [HomeNamed(cluster=name)] if (name := self._home()) and not world.of(HomeNamed) else []
        found = differences(world, self.inventory, late=self._late()) if self.inventory.complete else []
        return [Decided(event, 0) for event in (*home, *found)]  # what is observed follows from no event


def differences(
    world: World, inventory: Inventory, units: Iterable[str] | None = None, late: frozenset[str] = frozenset()
) -> list[AnyEvent]:
    """Return the events after which the log has what the sources contain.

    world: with the indexes of `Watcher`.   units: those that changed, None for all; the cost grows with their objects only.
    late: scopes that are left out.
    Order: by kind in the order of the registry, then rejections; by key within.  After the result is folded, there are no differences.
    """
    return _Comparison(world, inventory, late).of(None if units is None else tuple(units))


class _Comparison:
    """One comparison: see `kinds.kind.Comparison` for what the hooks of kinds use."""

    def __init__(self, world: World, inventory: Inventory, late: frozenset[str]) -> None:
        self._world, self._inventory, self._late = world, inventory, late
        self._keys: dict[str, list[str]] = {}  # entity kind -> the objects compared, sorted
        self._judges: dict[str, Judge] = {}  # entity kind -> judge
        self._among: defaultdict[str, Faults] = defaultdict(dict)  # source -> faults that show only among objects

    def of(self, units: tuple[str, ...] | None) -> list[AnyEvent]:
        """See `differences`."""
        keys, places = self._everything() if units is None else self._touched(units)
        self._keys = _by_kind(keys)
        self._judges = {kind.entity: kind.judge(self) for kind in KINDS if kind.judge and kind.entity in self._keys}
        events = [event for key in keys for event in self._object(key)]
        events += [event for place in places for event in self._place(place)]
        return sorted(events, key=lambda event: (_ORDER[event.kind], key_of(event)))

    # ── what to compare ────────────────────────────────────────────────────────────────────────────────────────────

    def _everything(self) -> tuple[set[str], set[str]]:
        stated = {key_of(event) for kind in OBSERVED for event in self._world.of(kind)}
        rejected = {event.source for event in self._world.of(ManifestRejected)}
        return {*self._inventory.objects(), *stated}, self._inventory.places() | rejected

    def _touched(self, units: tuple[str, ...]) -> tuple[set[str], set[str]]:
        """Return the objects that the units name or named, what depends on these, and every place that names one of them."""
        readings = [reading for unit in units for reading in self._inventory.readings(unit)]
        stated = [event for unit in units for event in self._world.find("unit", unit, Event)]
        roots = [reading.root for reading in readings] + [getattr(event, "root", None) for event in stated]
        keys = {object_key(root.owner) for root in roots if root}
        keys |= self._touched_by(_by_kind(keys))
        for owner in self._referred_anew(_by_kind(keys)):
            keys |= {object_key(owner), *self._inventory.slices(owner)}
        places = {reading.place for reading in readings} | {event.source for event in stated if isinstance(event, ManifestRejected)}
        return keys, places | {reading.place for key in keys for reading in self._inventory.naming(key)}

    def _touched_by(self, keys: Mapping[str, Sequence[str]]) -> set[str]:
        touching = [(kind.touches, keys[kind.entity]) for kind in KINDS if kind.touches and kind.entity in keys]
        return {key for touches, compared in touching for key in touches(self, compared)}

    def _referred_anew(self, keys: Mapping[str, Sequence[str]]) -> set[str]:
        """The owners to which one of these objects begins or ends to refer."""
        referring = [key for kind in KINDS if kind.refers for key in keys.get(kind.entity, ())]
        return {owner for key in referring for owner in set(refers(self.held(key))) ^ set(refers(self.desired(key)))}

    # ── what the hooks of kinds use ────────────────────────────────────────────────────────────────────────────────

    @property
    def world(self) -> World:
        """The log."""
        return self._world

    def compared(self, observed: type[ObjectObserved]) -> Sequence[str]:
        """The objects of one kind that are being compared, sorted."""
        return self._keys.get(observed.kind, ())

    def named(self, observed: type[ObjectObserved]) -> Sequence[str]:
        """The objects of one kind that the sources or the log name, sorted."""
        stated = {key_of(event) for event in self._world.of(observed)}
        return sorted({*_by_kind(self._inventory.objects()).get(observed.kind, ()), *stated})

    def stated(self, key: str) -> tuple[str, ObjectObserved | None] | None:
        """The source that states the object, with the event where it can be used; None where no source does."""
        owner = self._owner(key)
        return (owner.place, owner.event if isinstance(owner, Reading) else None) if owner else None

    def referred(self, owner: str) -> bool:
        """Whether an object refers to the owner."""
        referring = self._inventory.referring(owner).union(self._world.listed("refers", owner))
        return any(owner in refers(self.desired(key)) for key in referring)

    def slices_at(self, addresses: set[str]) -> set[str]:
        """The EndpointSlices with an endpoint at one of these addresses."""
        return self._inventory.slices_at(addresses)

    def reject(self, source: str, problems: Iterable[Problem]) -> None:
        """Report problems of a source that show only beside other objects."""
        self._among[source] |= dict.fromkeys(problems)

    # ── objects ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _object(self, key: str) -> Iterator[AnyEvent]:
        held, desired = self.held(key), self.desired(key)
        if desired is None and held:
            kind = kind_of(held)
            yield kind.gone_event(held)
            yield from kind.ends(self._world, held) if kind.ends else ()
        elif desired and not (held and _same(desired, held)):
            yield desired

    def held(self, key: str) -> ObjectObserved | None:
        """The object as the log has it."""
        held = self._world.get(key)
        return held if isinstance(held, OBSERVED) else None

    def desired(self, key: str) -> ObjectObserved | None:
        """The object as it should be in the log; as it is there where it cannot be used or its source is late."""
        owner = self._owner(key)
        if not isinstance(owner, Reading):
            return self.held(key) if owner else None
        if owner.event is None or scope_of(owner.place) in self._late:
            return self.held(key)
        judge = self._judges.get(owner.event.kind)
        return judge(key, owner.event, owner.place) if judge else owner.event

    def _owner(self, key: str) -> Reading | Root | None:
        """Return the reading that counts for the object: from the unit that the log has it from, else the first by place.

        A Root where that unit cannot be read now: the object stays as it is.
        """
        readings, held = self._inventory.naming(key), self.held(key)
        unit = unit_of(held.root.place) if held else ""
        incumbent = next((reading for reading in readings if unit_of(reading.place) == unit), None)
        if held and not incumbent and (self._inventory.keeps(unit) or scope_of(unit) in self._late):
            return held.root
        return incumbent or (readings[0] if readings else None)

    # ── rejections ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _place(self, place: str) -> Iterator[AnyEvent]:
        held = self._world.get(key("watcher", "manifest", "", place))
        reading = self._inventory.reading(place)
        problems = (*reading.problems, *self._second(reading), *self._among.get(place, ())) if reading else ()
        if reading and problems:
            owner = self._meant_by(reading)
            rejected = ManifestRejected(source=place, problems=told(problems, reading.untold), root=reading.root, owner=owner)
            if rejected != held:
                yield rejected
        elif held:
            yield ManifestAccepted(source=place)

    def _meant_by(self, reading: Reading) -> str:
        """Return the Service that an EndpointSlice serves as the log has it; else the one that the reading names."""
        held = self._world.get(object_key(reading.root.owner)) if reading.root else None
        return held.owner if isinstance(held, EndpointSliceObserved) else reading.owner

    def _second(self, reading: Reading) -> Iterator[Problem]:
        """Yield a problem where another place has the object."""
        owner = self._owner(object_key(reading.root.owner)) if reading.root else None
        if reading.root and owner and owner is not reading:
            yield Problem(field="metadata.name", got=reading.root.path, accepted=f"each {reading.root.kind} once; {owner.place} has it")


def _follows(world: World, change: Change) -> list[AnyEvent]:
    return [event for kind in KINDS if kind.follows for event in kind.follows(world, change)]


def _by_kind(keys: Iterable[str]) -> dict[str, list[str]]:
    """Keys of objects by the kind of entity, sorted."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for each in sorted(keys):
        found[each.split(".", 2)[1]].append(each)
    return found


def _same(event: ObjectObserved, held: ObjectObserved) -> bool:
    """Whether the event would add nothing to the log.

    The place within a unit does not matter.  The unit does: while it cannot be read, the object stays as it is.
    """
    observed = event.root
    older = replace(held.root, place=observed.place, resource_version=observed.resource_version)
    return unit_of(observed.place) == unit_of(held.root.place) and replace(held, root=older) == event
