"""EndpointSlice: the endpoints of a Service.

Slices are written by tenants: one bad endpoint must not take the others away, and none may be a node's own address.  A cluster's
slice is in the log only while an object there refers to its Service; a file's slice always is.
"""

from collections import defaultdict
from typing import Any, Final, TypedDict

import msgspec
from msgspec.structs import replace

from services.watcher.kinds.fields import Field, is_metadata, show
from services.watcher.kinds.kind import Comparison, Judge, Kind, Metadata
from services.watcher.kinds.schema import fields, of_kind
from services.watcher.settings import Settings
from weir.events import EndpointSliceGone, EndpointSliceObserved, NodeObserved, key_of
from weir.model import (
    FAMILIES,
    PROTOCOLS,
    Endpoint,
    Family,
    Problem,
    Protocol,
    Root,
    SlicePort,
    better,
    family_of,
)

SERVICE_LABEL: Final = "kubernetes.io/service-name"
MOST_ENDPOINTS: Final = 1000  # of one slice, as the Kubernetes API has it


class _Endpoint(TypedDict, total=False):
    addresses: Any
    conditions: Any
    nodeName: Any


class _Slice(TypedDict, total=False):
    metadata: Metadata
    addressType: Any
    endpoints: list[_Endpoint] | None
    ports: Any


def _label(manifest: Field) -> Field:
    return manifest["metadata"]["labels"][SERVICE_LABEL]


def _read(manifest: Field, root: Root, _: Settings) -> EndpointSliceObserved | None:
    """Return the slice without the endpoints that cannot be used; None where nothing can."""
    label = _label(manifest)
    service = label.domain_name()
    if label.value is None:  # an empty one is refused by domain_name
        label.fail("the name of a Service")
    family = manifest["addressType"].word(FAMILIES, "IPv4")
    if manifest["addressType"].value in (None, ""):
        manifest["addressType"].fail(", ".join(FAMILIES))
    items = manifest["endpoints"].items()
    if len(items) > MOST_ENDPOINTS:
        manifest["endpoints"].fail(f"at most {MOST_ENDPOINTS}")
    ports = manifest["ports"].items()
    if manifest.faults:
        return None
    return EndpointSliceObserved(root=root, service=service, family=family, ports=_ports(ports), endpoints=_endpoints(items, family))


def _ports(items: list[Field]) -> tuple[SlicePort, ...]:
    ports: dict[tuple[str, Protocol], SlicePort] = {}
    for item in items:
        if item["protocol"].value == "SCTP":  # reported at its Service
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
    """Return the endpoints by address, of each the best entry: their order in the slice has no meaning."""
    endpoints: dict[str, Endpoint] = {}
    for item in items:
        if endpoint := _endpoint(item, family):
            endpoints[endpoint.address] = better(endpoints.get(endpoint.address, endpoint), endpoint)
    return tuple(endpoints[address] for address in sorted(endpoints))


def _endpoint(item: Field, family: Family) -> Endpoint | None:
    """Return the endpoint at its first address: consumers use no other (discovery.k8s.io/v1, Endpoint.addresses)."""
    faults = len(item.faults)
    address = _endpoint_address(item, family)
    conditions = item["conditions"]
    ready = conditions["ready"].flag(absent=True)
    serving = conditions["serving"].flag(absent=ready)
    terminating = conditions["terminating"].flag(absent=False)
    node = item["nodeName"].text().lower()  # as Kubernetes names Nodes
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


# ── beside other objects ───────────────────────────────────────────────────────────────────────────────────────────


class _Slices:
    """The slices of one comparison."""

    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison
        self._compared = frozenset(comparison.compared(NodeObserved))  # other nodes are as the log has them
        self._node_at: defaultdict[str, list[str]] = defaultdict(list)  # address -> names of nodes compared
        for node in map(comparison.desired, self._compared):
            if isinstance(node, NodeObserved):
                for address in node.addresses:
                    self._node_at[address].append(node.root.path)

    def judge(self, _: str, event: EndpointSliceObserved, source: str) -> EndpointSliceObserved | None:
        """Return the slice without endpoints on a node's own address: a tenant would reach the node's own ports through them."""
        if event.root.place.startswith("@") and not self._comparison.referred(event.owner):
            return None
        nodes = {endpoint.address: self._node_of(endpoint.address) for endpoint in event.endpoints}
        self._comparison.reject(source, (_problem(address, node) for address, node in nodes.items() if node))
        kept = tuple(endpoint for endpoint in event.endpoints if not nodes[endpoint.address])
        return event if len(kept) == len(event.endpoints) else replace(event, endpoints=kept)

    def _node_of(self, address: str) -> str:
        """Return the first by name of the nodes that have `address`; "" where none has."""
        others = self._comparison.world.find("node address", address, NodeObserved)
        stated = (node.root.path for node in others if key_of(node) not in self._compared)
        return min([*self._node_at.get(address, ()), *stated], default="")


def _problem(address: str, node: str) -> Problem:
    return Problem(field="endpoints", got=address, accepted=f"an endpoint's own address (this is node {node}'s)")


def _judge(comparison: Comparison) -> Judge:
    return _Slices(comparison).judge


ENDPOINTSLICE: Final = Kind(
    word="EndpointSlice",
    plural="endpointslices",
    group="discovery.k8s.io",
    versions=("v1",),
    decode=msgspec.json.Decoder(_Slice).decode,
    read=_read,
    observed=EndpointSliceObserved,
    gone=EndpointSliceGone,
    serves=_label,
    judge=_judge,
    fields=of_kind(
        "addressType",
        endpoints=fields(
            "addresses deprecatedTopology hostname nodeName zone",
            conditions=fields("ready serving terminating"),
            hints=fields("", forNodes=fields("name"), forZones=fields("name")),
            targetRef=fields("apiVersion fieldPath kind name namespace resourceVersion uid"),
        ),
        ports=fields("appProtocol name port protocol"),
    ),
)
