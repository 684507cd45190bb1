"""A kind of Kubernetes object, as the watcher follows it: one value, made in the kind's own file and listed in registry.py.

Whatever enumerates kinds loops over the registry: lists and watches, manifests, the comparison with the log, metrics, RBAC rules.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypedDict

import msgspec

from services.watcher.kinds.fields import Field
from services.watcher.kinds.schema import Fields
from services.watcher.settings import Settings
from services.watcher.writer.status import Status
from weir.decider import Change, World
from weir.events import AnyEvent, ObjectGone, ObjectObserved
from weir.model import Problem, Root

LIST_AND_WATCH: Final = ("list", "watch")


class Metadata(TypedDict, total=False):
    """What is decoded of an object's metadata."""

    name: Any
    namespace: Any
    uid: Any
    resourceVersion: Any
    generation: Any
    labels: Any
    annotations: Any
    creationTimestamp: Any
    deletionTimestamp: Any


class Comparison(Protocol):
    """One comparison of the sources with the log, as the hooks of a kind use it.  Objects go by their keys in the log."""

    @property
    def world(self) -> World:
        """The log, with the indexes of the watcher."""

    def compared(self, observed: type[ObjectObserved]) -> Sequence[str]:
        """The objects of one kind that are being compared, sorted."""

    def named(self, observed: type[ObjectObserved]) -> Sequence[str]:
        """The objects of one kind that the sources or the log name, sorted."""

    def held(self, key: str) -> ObjectObserved | None:
        """The object as the log has it."""

    def desired(self, key: str) -> ObjectObserved | None:
        """The object as it should be in the log; None where it should not."""

    def stated(self, key: str) -> tuple[str, ObjectObserved | None] | None:
        """The source that states the object, with the event where it can be used; None where no source does."""

    def referred(self, owner: str) -> bool:
        """Whether an object refers to the owner.  EndpointSlices are kept in the log for Services that some object refers to."""

    def slices_at(self, addresses: set[str]) -> set[str]:
        """The EndpointSlices with an endpoint at one of these addresses."""

    def reject(self, source: str, problems: Iterable[Problem]) -> None:
        """Report problems of a source that show only beside other objects."""


Judge = Callable[[str, Any, str], ObjectObserved | None]  # key, event, source -> the event that the log should have


@dataclass(frozen=True, eq=False, kw_only=True)
class Kind:
    """A kind and its hooks.  A hook that takes an event is called with those of `observed` only."""

    word: str
    plural: str
    versions: tuple[str, ...]  # that can be read; a cluster is followed in the first that it serves
    group: str = ""  # "" for the core group
    namespaced: bool = True
    optional: bool = False  # of a CRD, which a cluster may lack
    tls: bool = False  # read for TLS alone: an installation without it needs no right on it
    label_name: bool = False  # its names are labels (RFC 1123): no dots
    fields: Fields  # all that the kind has: another is a fault in a folder

    decode: Callable[[bytes | msgspec.Raw], Any] | None = None  # the allow-list of fields; None: the kind is written, and not read
    read: Callable[[Field, Root, Settings], ObjectObserved | None] | None = None  # None from it: nothing can be used
    observed: type[ObjectObserved] | None = None
    gone: type[ObjectGone] | None = None

    serves: Callable[[Field], Field] | None = None  # manifest -> the field with the name of the Service that it is or serves
    refers: Callable[[Any], Iterable[str]] | None = None  # event -> what it needs in the log, by owner; of a Service its EndpointSlices
    touches: Callable[[Comparison, Sequence[str]], Iterable[str]] | None = None  # objects compared -> others to compare with them
    judge: Callable[[Comparison], Judge] | None = None  # made once per comparison: how an object stands beside the others
    ends: Callable[[World, Any], Iterable[AnyEvent]] | None = None  # what follows beside `gone`
    follows: Callable[[World, Change], Iterable[AnyEvent]] | None = None  # what follows from an event of the log

    status: Status | None = None  # how Weir writes it; None: not at all
    verbs: tuple[str, ...] = ()  # on the object itself, beside list and watch

    @property
    def kept(self) -> bool:
        """Whether its objects are kept as the API last showed them: what is written is compared with them."""
        return self.status is not None

    @property
    def entity(self) -> str:
        """The kind of entity of its events; "" where it has none."""
        return self.observed.kind if self.observed else ""

    def gone_event(self, held: ObjectObserved) -> AnyEvent:
        """Return the event that the object is gone.  Only for kinds with events."""
        assert self.gone
        return self.gone(root=held.root)

    @property
    def apis(self) -> tuple[str, ...]:
        """Every apiVersion that can be read."""
        return tuple(f"{self.group}/{version}" if self.group else version for version in self.versions)

    @property
    def api(self) -> str:
        """The preferred apiVersion."""
        return self.apis[0]

    def path(self, namespace: str = "", name: str = "", part: str = "", *, api: str = "") -> str:
        """`/api/v1/namespaces/shop/services/web/status`.   api: another than the preferred one."""
        root = f"/apis/{api or self.api}" if self.group else f"/api/{api or self.api}"
        inside = f"/namespaces/{namespace}" if namespace else ""
        return root + inside + "/" + "/".join(word for word in (self.plural, name, part) if word)


def judged_by_reference(comparison: Comparison) -> Judge:
    """Keep in the log only what something refers to."""
    return lambda _, event, __: event if comparison.referred(event.root.owner) else None
