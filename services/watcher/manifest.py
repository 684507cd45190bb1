"""From one decoded document to one fact, or to the problems it has.

Only fields that concern a load balancer are read: what a document says beyond them, secrets included, goes nowhere.
Kinds that Weir does not follow are skipped, for ordinary folders hold Deployments and ConfigMaps too.
"""

from collections.abc import Callable
from typing import Final, NamedTuple, get_args

from msgspec.structs import replace

from services.watcher.fields import MOST_TOLD, Faults, Field, is_metadata, never, outline, show
from services.watcher.near import misspelt
from services.watcher.ranges import Ranges, range_of
from services.watcher.selector import read_selector
from services.watcher.serving import read_service
from services.watcher.settings import Settings
from weir.events import (
    ENCODE,
    EndpointSliceObserved,
    NamespaceObserved,
    NodeObserved,
    PoolObserved,
    RecordObserved,
    ServiceObserved,
    key,
)
from weir.model import Endpoint, Family, Problem, Protocol, Root, Share, SlicePort, family_of, parse_address

Observed = ServiceObserved | EndpointSliceObserved | PoolObserved | NamespaceObserved | NodeObserved | RecordObserved
FAMILIES: Final[tuple[Family, ...]] = get_args(Family)
PROTOCOLS: Final[tuple[Protocol, ...]] = get_args(Protocol)
SHARES: Final[tuple[Share, ...]] = get_args(Share)
MOST_ENDPOINTS = 1000  # of one slice, as the Kubernetes API has it
MOST_FACT_BYTES: Final = 512 << 10  # the log takes 1 MiB, and what others state of an object holds parts of it
SERVICE_LABEL = "kubernetes.io/service-name"


class Document(NamedTuple):
    """One document of a source.  `problem`: why there is no content to read."""

    source: str  # "shop.yaml#2"
    content: object = None
    problem: Problem | None = None
    prefix: str = ""  # goes before its namespace, or its name where it has none: objects of several clusters stand beside each other


class Reading(NamedTuple):
    """What one document comes to.  Without `root` nobody knows which object it is about; without `fact` it cannot be used.

    `untold`: how many problems there are beyond the first MOST_TOLD.   `service`: "namespace/name", that an EndpointSlice is of.
    """

    source: str
    root: Root | None = None
    fact: Observed | None = None
    problems: tuple[Problem, ...] = ()
    untold: int = 0
    service: str = ""


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
    if manifest["kind"].value == "List" and manifest["apiVersion"].value == "v1":
        return _read_list(document, manifest, settings)
    return _read_object(document, manifest, settings)


def object_key(root: Root) -> str:
    """The key under which the object's facts are kept."""
    return key("watcher", _KINDS[root.kind].entity, root.namespace, root.name)


def _read_list(document: Document, manifest: Field, settings: Settings) -> tuple[Reading, ...]:
    items = manifest["items"].value
    if not isinstance(items, list | None):
        manifest["items"].fail("a list", outline(items))
    readings = [
        reading
        for i, item in enumerate(items if isinstance(items, list) else ())
        for reading in read(Document(f"{document.source}.items[{i}]", {} if item is None else item), settings)
    ]
    if manifest.faults:
        readings.append(_reading(document.source, None, None, manifest.faults))
    return tuple(readings)


def _read_object(document: Document, manifest: Field, settings: Settings) -> tuple[Reading, ...]:
    api, word = _word(manifest["apiVersion"]), _word(manifest["kind"])
    kind = None if manifest.faults else _kind(manifest, api, word)
    if not kind and not manifest.faults:
        return ()
    root = _root(document, word, kind, manifest["metadata"]) if kind else None
    fact = kind.read(manifest, root or Root(kind=word, name=""), settings) if kind and api == kind.api else None
    reading = _reading(document.source, root, _bounded(fact, manifest.faults), manifest.faults)  # no root: there are faults, so no fact
    return (reading._replace(service=_service_of(manifest, root)),)


def _word(field: Field) -> str:
    """Text that is never quoted: nobody knows yet whether the document is a Secret.  "" where a fault was noted."""
    if isinstance(field.value, str) and field.value and field.value.isprintable():
        return field.value
    field.fail("text, as in every manifest", outline(field.value))
    return ""


def _service_of(manifest: Field, root: Root | None) -> str:
    if not root or root.kind != "EndpointSlice":
        return ""
    name = manifest["metadata"]["labels"][SERVICE_LABEL].domain_name()
    return f"{root.namespace}/{name}" if name else ""


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


def _kind(manifest: Field, api: str, word: str) -> _Kind | None:
    """The kind, None when it is not followed; an unknown version or kind of a group that is followed is a fault."""
    kind = _KINDS.get(word)
    group = api.rpartition("/")[0]
    if kind and group == kind.api.rpartition("/")[0]:
        if api != kind.api:
            manifest["apiVersion"].fail(kind.api)
        return kind
    if group == "weir.dev":
        manifest["kind"].fail("VIPPool", show(word) if misspelt(word, ["VIPPool"]) else "another kind")
    return None


