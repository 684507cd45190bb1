"""The nodes of a cluster: those whose node ports are a Service's backends, and whether those that forward are among them.

Names are as the log has them: "b:node-1" of a cluster b beside the first.
"""

from collections.abc import Iterable

from weir.decider import World
from weir.events import EndpointSliceObserved, NodeObserved, ServiceObserved, key
from weir.lbnodes import addresses_of, counted
from weir.model import Backend, Family, ServicePort, family_of, name_in, source_of

EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"


def node_name(observed: ServiceObserved, node: str) -> str:
    """The node that an endpoint of the Service names, as the log has it."""
    return name_in(observed.root.source, node)


def is_local(world: World, observed: ServiceObserved) -> bool:
    """Whether a node takes its own endpoints only: a machine that is no node of the cluster has none, and takes them all."""
    if not observed.local or observed.targets == "nodes":
        return False
    cluster = observed.root.source
    nodes = (seen.node for seen in counted(world) if source_of(seen.node) == cluster)
    return any(world.get(key("watcher", "node", "", node)) for node in nodes)


def unserved_local(world: World, backends: Iterable[Backend]) -> dict[str, list[str]]:
    """LB nodes with backends at addresses of their own that they cannot serve, and the addresses of these."""
    used = {backend.address for backend in backends}
    nodes = [seen.node for seen in counted(world) if not seen.local_backends]
    return {node: own for node in nodes if (own := [each for each in addresses_of(world, node).addresses if each in used])}


def node_backends(world: World, observed: ServiceObserved, port: ServicePort, family: Family) -> list[Backend]:
    """The node port on each node that serves; on those with an endpoint of the Service where it is local, for others answer nothing."""
    if not port.node_port:
        return []
    nodes = [node for node in world.of(NodeObserved) if _serves(observed, node)]
    if observed.local:
        having = _having_endpoints(world, observed, family)
        nodes = [node for node in nodes if node.root.path in having]
    addresses = (address for node in nodes for address in node.internal)
    return [Backend(address=address, port=port.node_port) for address in addresses if family_of(address) == family]


def _serves(observed: ServiceObserved, node: NodeObserved) -> bool:
    if not node.ready or EXCLUDED in node.labels or node.root.source != observed.root.source:
        return False
    return not observed.node_labels or any(_has(node.labels, wanted) for wanted in observed.node_labels)


def _has(labels: dict[str, str], wanted: str) -> bool:
    name, equal, value = wanted.partition("=")
    return name in labels and (not equal or labels[name] == value)


def _having_endpoints(world: World, observed: ServiceObserved, family: Family) -> set[str]:
    """Nodes with a ready endpoint; where none is ready, those with one that leaves and still serves (KEP-1669)."""
    slices = world.find("concerned", observed.root.owner, EndpointSliceObserved)
    endpoints = [endpoint for found in slices if found.family == family for endpoint in found.endpoints]
    ready = {endpoint.node for endpoint in endpoints if endpoint.ready}
    leaving = {endpoint.node for endpoint in endpoints if endpoint.serving and endpoint.terminating}
    return {node_name(observed, node) for node in ready or leaving}
