"""The kinds that are followed in a cluster, where they are found, and what is decoded of their objects: these fields and no other."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypedDict

import msgspec


class _Metadata(TypedDict, total=False):
    name: Any
    namespace: Any
    uid: Any
    resourceVersion: Any
    generation: Any
    labels: Any
    annotations: Any
    deletionTimestamp: Any


class _ServiceSpec(TypedDict, total=False):
    type: Any
    clusterIP: Any
    ports: Any
    loadBalancerClass: Any
    loadBalancerIP: Any
    loadBalancerSourceRanges: Any
    externalIPs: Any
    externalTrafficPolicy: Any
    allocateLoadBalancerNodePorts: Any
    healthCheckNodePort: Any
    sessionAffinity: Any
    sessionAffinityConfig: Any
    ipFamilies: Any
    ipFamilyPolicy: Any


class _Service(TypedDict, total=False):
    metadata: _Metadata
    spec: _ServiceSpec


class _Endpoint(TypedDict, total=False):
    addresses: Any
    conditions: Any
    nodeName: Any


class _Slice(TypedDict, total=False):
    metadata: _Metadata
    addressType: Any
    endpoints: list[_Endpoint] | None
    ports: Any


class _NodeStatus(TypedDict, total=False):
    addresses: Any
    conditions: Any


class _Node(TypedDict, total=False):
    metadata: _Metadata
    status: _NodeStatus


class _Pool(TypedDict, total=False):
    metadata: _Metadata
    spec: Any


class _Record(TypedDict, total=False):
    metadata: _Metadata
    status: Any


class _Bare(TypedDict, total=False):
    metadata: _Metadata


class Meta(msgspec.Struct):
    """What identifies an object and its version."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""  # noqa: N815  the API's own name
    finalizers: tuple[str, ...] = ()
    deletionTimestamp: str = ""  # noqa: N815


class Seen(msgspec.Struct):
    """An object as the API last showed it, as far as a writer must know."""

    metadata: Meta
    status: msgspec.Raw = msgspec.Raw(b"{}")


class Kind(NamedTuple):
    """A kind that is followed.  `written`: Weir writes to it, so how it stands is kept."""

    word: str
    api: str
    plural: str
    decode: Callable[[bytes | msgspec.Raw], Any] | None  # None: nothing of it is read
    written: bool = False
    namespaced: bool = True

    def path(self, namespace: str = "", name: str = "", part: str = "") -> str:
        """`/api/v1/namespaces/shop/services/web/status`."""
        root = f"/api/{self.api}" if "/" not in self.api else f"/apis/{self.api}"
        inside = f"/namespaces/{namespace}" if namespace else ""
        return root + inside + "/" + "/".join(word for word in (self.plural, name, part) if word)


SERVICE: Final = Kind("Service", "v1", "services", msgspec.json.Decoder(_Service).decode, written=True)
POOL: Final = Kind("VIPPool", "weir.dev/v1alpha1", "vippools", msgspec.json.Decoder(_Pool).decode, written=True, namespaced=False)
RECORD: Final = Kind("LBService", "weir.dev/v1alpha1", "lbservices", msgspec.json.Decoder(_Record).decode, written=True)
LBNODE: Final = Kind("LBNode", "weir.dev/v1alpha1", "lbnodes", None, written=True, namespaced=False)
KINDS: Final = (
    *(SERVICE, POOL, RECORD, LBNODE),
    Kind("EndpointSlice", "discovery.k8s.io/v1", "endpointslices", msgspec.json.Decoder(_Slice).decode),
    Kind("Namespace", "v1", "namespaces", msgspec.json.Decoder(_Bare).decode, namespaced=False),
    Kind("Node", "v1", "nodes", msgspec.json.Decoder(_Node).decode, namespaced=False),
)
