"""Node: its addresses, labels and whether it is ready.

Endpoints on a node's own address are refused, so EndpointSlices are compared again when addresses of nodes move.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypedDict

import msgspec

from services.watcher.kinds.fields import Field
from services.watcher.kinds.kind import Comparison, Kind, Metadata
from services.watcher.kinds.schema import fields, of_kind
from services.watcher.settings import Settings
from weir.decider import World
from weir.events import AnyEvent, NodeGone, NodeObserved, NodeRetired
from weir.lbnodes import counted
from weir.model import Root, parse_address


class _Status(TypedDict, total=False):
    addresses: Any
    conditions: Any


class _Node(TypedDict, total=False):
    metadata: Metadata
    status: _Status


def _read(manifest: Field, root: Root, _: Settings) -> NodeObserved | None:
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


def _touches(comparison: Comparison, nodes: Sequence[str]) -> Iterable[str]:
    """The EndpointSlices with an endpoint at an address that a node gained or lost."""
    moved: set[str] = set()
    for node in nodes:
        moved |= _addresses(comparison.held(node)) ^ _addresses(comparison.desired(node))
    return comparison.slices_at(moved)


def _addresses(event: AnyEvent | None) -> set[str]:
    return set(event.addresses) if isinstance(event, NodeObserved) else set()


def _ends(world: World, held: NodeObserved) -> Iterable[AnyEvent]:
    """An LB node does not outlive its Node."""
    if any(seen.node == held.root.path for seen in counted(world)):
        yield NodeRetired(lbnode=held.root.path, reason="its Node was deleted")


_CONFIG: Final = fields("", configMap=fields("kubeletConfigKey name namespace resourceVersion uid"))

NODE: Final = Kind(
    word="Node",
    plural="nodes",
    versions=("v1",),
    namespaced=False,
    decode=msgspec.json.Decoder(_Node).decode,
    read=_read,
    observed=NodeObserved,
    gone=NodeGone,
    touches=_touches,
    ends=_ends,
    fields=of_kind(
        spec=fields(
            "externalID podCIDR podCIDRs providerID unschedulable", configSource=_CONFIG, taints=fields("effect key timeAdded value")
        ),
        status=fields(
            "allocatable capacity declaredFeatures phase volumesInUse",
            addresses=fields("address type"),
            conditions=fields("lastHeartbeatTime lastTransitionTime message reason status type"),
            config=fields("error", active=_CONFIG, assigned=_CONFIG, lastKnownGood=_CONFIG),
            daemonEndpoints=fields("", kubeletEndpoint=fields("Port")),
            features=fields("supplementalGroupsPolicy"),
            images=fields("names sizeBytes"),
            nodeInfo=fields(
                "architecture bootID containerRuntimeVersion kernelVersion kubeProxyVersion kubeletVersion machineID operatingSystem"
                " osImage systemUUID",
                swap=fields("capacity"),
            ),
            runtimeHandlers=fields("name", features=fields("recursiveReadOnlyMounts userNamespaces")),
            volumesAttached=fields("devicePath name"),
        ),
    ),
)
