"""Events of the history: which are about what, and one event in full."""

from collections import Counter
from collections.abc import Container, Sequence
from typing import NamedTuple, get_args

from weir.bus.client import Bus
from weir.bus.reader import Entry, Refused
from weir.bus.snapshots import SNAPSHOTS, newest, sequences
from weir.decider import World
from weir.events import AnyEvent, EndpointDown, EndpointUp, tag_of, untoken
from weir.model import endpoint_name
from weir.view.errors import NotFound, Unanswerable
from weir.view.history import entries
from weir.view.names import is_named, named, services_of
from weir.view.recording import Recording
from weir.view.services import endpoints_of_services
from weir.view.value import View, when


class EventView(View, frozen=True):
    """One event.  time: RFC 3339.   cause: sequence of the event that led to it, 0 for none.   author: the service that wrote it."""

    sequence: int
    time: str
    cause: int
    author: str
    event: AnyEvent


class SizeView(View, frozen=True):
    """How many events an author wrote of one type, and how many bytes they take."""

    author: str
    type: str
    events: int
    bytes: int


class HistoryView(View, frozen=True):
    """How large the history is.  latest_entities: in the newest snapshot; 0 where there is none."""

    sizes: tuple[SizeView, ...]
    events: int
    used_bytes: int
    most_bytes: int
    snapshots: int
    snapshots_bytes: int
    latest_snapshot: int
    latest_entities: int


class Filter(NamedTuple):
    """Which events are wanted.  kinds: tags of events or kinds of entities; service: "namespace/name", or a name alone.  Empty: all.

    endpoints: names of the Service's endpoints: what probes find about them is about the Service, too.
    """

    kinds: Sequence[str] = ()
    service: str = ""
    endpoints: Container[str] = ()

    def __call__(self, entry: Entry) -> bool:
        event = entry.fact.event
        of_kind = not self.kinds or event.kind in self.kinds or tag_of(type(event)) in self.kinds
        return of_kind and (not self.service or self._is_about(event))

    def _is_about(self, event: AnyEvent) -> bool:
        if isinstance(event, EndpointDown | EndpointUp):
            return endpoint_name(event.address, event.port, event.protocol) in self.endpoints
        return any(is_named(service, self.service) for service in services_of(event))

    def of(self, world: World) -> "Filter":
        """Resolve the Service's name in `world`.  Raises Unanswerable for an ambiguous name."""
        service = named(world, self.service)
        return self._replace(service=service or self.service, endpoints=endpoints_of_services(world).get(service, ()))

    def entity_kinds(self) -> list[str]:
        """Return the entity kinds that hold every wanted event.  Raises Unanswerable for an unknown kind."""
        known = {tag_of(event): event.kind for event in get_args(AnyEvent)}
        if unknown := [word for word in self.kinds if word not in known and word not in known.values()]:
            raise Unanswerable(f"unknown kind {unknown[0]!r}: expected one of {', '.join(sorted({*known, *known.values()}))}")
        return sorted({known.get(word, word) for word in self.kinds})


def in_full(entry: Entry) -> EventView:
    """Return all that is recorded about one event."""
    return EventView(
        sequence=entry.fact.seq,
        time=when(entry.time_ns).isoformat(timespec="microseconds"),
        cause=entry.cause,
        author=untoken(entry.key.split(".")[0].partition("-")[0]),
        event=entry.fact.event,
    )


async def event_at(log: Bus | Recording, sequence: int) -> Entry:
    """Return one event.  Raises NotFound where the history does not have it."""
    try:
        return await log.at(sequence)
    except Refused as error:
        held = (await log.stream())["state"]
        raise NotFound(f"no event {sequence}: the log holds {held['first_seq']} to {held['last_seq']}") from error


async def size_of(bus: Bus) -> HistoryView:
    """Return the size of the history and of its snapshots.  Reads the whole history."""
    info, snapshots = await bus.stream(), await bus.stream(SNAPSHOTS)
    taken, last = await sequences(bus), await newest(bus)
    counts, sizes = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    async for entry in entries(bus, 1):
        where = (entry.key.partition(".")[0], tag_of(type(entry.fact.event)))
        counts[where] += 1
        sizes[where] += entry.size_bytes
    return HistoryView(
        sizes=tuple(SizeView(author=where[0], type=where[1], events=n, bytes=sizes[where]) for where, n in sorted(counts.items())),
        events=info["state"]["messages"],
        used_bytes=info["state"]["bytes"],
        most_bytes=info["config"]["max_bytes"],
        snapshots=len(taken),
        snapshots_bytes=snapshots["state"]["bytes"],
        latest_snapshot=last.sequence if last else 0,
        latest_entities=last.entities if last else 0,
    )
