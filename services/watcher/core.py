"""watcher, the pure part: from what a source says to the facts by which it differs from the log.

What a unit said before is nowhere but in the world, so a restart decides as if the process had never stopped: what cannot be read
stands as the world has it, and what nobody names any more is gone.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from services.watcher.inventory import Observation, Said, scope_of, unit_of, units_of
from services.watcher.kinds.fields import Faults, told
from services.watcher.kinds.ranges import Range, Ranges, range_of
from services.watcher.kinds.reader import Observed, Reading
from services.watcher.settings import DEFAULT, Settings
from weir.decider import Change, Decided, Index, World, one_by_one
from weir.events import (
    AnyEvent,
    EndpointDown,
    EndpointSliceGone,
    EndpointSliceObserved,
    Event,
    HomeNamed,
    ManifestAccepted,
    ManifestRejected,
    NamespaceGone,
    NamespaceObserved,
    NodeGone,
    NodeObserved,
    NodeRetired,
    PoolGone,
    PoolObserved,
    RecordGone,
    RecordObserved,
    ServiceGone,
    ServiceObserved,
    VipAllocated,
    VipReleased,
    key,
    key_of,
    object_key,
    record_key,
)
from weir.lbnodes import ABOUT_NODES, counted
from weir.model import Problem, Root

__all__ = ["HEARS", "Observation", "Said", "Watcher", "differences"]

_OBSERVED: Final = (PoolObserved, NamespaceObserved, NodeObserved, RecordObserved, ServiceObserved, EndpointSliceObserved)
HEARS: Final[tuple[type[Event], ...]] = (*_OBSERVED, ManifestRejected, *ABOUT_NODES, HomeNamed)
_STATED: Final[tuple[type[Event], ...]] = (*_OBSERVED, ManifestRejected, NodeRetired)
_ORDER: Final = {event.kind: i for i, event in enumerate(_STATED)}  # records before the Services that they are of, rejections late


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
    """The core.  Its events come from the source, and are owed again when the log has lost them."""

    indexes: Mapping[str, Index] = {"unit": units_of, "node address": _addresses_of}

    def __init__(self, settings: Settings = DEFAULT, scopes: Sequence[str] = ("",), home: Callable[[], str] = str) -> None:
        """scopes: of all sources; what the log has from others is gone.  Where one is a cluster, what is written there is looked up."""
        self.said = Said(settings, scopes)
        self._home = home  # which cluster's names stand in the log as they are, "" where there is none
        self.late: Callable[[], frozenset[str]] = frozenset  # scopes of sources that cannot be followed now
        if any(scopes):
            of_writes = {"holder": _holders, "pool": _pool_of, "slices of": _service_of, "endpoint": _endpoints_of}
            self.indexes = {**self.indexes, **of_writes}

    def decide(self, world: World, changes: Sequence[Change]) -> Iterable[Decided]:
        """Withdraw the records of Services that hold again what these name; other events do not change what the source says."""
        return one_by_one(world, changes, _regained)

    def reconcile(self, world: World) -> Iterable[Decided]:
        """Everything by which the sources differ; nothing before one has been listed once.

        Of a source that cannot be followed now the log may know more, by another replica: what it says is told when it changes.
        """
        home = [HomeNamed(cluster=name)] if (name := self._home()) and not world.of(HomeNamed) else []
        found = differences(world, self.said, late=self.late()) if self.said.complete else []
        return [Decided(event, 0) for event in (*home, *found)]  # what is observed follows from no event


def differences(world: World, said: Said, units: Iterable[str] | None = None, late: frozenset[str] = frozenset()) -> list[AnyEvent]:
    """What the log must be told so that it says what the source says.

    world: with the indexes of `Watcher`.   units: those that changed, None for all; the cost grows with their objects only.
    late: scopes of which nothing is told.
    Pools, namespaces, nodes, services, slices, then rejections; by key within.  Folding the result and asking again yields nothing.
    """
    return _Comparison(world, said, late).of(None if units is None else tuple(units))


class _Comparison:
    """One comparison under way.  `desired`: an object as it should stand, None where it should not."""

    def __init__(self, world: World, said: Said, late: frozenset[str]) -> None:
        self._world, self._said, self._late = world, said, late
        self._nodes: frozenset[str] = frozenset()  # those compared; others are as the world has them
        self._node_at: defaultdict[str, list[str]] = defaultdict(list)  # address -> names of nodes compared
        self._pools: dict[str, PoolObserved] = {}
        self._ranges = Ranges()  # of these pools
        self._among: defaultdict[str, Faults] = defaultdict(dict)  # source -> faults that show only among objects

    def of(self, units: tuple[str, ...] | None) -> list[AnyEvent]:
        """See `differences`."""
        keys, sources = self._everything() if units is None else self._touched(units)
        if pools := _only(PoolObserved, keys):
            self._part_pools(pools)
        self._settle_nodes(_only(NodeObserved, keys))
        events = [event for key in keys for event in self._object(key)]
        events += [event for source in sources for event in self._source(source)]
        return sorted(events, key=lambda event: (_ORDER[event.kind], key_of(event)))

    # ── what to compare ────────────────────────────────────────────────────────────────────────────────────────────

    def _everything(self) -> tuple[set[str], set[str]]:
        stated = {key_of(event) for kind in _OBSERVED for event in self._world.of(kind)}
        rejected = {event.source for event in self._world.of(ManifestRejected)}
        return {*self._said.objects(), *stated}, self._said.sources() | rejected

    def _touched(self, units: tuple[str, ...]) -> tuple[set[str], set[str]]:
        """Objects that the units name or named, what hangs on these, and every source that speaks of them."""
        readings = [reading for unit in units for reading in self._said.readings(unit)]
        stated = [event for unit in units for event in self._world.find("unit", unit, Event)]
        roots = [reading.root for reading in readings] + [getattr(event, "root", None) for event in stated]
        keys = {object_key(root.owner) for root in roots if root}
        if _only(PoolObserved, keys):  # pools must not overlap
            keys |= {*_only(PoolObserved, self._said.objects())} | {key_of(pool) for pool in self._world.of(PoolObserved)}
        keys |= self._said.slices_at(self._moved(_only(NodeObserved, keys)))
        keys |= {slice_ for service in _only(ServiceObserved, keys) for slice_ in self._slices_of(service)}
        sources = {reading.source for reading in readings} | {event.source for event in stated if isinstance(event, ManifestRejected)}
        return keys, sources | {claim.reading.source for key in keys for claim in self._said.claims(key)}

    def _moved(self, nodes: list[str]) -> set[str]:
        """Addresses that nodes got or lost."""
        moved: set[str] = set()
        for node in nodes:
            before, after = self._held(node), self._desired(node)
            moved |= set(_addresses_of(before) if before else ()) ^ set(_addresses_of(after) if after else ())
        return moved

    def _slices_of(self, service: str) -> Iterable[str]:
        """The slices of a Service that begins or ends to be exposed."""
        before, after = self._held(service), self._desired(service)
        was, is_ = (isinstance(each, ServiceObserved) and each.exposed for each in (before, after))
        observed = before or after
        return self._said.slices(observed.root.owner) if was != is_ and observed else ()

    # ── objects ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _object(self, key: str) -> Iterator[AnyEvent]:
        held, desired = self._held(key), self._desired(key)
        if desired is None and held:
            yield _gone(held)
            if isinstance(held, NodeObserved) and any(seen.node == held.root.path for seen in counted(self._world)):
                yield NodeRetired(lbnode=held.root.path, reason="its Node was deleted")
        elif desired and not (held and _same(desired, held)):
            yield desired

    def _desired(self, key: str) -> Observed | None:
        """What cannot be used leaves its object as it is, and so does what a source that is late says."""
        owner = self._owner(key)
        if isinstance(owner, Reading) and scope_of(owner.source) in self._late:
            return self._held(key)
        if not isinstance(owner, Reading):
            return self._held(key) if owner else None
        match owner.fact:
            case None:
                return self._held(key)
            case PoolObserved():
                return self._pools.get(key)
            case EndpointSliceObserved() as fact:
                return self._off_nodes(fact, owner.source) if self._concerns(fact) else None
            case RecordObserved() as fact:
                return fact if self._lost(fact) else None
            case fact:
                return fact

    def _concerns(self, fact: EndpointSliceObserved) -> bool:
        """Whether the slice concerns a load balancer: a cluster has many of Services that are not exposed.  A file says what is meant."""
        if not scope_of(fact.root.place):
            return True
        service = self._desired(object_key(fact.owner))
        return isinstance(service, ServiceObserved) and service.exposed

    def _lost(self, fact: RecordObserved) -> bool:
        """Whether the log has lost the addresses in the record: it did not know the Service either, and has not allocated them again.

        The record of a Service that the log knows was written from this log.  It may name an address that was released since.
        """
        if not scope_of(fact.root.place):
            return True
        if _holds(self._world, fact):
            return False
        before = self._held(key_of(fact))
        if isinstance(before, RecordObserved):
            return set(fact.vips) <= set(before.vips)
        return not self._held(object_key(fact.owner))

    def _owner(self, key: str) -> Reading | Root | None:
        """Who says how the object is: the unit that the log has it from, else the first by path.

        A Root says it where that unit cannot be read now.
        """
        claims, held = self._said.claims(key), self._held(key)
        unit = unit_of(held.root.place) if held else ""
        incumbent = next((claim for claim in claims if claim.unit == unit), None)
        if held and not incumbent and (self._said.stands(unit) or scope_of(unit) in self._late):
            return held.root
        return (incumbent or claims[0]).reading if claims else None

    def _held(self, key: str) -> Observed | None:
        held = self._world.get(key)
        return held if isinstance(held, _OBSERVED) else None

    def _off_nodes(self, fact: EndpointSliceObserved, source: str) -> EndpointSliceObserved:
        """The slice without endpoints on a node's own address: a tenant would reach the node's own ports through them."""
        nodes = {endpoint.address: self._node_of(endpoint.address) for endpoint in fact.endpoints}
        for address, node in nodes.items():
            if node:
                accepted = f"an endpoint's own address (this is node {node}'s)"
                self._among[source].setdefault(Problem(field="endpoints", got=address, accepted=accepted))
        kept = tuple(endpoint for endpoint in fact.endpoints if not nodes[endpoint.address])
        return fact if len(kept) == len(fact.endpoints) else replace(fact, endpoints=kept)

    def _node_of(self, address: str) -> str:
        """The first by name of the nodes that have `address`, "" where none has."""
        stated = (node for node in self._world.find("node address", address, NodeObserved) if key_of(node) not in self._nodes)
        return min([*self._node_at.get(address, ()), *(node.root.path for node in stated)], default="")

    def _settle_nodes(self, keys: list[str]) -> None:
        self._nodes = frozenset(keys)
        for node in map(self._desired, keys):
            if isinstance(node, NodeObserved):
                for address in node.addresses:
                    self._node_at[address].append(node.root.path)

    def _part_pools(self, keys: list[str]) -> None:
        """Settles all pools.  Those of the log stand; then, by name, each is taken as it is said that meets none that stands."""
        said: dict[str, tuple[str, PoolObserved]] = {}  # not taken yet, and by which source
        for pool in sorted(keys):
            owner, held = self._owner(pool), self._held(pool)
            if owner and isinstance(held, PoolObserved):
                self._stand(pool, held)
            if isinstance(owner, Reading) and isinstance(owner.fact, PoolObserved):
                said[pool] = owner.source, owner.fact
        while taken := [pool for pool, (_, fact) in said.items() if self._take(pool, fact)]:  # one may make room for another
            for pool in taken:
                del said[pool]
        for source, fact in said.values():
            self._among[source] |= dict.fromkeys(self._overlaps(fact))

    def _take(self, pool: str, fact: PoolObserved) -> bool:
        if any(self._overlaps(fact)):
            return False
        self._stand(pool, fact)
        return True

    def _stand(self, pool: str, fact: PoolObserved) -> None:
        before = self._pools.get(pool)
        self._pools[pool] = fact
        if before and before.addresses != fact.addresses:
            self._ranges.drop(fact.root.path)
        if not before or before.addresses != fact.addresses:
            for found in _ranges(fact):
                self._ranges.add(found)

    def _overlaps(self, pool: PoolObserved) -> Iterator[Problem]:
        """A fault for each range that shares an address with one of another pool that stands."""
        for mine in _ranges(pool):
            for theirs in self._ranges.meeting(mine):
                if theirs.owner != pool.root.path:
                    accepted = f"each address in one pool; pool {theirs.owner} has {theirs.text}"
                    yield Problem(field="spec.addresses", got=mine.text, accepted=accepted)

    # ── rejections ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _source(self, source: str) -> Iterator[AnyEvent]:
        held = self._world.get(key("watcher", "manifest", "", source))
        reading = self._said.reading(source)
        problems = (*reading.problems, *self._second(reading), *self._among.get(source, ())) if reading else ()
        if reading and problems:
            owner = self._meant_by(reading)
            rejected = ManifestRejected(source=source, problems=told(problems, reading.untold), root=reading.root, owner=owner)
            if rejected != held:
                yield rejected
        elif held:
            yield ManifestAccepted(source=source)

    def _meant_by(self, reading: Reading) -> str:
        """The Service that an EndpointSlice serves, whatever it says now; else the one that it names."""
        held = self._world.get(object_key(reading.root.owner)) if reading.root else None
        return held.owner if isinstance(held, EndpointSliceObserved) else reading.owner

    def _second(self, reading: Reading) -> Iterator[Problem]:
        """The fault of naming an object that another source has."""
        owner = self._owner(object_key(reading.root.owner)) if reading.root else None
        if reading.root and owner and owner is not reading:
            first = owner.source if isinstance(owner, Reading) else owner.place
            yield Problem(field="metadata.name", got=reading.root.path, accepted=f"each {reading.root.kind} once; {first} has it")


def _regained(world: World, change: Change) -> list[AnyEvent]:
    services = change.fact.event.holders if isinstance(change.fact.event, VipAllocated) else ()
    records = [world.get(record_key(service)) for service in services]
    return [RecordGone(root=each.root) for each in records if isinstance(each, RecordObserved) and _holds(world, each)]


def _holds(world: World, record: RecordObserved) -> bool:
    """Whether the Service of a cluster's record holds every address in it."""
    if not scope_of(record.root.place):
        return False
    return {vip.vip for vip in world.find("holder", record.owner, VipAllocated)}.issuperset(record.vips)


def _only(kind: type[Event], keys: Iterable[str]) -> list[str]:
    return sorted(key for key in keys if key.startswith(f"watcher.{kind.kind}."))


def _gone(held: Observed) -> AnyEvent:
    match held:
        case PoolObserved(root=root):
            return PoolGone(root=root)
        case NamespaceObserved(root=root):
            return NamespaceGone(root=root)
        case NodeObserved(root=root):
            return NodeGone(root=root)
        case RecordObserved(root=root):
            return RecordGone(root=root)
        case ServiceObserved(root=root):
            return ServiceGone(root=root)
        case EndpointSliceObserved(root=root):
            return EndpointSliceGone(root=root)


def _same(fact: Observed, held: Observed) -> bool:
    """Whether stating `fact` would say nothing new.

    Where in its unit an object is said does not matter.  Which unit says it does: while that cannot be read, the object stands.
    """
    observed = fact.root
    older = replace(held.root, place=observed.place, resource_version=observed.resource_version)
    return unit_of(observed.place) == unit_of(held.root.place) and replace(held, root=older) == fact


def _ranges(pool: PoolObserved) -> Iterator[Range]:
    return (found for text in pool.addresses if (found := range_of(text, pool.root.path)))
