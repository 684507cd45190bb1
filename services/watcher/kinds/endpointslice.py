"""From an EndpointSlice to its event.

What is good of it is kept: slices are written by tenants, and one bad endpoint must not take the others away.
"""

from typing import Final

from services.watcher.kinds.fields import Field, is_metadata, show
from weir.events import EndpointSliceObserved
from weir.model import (
    FAMILIES,
    PROTOCOLS,
    Endpoint,
    Family,
    Protocol,
    Root,
    SlicePort,
    better,
    family_of,
)

SERVICE_LABEL: Final = "kubernetes.io/service-name"
MOST_ENDPOINTS: Final = 1000  # of one slice, as the Kubernetes API has it


def read_slice(manifest: Field, root: Root) -> EndpointSliceObserved | None:
    """None where nothing of it can be used."""
    label = manifest["metadata"]["labels"][SERVICE_LABEL]
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
    """By address, of each the best entry: the order in which they are written has no meaning."""
    endpoints: dict[str, Endpoint] = {}
    for item in items:
        if endpoint := _endpoint(item, family):
            endpoints[endpoint.address] = better(endpoints.get(endpoint.address, endpoint), endpoint)
    return tuple(endpoints[address] for address in sorted(endpoints))


def _endpoint(item: Field, family: Family) -> Endpoint | None:
    """The endpoint at its first address: consumers take no other (discovery.k8s.io/v1, Endpoint.addresses)."""
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