def _root(document: Document, word: str, kind: _Kind, metadata: Field) -> Root | None:
    name = metadata["name"].label_name() if word == "Namespace" else metadata["name"].domain_name()
    if metadata["name"].value is None:
        metadata["name"].fail("a name")
    namespace = (metadata["namespace"].label_name() or "default") if kind.namespaced else ""
    known = not any(problem.field.startswith("metadata") for problem in metadata.faults)
    generation = metadata["generation"].number(0, 2**63 - 1)
    if document.prefix:
        name, namespace = (name, document.prefix + namespace) if kind.namespaced else (document.prefix + name, "")
    return Root(kind=word, name=name, namespace=namespace, generation=generation, resource_version=document.source) if known else None


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
            else:
                item["address"].fail("an address")
    ready = {item["status"].text() for item in status["conditions"].items() if item["type"].text() == "Ready"}
    if manifest.faults:
        return None
    internal, addresses = tuple(sorted(found["InternalIP"])), tuple(sorted(set().union(*found.values())))
    known = {"ready": "False" not in ready, "silent": "Unknown" in ready}
    return NodeObserved(root=root, addresses=addresses, internal=internal, **known, labels=labels)


def _slice(manifest: Field, root: Root, _: Settings) -> EndpointSliceObserved | None:
    """Keeps what is good: slices are written by tenants, and one bad endpoint must not take the others away."""
    label = manifest["metadata"]["labels"][SERVICE_LABEL]
    service = label.domain_name()
    if label.value is None:
        label.fail("the name of a Service")
    family = manifest["addressType"].word(FAMILIES, "IPv4")
    if manifest["addressType"].value is None:
        manifest["addressType"].fail(", ".join(FAMILIES))
    items = manifest["endpoints"].items()
    if len(items) > MOST_ENDPOINTS:
        manifest["endpoints"].fail(f"at most {MOST_ENDPOINTS}")
    ports = manifest["ports"].items()
    if manifest.faults:
        return None
    return EndpointSliceObserved(root=root, service=service, family=family, ports=_slice_ports(ports), endpoints=_endpoints(items, family))


def _slice_ports(items: list[Field]) -> tuple[SlicePort, ...]:
    ports: dict[tuple[str, Protocol], SlicePort] = {}
    for item in items:
        if item["protocol"].value == "SCTP":  # its Service is told
            continue
        faults = len(item.faults)
        port = item["port"].number(1, 65535)
        protocol = item["protocol"].word(PROTOCOLS, "TCP")
        name = item["name"].text()
        if len(item.faults) == faults and (name, protocol) in ports:
            item.fail("each name and protocol once", f"{show(name) if name else 'no name'}/{protocol} again")
        if len(item.faults) == faults:
            ports[name, protocol] = SlicePort(port=port, protocol=protocol, name=name)
    return tuple(ports.values())


def _endpoints(items: list[Field], family: Family) -> tuple[Endpoint, ...]:
    """By address: the order in which they are written says nothing."""
    endpoints: dict[str, Endpoint] = {}
    for item in items:
        endpoint = _endpoint(item, family)
        if endpoint and endpoint.address in endpoints:
            item["addresses"].fail("each address once", f"{endpoint.address} again")
        elif endpoint:
            endpoints[endpoint.address] = endpoint
    return tuple(endpoints[address] for address in sorted(endpoints))


def _endpoint(item: Field, family: Family) -> Endpoint | None:
    """The endpoint at its first address: consumers take no other (discovery.k8s.io/v1, Endpoint.addresses)."""
    faults = len(item.faults)
    address = _endpoint_address(item, family)
    conditions = item["conditions"]
    ready = conditions["ready"].flag(absent=True)
    serving = conditions["serving"].flag(absent=ready)
    terminating = conditions["terminating"].flag(absent=False)
    node = item["nodeName"].text()
    if not address or len(item.faults) > faults:
        return None
    return Endpoint(address=address, ready=ready, serving=serving, terminating=terminating, node=node)


def _endpoint_address(item: Field, family: Family) -> str:
    listed = item["addresses"]
    addresses = listed.items()
    if listed.value in (None, []):
        listed.fail("at least one address")
    address = str(addresses[0].address() or "") if addresses else ""
    if address and family_of(address) != family:
        addresses[0].fail(f"an {family} address, as addressType says")
    elif is_metadata(address):
        addresses[0].fail("an endpoint's own address (this is a cloud's metadata service)")
    else:
        return address
    return ""


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
    "EndpointSlice": _Kind("endpointslice", "discovery.k8s.io/v1", True, _slice),
    "VIPPool": _Kind("pool", "weir.dev/v1alpha1", False, _pool),
    "LBService": _Kind("record", "weir.dev/v1alpha1", True, _record),
    "Namespace": _Kind("namespace", "v1", False, _namespace),
    "Node": _Kind("node", "v1", False, _node),
}
