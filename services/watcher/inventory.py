"""The inventory: what the sources contain now, by unit, and which objects that is.

A source is a cluster or all folders together.  It is read in units: a file, an object of the API.  A unit has documents; each document
is read to one reading, a List to several.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Generic, NamedTuple, TypeVar

from services.watcher.kinds.reader import Document, Reading, read
from services.watcher.kinds.registry import refers
from services.watcher.settings import DEFAULT, Settings
from weir.events import AnyEvent, EndpointSliceObserved, ManifestRejected, ObjectObserved, key_of, object_key
from weir.model import Root

C = TypeVar("C", Document, Reading)


class Observation(NamedTuple, Generic[C]):
    """What some units of a source contain now, as documents or as readings of these; None: the unit is gone.

    complete: units that are not named here are gone too.   whole: all of the source is compared, also what did not change.
    A unit named as a folder ("manifests" of "manifests/web.yaml") stands for all units in it: while it has a problem all are kept.
    """

    units: Mapping[str, tuple[C, ...] | None]
    complete: bool = False
    small: bool = False  # reading it takes no time worth a thread
    whole: bool = False
    scope: str = ""  # of the source: "@NAME" for a cluster, whose units all begin with "@NAME/"


class Inventory:
    """What the sources contain now, as this process read it.  What a unit contained before is only in the log."""

    def __init__(self, settings: Settings = DEFAULT, scopes: Iterable[str] = ("",)) -> None:
        """scopes: of all sources."""
        self._awaited = set(scopes)  # sources that have not been read completely
        self._settings = settings
        self._units: dict[str, tuple[Reading, ...]] = {}
        self._readings: dict[str, Reading] = {}  # by place
        self._naming: defaultdict[str, dict[str, tuple[str, int]]] = defaultdict(dict)  # object -> place -> unit, number in it
        self._slices = _Index()  # by Service (owner)
        self._referring = _Index()  # objects by the owner that they refer to

    def read(self, seen: Observation[Document]) -> Observation[Reading]:
        """Read the documents.  It may take seconds and changes nothing here: another thread may do it."""
        units = {unit: documents if documents is None else self._read(documents) for unit, documents in seen.units.items()}
        return Observation(units, seen.complete, seen.small, seen.whole, seen.scope)

    def take(self, seen: Observation[Reading]) -> tuple[str, ...] | None:
        """Record the readings; return the units to compare, None for all."""
        if seen.complete:
            self._awaited.discard(seen.scope)
            for unit in [unit for unit in self._units.keys() - seen.units.keys() if scope_of(unit) == seen.scope]:
                self._forget(unit)
        for unit, readings in seen.units.items():
            self._forget(unit)
            if readings is not None:
                self._record(unit, readings)
        return None if seen.complete or seen.whole else tuple(seen.units)

    @property
    def complete(self) -> bool:
        """Whether some source was read completely: then what it does not contain is gone."""
        return not self._awaited or bool(self._units)

    def naming(self, key: str) -> list[Reading]:
        """The readings that name an object, by unit and by place in it."""
        places = self._naming.get(key, {})
        return [self._readings[place] for place in sorted(places, key=places.__getitem__)]

    def slices(self, service: str) -> list[str]:
        """The keys of the EndpointSlices of a Service (an owner)."""
        return sorted(self._slices.keys(service))

    def referring(self, owner: str) -> set[str]:
        """The keys of the objects that refer to an owner."""
        return self._referring.keys(owner)

    def slices_at(self, addresses: set[str]) -> set[str]:
        """The keys of the EndpointSlices with an endpoint at one of `addresses`.  Looks at every endpoint, as nodes seldom move."""
        if not addresses:
            return set()
        events = (reading.event for reading in self._readings.values())
        return {key_of(event) for event in events if isinstance(event, EndpointSliceObserved) and _is_at(event, addresses)}

    def objects(self) -> Iterable[str]:
        """The keys of all objects that are named."""
        return self._naming.keys()

    def places(self) -> set[str]:
        """The places of all readings."""
        return set(self._readings)

    def readings(self, unit: str) -> tuple[Reading, ...]:
        """The readings of a unit, in their order."""
        return self._units.get(unit, ())

    def reading(self, place: str) -> Reading | None:
        """The reading at a place."""
        return self._readings.get(place)

    def keeps(self, unit: str) -> bool:
        """Whether what the unit contained before stays valid though it is not there now.

        A problem hides what the unit or its folder contains, or its source has not been read completely.
        """
        if scope_of(unit) in self._awaited:
            return True
        readings = (*self.readings(unit), *self.readings(folder_of(unit)))
        return any(reading.problems and not reading.root and not reading.aside for reading in readings)

    def _read(self, documents: tuple[Document, ...]) -> tuple[Reading, ...]:
        return tuple(reading for document in documents for reading in read(document, self._settings))

    def _record(self, unit: str, readings: tuple[Reading, ...]) -> None:
        self._units[unit] = readings
        for i, reading in enumerate(readings):
            self._readings[reading.place] = reading
            if reading.root:
                self._naming[object_key(reading.root.owner)][reading.place] = unit, i
            if reading.event:
                self._index(reading.place, reading.event)

    def _index(self, place: str, event: ObjectObserved) -> None:
        if isinstance(event, EndpointSliceObserved):
            self._slices.add(event.owner, place, key_of(event))
        for owner in refers(event):
            self._referring.add(owner, place, key_of(event))

    def _forget(self, unit: str) -> None:
        for reading in self._units.pop(unit, ()):
            del self._readings[reading.place]
            if reading.root:
                key = object_key(reading.root.owner)
                del self._naming[key][reading.place]
                if not self._naming[key]:
                    del self._naming[key]
            if isinstance(reading.event, EndpointSliceObserved):
                self._slices.drop(reading.event.owner, reading.place)
            for owner in refers(reading.event):
                self._referring.drop(owner, reading.place)


class _Index:
    """Keys of objects by a word, for each place that has it."""

    def __init__(self) -> None:
        self._keys: defaultdict[str, dict[str, str]] = defaultdict(dict)  # word -> place -> key

    def keys(self, word: str) -> set[str]:
        return set(self._keys[word].values()) if word in self._keys else set()

    def add(self, word: str, place: str, key: str) -> None:
        self._keys[word][place] = key

    def drop(self, word: str, place: str) -> None:
        del self._keys[word][place]
        if not self._keys[word]:
            del self._keys[word]


def _is_at(event: EndpointSliceObserved, addresses: set[str]) -> bool:
    return not addresses.isdisjoint([endpoint.address for endpoint in event.endpoints])


def unit_of(place: str) -> str:
    """The unit of a place: "shop.yaml" of "shop.yaml#2"."""
    return place.rpartition("#")[0] or place


def scope_of(unit: str) -> str:
    """The scope of a unit: "@east" of "@east/Service/shop/web", "" for files."""
    return unit.partition("/")[0] if unit.startswith("@") else ""


def folder_of(unit: str) -> str:
    """The folder that a unit is in, "" where it is in none."""
    return unit.rpartition("/")[0]


def units_of(event: AnyEvent) -> Iterable[str]:
    """An index: the unit that an event is from, and its folder."""
    root = getattr(event, "root", None)
    unit = unit_of(event.source if isinstance(event, ManifestRejected) else root.place if isinstance(root, Root) else "")
    return {unit, folder_of(unit)} - {""}
