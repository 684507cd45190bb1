"""Reads a decoded document: one event, or the problems that it has.

Only fields that concern a load balancer are read; everything else in a document, secrets included, goes no further.  Kinds that Weir
does not read are skipped, as ordinary folders contain Deployments too; a kind or a field that does not exist is a problem in a folder.
"""

from typing import Final, NamedTuple

from msgspec.structs import replace

from services.watcher.kinds.fields import MOST_BYTES, MOST_TOLD, Faults, Field, outline
from services.watcher.kinds.ingressclass import GROUP as NETWORKING
from services.watcher.kinds.kind import Kind
from services.watcher.kinds.near import misspelt
from services.watcher.kinds.registry import READ
from services.watcher.kinds.routes import GROUP
from services.watcher.kinds.strict import LEGACY, group_of, note_unknown_fields, note_unknown_kind
from services.watcher.settings import Settings
from weir.events import ENCODE, ObjectObserved
from weir.model import Problem, Root, name_in, owner_of


class Document(NamedTuple):
    """One document of a source.  `problem`: why there is no content to read."""

    place: str  # "shop.yaml#2", "@east/Service/shop/web"
    content: object = None
    problem: Problem | None = None
    source: str = ""  # that its names are of, as in `Root`


class Reading(NamedTuple):
    """What one document is read to.  Without `root` its object is unknown; without `event` it cannot be used.

    untold: how many problems there are beyond the first MOST_TOLD.
    owner: the Service that an EndpointSlice is of, or the object that was meant where `root` is missing.
    aside: no object that Weir reads can be meant, so the problems hide nothing.
    """

    place: str
    root: Root | None = None
    event: ObjectObserved | None = None
    problems: tuple[Problem, ...] = ()
    untold: int = 0
    owner: str = ""
    aside: bool = False


def read(document: Document, settings: Settings) -> tuple[Reading, ...]:
    """Read the objects in `document`: one, or those of a List, or none of a kind that is not read.  Never raises."""
    if document.problem:
        return (Reading(document.place, problems=(document.problem,)),)
    manifest = Field(document.content, "", {})
    if manifest.value is not None and not isinstance(manifest.value, dict):
        accepted = "a mapping with apiVersion, kind and metadata"
        Field(None, "document", manifest.faults).fail(accepted, outline(document.content))
        return (_reading(document.place, None, None, manifest.faults),)
    if (str(manifest["apiVersion"].value), str(manifest["kind"].value)) in _LISTS:
        return _read_list(document, manifest, settings)
    return _read_object(document, manifest, settings)


def _read_list(document: Document, manifest: Field, settings: Settings) -> tuple[Reading, ...]:
    """Read the items; those of a ServiceList and the like need no kind of their own."""
    items = manifest["items"].value
    if not isinstance(items, list | None):
        manifest["items"].fail("a list", outline(items))
    word = str(manifest["kind"].value).removesuffix("List")
    kind = {"apiVersion": manifest["apiVersion"].value, "kind": word} if word else {}
    readings = [
        reading
        for i, item in enumerate(items if isinstance(items, list) else ())
        for reading in read(Document(f"{document.place}.items[{i}]", _item(item, kind), source=document.source), settings)
    ]
    if manifest.faults:
        readings.append(_reading(document.place, None, None, manifest.faults))
    return tuple(readings)


def _item(item: object, kind: dict[str, object]) -> object:
    return kind | item if isinstance(item, dict) else {} if item is None else item


def _read_object(document: Document, manifest: Field, settings: Settings) -> tuple[Reading, ...]:
    api, word = _word(manifest["apiVersion"]), _word(manifest["kind"])
    if manifest.faults:
        return (_reading(document.place, None, None, manifest.faults),)
    kind = READ.get(word)
    if not kind or not kind.read or group_of(api) != kind.group:
        return _read_unknown(document, manifest, api, word)
    if api not in kind.apis:
        manifest["apiVersion"].fail(" or ".join(kind.apis))
    if not document.place.startswith("@"):
        note_unknown_fields(manifest, kind.fields)
    root = _root(document, kind, manifest["metadata"])
    event = kind.read(manifest, root or Root(kind=word, name=""), settings) if api in kind.apis else None
    reading = _reading(document.place, root, _bounded(event, manifest.faults), manifest.faults)  # no root: there are faults, so no event
    owner = _service_of(document, manifest, kind)
    return (reading if root and owner == root.owner else reading._replace(owner=owner),)


def _read_unknown(document: Document, manifest: Field, api: str, word: str) -> tuple[Reading, ...]:
    """Report a kind that is not read only where it is one of ours misspelt, or the predecessor of EndpointSlice."""
    if (api, word) == ("v1", LEGACY):
        manifest["kind"].fail("EndpointSlice (discovery.k8s.io/v1): backends are read from these alone")
        return (_reading(document.place, None, None, manifest.faults)._replace(aside=True),)
    note_unknown_kind(manifest, api, word, READ)
    if not manifest.faults:
        return ()
    reading = _reading(document.place, None, None, manifest.faults)
    return (reading._replace(owner=_service_of(document, manifest, READ.get(misspelt(word, READ)))),)


def _word(field: Field) -> str:
    """Return text that is never quoted, as the document may be a Secret; "" where a problem was noted."""
    if isinstance(field.value, str) and field.value and field.value.isprintable():
        return field.value
    field.fail("text, as in every manifest", outline(field.value))
    return ""


def _service_of(document: Document, manifest: Field, kind: Kind | None) -> str:
    """Return the Service (owner) that the object is or serves, as far as it can be read."""
    if not kind or not kind.serves:
        return ""
    quiet = manifest.unnoted()
    name = kind.serves(quiet).domain_name()
    space = name_in(document.source, quiet["metadata"]["namespace"].label_name() or "default")
    return owner_of("Service", space, name) if name else ""


def _reading(place: str, root: Root | None, event: ObjectObserved | None, faults: Faults) -> Reading:
    return Reading(place, root, event, tuple(faults)[:MOST_TOLD], max(0, len(faults) - MOST_TOLD))


def _bounded(event: ObjectObserved | None, faults: Faults) -> ObjectObserved | None:
    """Return the event; None where it is too big for the log."""
    size_bytes = len(ENCODE(event)) if event else 0
    if size_bytes <= MOST_BYTES:
        return event
    accepted = f"at most {MOST_BYTES} bytes of labels, annotations, ports and addresses"
    faults.setdefault(Problem(field="document", got=f"{size_bytes} bytes", accepted=accepted))
    return None


def _root(document: Document, kind: Kind, metadata: Field) -> Root | None:
    name = metadata["name"].label_name() if kind.label_name else metadata["name"].domain_name()
    if metadata["name"].value is None:
        metadata["name"].fail("a name")
    namespace = (metadata["namespace"].label_name(empty=True) or "default") if kind.namespaced else ""
    known = not any(problem.field.startswith("metadata") for problem in metadata.faults)
    generation = metadata["generation"].number(0, 2**63 - 1)
    if not known:
        return None
    root = Root(kind=kind.word, name=name, namespace=namespace, source=document.source, generation=generation, place=document.place)
    if not document.place.startswith("@"):  # the version in an exported manifest is that of another server
        return root
    created = (
        metadata["creationTimestamp"].text() if kind.group in (GROUP, NETWORKING) else ""
    )  # of those whose age decides which one counts
    return replace(root, uid=metadata["uid"].text(), resource_version=metadata["resourceVersion"].text(), created=created)


_LISTS: Final = {("v1", "List"), *((api, f"{word}List") for word, kind in READ.items() for api in kind.apis)}
