"""From one decoded document to one event, or to the problems it has.

Only fields that concern a load balancer are read: what a document says beyond them, secrets included, goes nowhere.
Kinds that Weir does not read are skipped, for ordinary folders hold Deployments and ConfigMaps too; a kind or a field that nobody
has is a fault in a folder.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from msgspec.structs import replace

from services.watcher.kinds.endpointslice import SERVICE_LABEL, read_slice
from services.watcher.kinds.fields import MOST_TOLD, Faults, Field, never, outline
from services.watcher.kinds.near import misspelt
from services.watcher.kinds.ranges import Ranges, range_of
from services.watcher.kinds.schema import FIELDS
from services.watcher.kinds.selector import read_selector
from services.watcher.kinds.service import read_service
from services.watcher.kinds.strict import LEGACY, group_of, note_unknown_fields, note_unknown_kind
from services.watcher.settings import Settings
from weir.events import (
    ENCODE,
    EndpointSliceObserved,
    NamespaceObserved,
    NodeObserved,
    PoolObserved,
    RecordObserved,
    ServiceObserved,
)
from weir.model import (
    SHARES,
    Problem,
    Root,
    name_in,
    owner_of,
    parse_address,
)

Observed = ServiceObserved | EndpointSliceObserved | PoolObserved | NamespaceObserved | NodeObserved | RecordObserved
MOST_FACT_BYTES: Final = 512 << 10  # the log takes 1 MiB, and what others state of an object holds parts of it


class Document(NamedTuple):
    """One document of a source.  `problem`: why there is no content to read."""

    source: str  # "shop.yaml#2"
    content: object = None
    problem: Problem | None = None
    cluster: str = ""  # the source that its names are of, as `Root.source`


class Reading(NamedTuple):
    """What one document comes to.  Without `root` nobody knows which object it is about; without `fact` it cannot be used.

    untold: how many problems there are beyond the first MOST_TOLD.
    owner: the Service that an EndpointSlice is of, or the object meant where `root` is missing.
    aside: no object of Weir's can be meant, so the problems hide nothing.
    """

    source: str
    root: Root | None = None
    fact: Observed | None = None
    problems: tuple[Problem, ...] = ()
    untold: int = 0
    owner: str = ""
    aside: bool = False


class _Kind(NamedTuple):
    entity: str  # as events name it
    api: str
    namespaced: bool
    read: Callable[[Field, Root, Settings], Observed | None]


def read(document: Document, settings: Settings) -> tuple[Reading, ...]:
    """The objects in `document`: one, or those of a List, or none of a kind that is not followed.  Never raises."""
    if document.problem:
        return (Reading(document.source, problems=(document.problem,)),)
    manifest = Field(document.content, "", {})
    if manifest.value is not None and not isinstance(manifest.value, dict):
        accepted = "a mapping with apiVersion, kind and metadata"
        Field(None, "document", manifest.faults).fail(accepted, outline(document.content))
        return (_reading(document.source, None, None, manifest.faults),)
    if (str(manifest["apiVersion"].value), str(manifest["kind"].value)) in _LISTS:
        return _read_list(document, manifest, settings)
    return _read_object(document, manifest, settings)


def _read_list(document: Document, manifest: Field, settings: Settings) -> tuple[Reading, ...]:
    """Items of a ServiceList and the like need not say what they are."""
    items = manifest["items"].value
    if not isinstance(items, list | None):
        manifest["items"].fail("a list", outline(items))
    word = str(manifest["kind"].value).removesuffix("List")
    kind = {"apiVersion": manifest["apiVersion"].value, "kind": word} if word else {}
    readings = [
        reading
        for i, item in enumerate(items if isinstance(items, list) else ())
        for reading in read(Document(f"{document.source}.items[{i}]", _item(item, kind), cluster=document.cluster), settings)
    ]
    if manifest.faults:
        readings.append(_reading(document.source, None, None, manifest.faults))
    return tuple(readings)


def _item(item: object, kind: dict[str, object]) -> object:
    return kind | item if isinstance(item, dict) else {} if item is None else item


def _read_object(document: Document, manifest: Field, settings: Settings) -> tuple[Reading, ...]:
    api, word = _word(manifest["apiVersion"]), _word(manifest["kind"])
    if manifest.faults:
        return (_reading(document.source, None, None, manifest.faults),)
    kind = _KINDS.get(word)
    if not kind or group_of(api) != group_of(kind.api):
        return _read_unknown(document, manifest, api, word)
    if api != kind.api:
        manifest["apiVersion"].fail(kind.api)
    if not document.source.startswith("@"):
        note_unknown_fields(manifest, FIELDS[word])
    root = _root(document, word, kind, manifest["metadata"])
    fact = kind.read(manifest, root or Root(kind=word, name=""), settings) if api == kind.api else None
    reading = _reading(document.source, root, _bounded(fact, manifest.faults), manifest.faults)  # no root: there are faults, so no fact
    return (reading if root and word == "Service" else reading._replace(owner=_service_of(document, manifest, word)),)


def _read_unknown(document: Document, manifest: Field, api: str, word: str) -> tuple[Reading, ...]:
    """A kind that is not read: nothing is reported of it unless it is one of ours misspelt, or the one that came before EndpointSlice."""
    if (api, word) == ("v1", LEGACY):
        manifest["kind"].fail("EndpointSlice (discovery.k8s.io/v1): backends are read from these alone")
        return (_reading(document.source, None, None, manifest.faults)._replace(aside=True),)
    note_unknown_kind(manifest, api, word, _APIS)
    if not manifest.faults:
        return ()
    reading = _reading(document.source, None, None, manifest.faults)
    return (reading._replace(owner=_service_of(document, manifest, misspelt(word, _KINDS))),)


def _word(field: Field) -> str:
    """Text that is never quoted: nobody knows yet whether the document is a Secret.  "" where a fault was noted."""
    if isinstance(field.value, str) and field.value and field.value.isprintable():
        return field.value
    field.fail("text, as in every manifest", outline(field.value))
    return ""


def _service_of(document: Document, manifest: Field, word: str) -> str:
    """The Service that the object is or serves, as far as it can be read."""
    metadata = manifest["metadata"].unnoted()
    name = {"Service": metadata["name"], "EndpointSlice": metadata["labels"][SERVICE_LABEL]}.get(word, Field(None, "", {})).domain_name()
    space = name_in(document.cluster, metadata["namespace"].label_name() or "default")
    return owner_of("Service", space, name) if name else ""


def _reading(source: str, root: Root | None, fact: Observed | None, faults: Faults) -> Reading:
    return Reading(source, root, fact, tuple(faults)[:MOST_TOLD], max(0, len(faults) - MOST_TOLD))


def _bounded(fact: Observed | None, faults: Faults) -> Observed | None:
    """The fact, None where it is too big for the log."""
    if isinstance(fact, ServiceObserved) and not fact.exposed:  # of one that is let go nothing else matters, and it must be let go
        fact = replace(fact, labels={}, annotations={}) if len(ENCODE(fact)) > MOST_FACT_BYTES else fact
    size_bytes = len(ENCODE(fact)) if fact else 0
    if size_bytes <= MOST_FACT_BYTES:
        return fact
    accepted = f"at most {MOST_FACT_BYTES} bytes of labels, annotations, ports and addresses"
    faults.setdefault(Problem(field="document", got=f"{size_bytes} bytes", accepted=accepted))
    return None


def _root(document: Document, word: str, kind: _Kind, metadata: Field) -> Root | None:
    name = metadata["name"].label_name() if word == "Namespace" else metadata["name"].domain_name()
    if metadata["name"].value is None:
        metadata["name"].fail("a name")
    namespace = (metadata["namespace"].label_name(empty=True) or "default") if kind.namespaced else ""
    known = not any(problem.field.startswith("metadata") for problem in metadata.faults)
    generation = metadata["generation"].number(0, 2**63 - 1)
    if not known:
        return None
    root = Root(kind=word, name=name, namespace=namespace, source=document.cluster, generation=generation, place=document.source)
    if not document.source.startswith("@"):  # what an exported manifest says of its version is of another server
        return root
    return replace(root, uid=metadata["uid"].text(), resource_version=metadata["resourceVersion"].text())


# ── kinds; the Service has a module of its own ─────────────────────────────────────────────────────────────────────


def _service(manifest: Field, root: Root, settings: Settings) -> ServiceObserved | None:
    fact = read_service(manifest, root, settings)
    return None if manifest.faults else fact


def _namespace(manifest: Field, root: Root, _: Settings) -> NamespaceObserved | None:
    labels = manifest["metadata"]["labels"].texts()
    return None if manifest.faults else NamespaceObserved(root=root, labels=labels)


def _node(manifest: Field, root: Root, _: Settings) -> NodeObserved | None:
    labels = manifest["metadata"]["labels"].texts()
    status = manifest["status"]
    found: dict[str, set[str]] = {"InternalIP": set(), "ExternalIP": set()}
    for item in status["addresses"].items():
        if (of_type := found.get(item["type"].text())) is not None:
            address = parse_address(item["address"].text())
            if address:
                of_type.add(str(address))
            elif item["address"].value not in (None, ""):
                item["address"].fail("an address")
    ready = {item["status"].text() for item in status["conditions"].items() if item["type"].text() == "Ready"}
    if manifest.faults:
        return None
    internal, addresses = tuple(sorted(found["InternalIP"])), tuple(sorted(set().union(*found.values())))
    known = {"ready": "False" not in ready, "silent": "Unknown" in ready}
    return NodeObserved(root=root, addresses=addresses, internal=internal, **known, labels=labels)


def _pool(manifest: Field, root: Root, _: Settings) -> PoolObserved | None:
    spec = manifest["spec"]
    ranges = Ranges()
    addresses = [_range(item, ranges) for item in spec["addresses"].items()]
    if spec["addresses"].value in (None, []):
        spec["addresses"].fail("at least one CIDR or first-last")
    fact = PoolObserved(
        root=root,
        addresses=tuple(addresses),
        auto_assign=spec["autoAssign"].flag(absent=True),
        priority=spec["priority"].number(-(2**31), 2**31 - 1),
        avoid_buggy_ips=spec["avoidBuggyIPs"].flag(absent=False),
        share=spec["share"].word(SHARES, "key"),
        share_with_nodes=spec["shareWithNodes"].flag(absent=False),
        service_selector=read_selector(spec["serviceSelector"]),
        namespace_selector=read_selector(spec["namespaceSelector"]),
    )
    return None if manifest.faults else fact


def _record(manifest: Field, root: Root, _: Settings) -> RecordObserved | None:
    vips = dict.fromkeys(str(address) for item in manifest["status"]["vips"].items() if (address := item.address()))
    return None if manifest.faults else RecordObserved(root=root, vips=tuple(vips))


def _range(item: Field, ranges: Ranges) -> str:
    """The canonical form of what is in `ranges` then; "" where a fault was noted."""
    found = range_of(item.value) if isinstance(item.value, str) else None
    if not found:
        item.fail("a CIDR (203.0.113.0/28) or first-last (203.0.113.10-203.0.113.29) of one family, first before last")
        return ""
    if what := never(found.first, found.last):
        item.fail(f"unicast addresses only (this holds {what})")
        return ""
    if other := next(ranges.meeting(found), None):
        item.fail(f"each address once; {other.text} is in this pool already")
        return ""
    ranges.add(found)
    return found.text


_KINDS: Final = {
    "Service": _Kind("service", "v1", True, _service),
    "EndpointSlice": _Kind("endpointslice", "discovery.k8s.io/v1", True, lambda manifest, root, _: read_slice(manifest, root)),
    "VIPPool": _Kind("pool", "weir.dev/v1alpha1", False, _pool),
    "LBService": _Kind("record", "weir.dev/v1alpha1", True, _record),
    "Namespace": _Kind("namespace", "v1", False, _namespace),
    "Node": _Kind("node", "v1", False, _node),
}
_APIS: Final = {word: kind.api for word, kind in _KINDS.items()}
_LISTS: Final = {("v1", "List"), *((api, f"{word}List") for word, api in _APIS.items())}
