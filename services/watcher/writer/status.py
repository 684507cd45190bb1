"""How an object of a cluster should be, as far as it is Weir's: what the status hook of a kind returns, and what it decides from.

The writer knows no kind.  Events of the log mark objects; for each marked object the hook of its kind says what is wanted, from the
log and from the object as it is; the writer makes it so.  All of this is pure, except for the writer.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from services.watcher.kinds.seen import Seen
from weir.decider import World
from weir.events import AnyEvent, Event
from weir.model import Owner, Root, name_in

Json = dict[str, Any]

COUNT_S = 5.0  # how often numbers that move all the time are written at most
SETTLE_S = 0.02  # what follows from one change comes as several events


class Note(NamedTuple):
    """One Kubernetes Event."""

    warning: bool
    reason: str
    words: str


class Mark(NamedTuple):
    """An object whose status may have to be written.   source: as in `Root`, "" for the home cluster."""

    source: str
    namespace: str
    name: str
    delay_s: float = SETTLE_S


class View(NamedTuple):
    """What a status hook decides from.

    seen: kind -> the object of that kind with the same namespace and name, as the cluster last showed it.
    before: the status of the object itself as it is now.   existed: the object was there when it was last looked at.
    unit: the object as a source, "@east/VIPPool/office".   source, namespace, name: of the object.
    home: whether its cluster is the home cluster.
    now: RFC 3339, for conditions that change.   host: where not "", VIPs are written as the hostname HOST-VIP.
    """

    world: World
    seen: Callable[[str], Seen | None]
    before: Json
    existed: bool
    unit: str
    source: str
    namespace: str
    name: str
    home: bool
    now: str
    host: str

    def owner(self, kind: str) -> str:
        """The owner of this kind with the same namespace and name."""
        path = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{kind}/{name_in(self.source, path)}"


Stating = Callable[[World], list[AnyEvent]]


class Wanted(NamedTuple):
    """How an object should be.  What has its default stays as it is."""

    status: Json | None = None
    notes: Sequence[Note] = ()  # Kubernetes Events that go with a new status
    standing: Sequence[Note] = ()  # those about how it is, where its status cannot say it: each when it begins
    settling: bool = False  # only waits for nodes to confirm, which they mostly do before anybody reads it: the status may wait
    finalizer: bool | None = None  # whether Weir's finalizer should be on it
    created: Json | None = None  # where it is missing, it is created with this metadata and spec
    maintained: bool = False  # one that is there is given `created`, too, once by each process and whenever that changes
    deleted: bool = False
    states: Stating | None = None  # events to append instead


Marking = Callable[[World, Any, AnyEvent | None], Iterable[Mark]]


class Status(NamedTuple):
    """The status hook of a kind that Weir writes.

    marks: event class -> the objects that an event, or the one before it of the same entity, may change.
    wanted: how an object should be; None where nothing is known yet.
    missing: every object that should exist, though the cluster may not have it.   beside: a kind of whose objects each has one.
    contended: the Kubernetes Event for a status that another controller keeps overwriting.
    urgent: clients wait for these, so they are written first.
    """

    wanted: Callable[[View], Wanted | None]
    marks: Mapping[type[Event], Marking]
    missing: Callable[[World], Iterable[Mark]] | None = None
    beside: str = ""
    contended: Note | None = None
    urgent: bool = False


def of_owner(owner: str, kind: str, delay_s: float = SETTLE_S) -> Iterable[Mark]:
    """The object that an owner names, where it is of this kind."""
    found = Owner.parse(owner)
    return (Mark(found.source, found.namespace, found.name, delay_s),) if found.kind == kind else ()


def of_root(root: Root) -> Mark:
    """The object of a root."""
    return Mark(root.source, root.namespace, root.name)
