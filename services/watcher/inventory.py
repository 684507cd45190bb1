"""What a source says now: its units, their readings, and which objects these name.

A source speaks in units (a file of a folder, an object of the API), each with all its documents.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from services.watcher.kinds.reader import Document, Reading, read
from services.watcher.kinds.registry import refers
from services.watcher.settings import DEFAULT, Settings
from weir.events import AnyEvent, EndpointSliceObserved, ManifestRejected, ObjectObserved, key_of, object_key
from weir.model import Root


class Observation(NamedTuple):
    """What a source says now of some of its units; None: the unit is gone.  `complete`: units not named here are gone too.

    A unit named as a folder ("manifests" of "manifests/web.yaml") speaks for all units in it: while it has a fault they all stand.
    """

    units: Mapping[str, tuple[Document, ...] | None]
    complete: bool = False
    small: bool = False  # reading it takes no time worth a thread
    whole: bool = False  # all of the source is to be compared, also what did not change
    scope: str = ""  # which of several sources: "@NAME" for a cluster, whose units all begin with "@NAME/"


class Readings(NamedTuple):
    """What the documents of an observation come to."""

    units: Mapping[str, tuple[Reading, ...] | None]
    complete: bool = False
    whole: bool = False
    scope: str = ""


class Claim(NamedTuple):
    """A reading that names an object; claims sort by place, which is unique."""

    unit: str
    number: int
    reading: Reading


class Said:
    """One process's picture of its source, fed by `take`.  Of what a unit said before, it knows nothing: the world does."""

    def __init__(self, settings: Settings = DEFAULT, scopes: Iterable[str] = ("",)) -> None:
        self._awaited = set(scopes)  # sources that have not told all they have
        self._settings = settings
        self._units: dict[str, tuple[Reading, ...]] = {}
        self._readings: dict[str, Reading] = {}  # by source
        self._claims: defaultdict[str, dict[str, Claim]] = defaultdict(dict)  # object -> source
        self._slices = _Index()  # by Service (owner)
        self._referring = _Index()  # objects by the owner that they refer to

    def read(self, observation: Observation) -> Readings:
        """What the documents come to.  It may take seconds, and touches nothing here: another thread may do it."""
        units = {unit: documents if documents is None else self._read(documents) for unit, documents in observation.units.items()}
        return Readings(units, observation.complete, observation.whole, observation.scope)

    def take(self, seen: Readings) -> tuple[str, ...] | None:
        """Records `seen`; gives the units to compare, None for all."""
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
        """Whether a source has told all it has: then what it does not name is gone."""
        return not self._awaited or bool(self._units)

    def claims(self, key: str) -> list[Claim]:
        """Readings that name the object, the first by path first."""
        return sorted(self._claims[key].values()) if key in self._claims else []

    def slices(self, service: str) -> list[str]:
        """The keys of the EndpointSlices of a Service (an owner)."""
        return sorted(self._slices.keys(service))

    def referring(self, owner: str) -> set[str]:
        """The keys of the objects that refer to an owner."""
        return self._referring.keys(owner)

    def slices_at(self, addresses: set[str]) -> set[str]:
        """The keys of the EndpointSlices with an endpoint at one of `addresses`; looks at every endpoint, as nodes seldom move."""
        if not addresses:
            return set()
        facts = (reading.fact for reading in self._readings.values())
        return {key_of(fact) for fact in facts if isinstance(fact, EndpointSliceObserved) and _is_at(fact, addresses)}

    def objects(self) -> Iterable[str]:
        """The keys of all objects that are named."""
        return self._claims.keys()

    def sources(self) -> set[str]:
        """Every source that there is a reading of."""
        return set(self._readings)

    def readings(self, unit: str) -> tuple[Reading, ...]:
        """What the documents of `unit` come to, in their order."""
        return self._units.get(unit, ())

    def reading(self, source: str) -> Reading | None:
        """What one document comes to."""
        return self._readings.get(source)

    def stands(self, unit: str) -> bool:
        """Whether what `unit` said before still holds though it is not named.

        A fault hides what the unit or its folder says, or its source has not told all it has.
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
            self._readings[reading.source] = reading
            if reading.root:
                self._claims[object_key(reading.root.owner)][reading.source] = Claim(unit, i, reading)
            if reading.fact:
                self._index(reading.source, reading.fact)

    def _index(self, source: str, event: ObjectObserved) -> None:
        if isinstance(event, EndpointSliceObserved):
            self._slices.add(event.owner, source, key_of(event))
        for owner in refers(event):
            self._referring.add(owner, source, key_of(event))

    def _forget(self, unit: str) -> None:
        for reading in self._units.pop(unit, ()):
            del self._readings[reading.source]
            if reading.root:
                key = object_key(reading.root.owner)
                del self._claims[key][reading.source]
                if not self._claims[key]:
                    del self._claims[key]
            if isinstance(reading.fact, EndpointSliceObserved):
                self._slices.drop(reading.fact.owner, reading.source)
            for owner in refers(reading.fact):
                self._referring.drop(owner, reading.source)


class _Index:
    """Keys of objects by a word, for each source that has it."""

    def __init__(self) -> None:
        self._keys: defaultdict[str, dict[str, str]] = defaultdict(dict)  # word -> source -> key

    def keys(self, word: str) -> set[str]:
        return set(self._keys[word].values()) if word in self._keys else set()

    def add(self, word: str, source: str, key: str) -> None:
        self._keys[word][source] = key

    def drop(self, word: str, source: str) -> None:
        del self._keys[word][source]
        if not self._keys[word]:
            del self._keys[word]


def _is_at(fact: EndpointSliceObserved, addresses: set[str]) -> bool:
    return not addresses.isdisjoint([endpoint.address for endpoint in fact.endpoints])


def unit_of(source: str) -> str:
    """The unit that a source belongs to: "shop.yaml" of "shop.yaml#2"."""
    return source.rpartition("#")[0] or source


def scope_of(unit: str) -> str:
    """The source that a unit is of: "@east" of "@east/Service/shop/web", "" for files."""
    return unit.partition("/")[0] if unit.startswith("@") else ""


def folder_of(unit: str) -> str:
    """The folder that a unit is in, "" where it is in none."""
    return unit.rpartition("/")[0]


def units_of(event: AnyEvent) -> Iterable[str]:
    """An index: the unit that said what the event states, and its folder."""
    root = getattr(event, "root", None)
    unit = unit_of(event.source if isinstance(event, ManifestRejected) else root.place if isinstance(root, Root) else "")
    return {unit, folder_of(unit)} - {""}
