"""What the watcher observed of objects in the sources.  Author: watcher."""

from typing import ClassVar

from weir.events.base import Event, ObjectEvent
from weir.model import (
    Algorithm,
    Endpoint,
    Family,
    FamilyPolicy,
    Mode,
    NoBackend,
    Probe,
    Problem,
    Root,
    Selector,
    ServicePort,
    Share,
    SlicePort,
    Targets,
    owner_of,
)
from weir.words import few


class ServiceObserved(ObjectEvent, frozen=True, kw_only=True, tag="service_observed"):
    """A Service, by its fields that concern a load balancer.  `annotations`: those under weir.dev/ (aliases resolved)."""

    kind: ClassVar[str] = "service"
    exposed: bool  # type LoadBalancer, and of our class
    ports: tuple[ServicePort, ...] = ()
    families: tuple[Family, ...] = ()  # in order of preference; empty: whatever a pool gives
    family_policy: FamilyPolicy = "SingleStack"
    requested: tuple[str, ...] = ()  # addresses asked for, any number of each family
    pools: tuple[str, ...] = ()  # to draw from, the first that has room; empty: every one that assigns by itself
    more_requested: tuple[str, ...] = ()  # addresses asked for beside those asked for or drawn
    more_pools: tuple[str, ...] = ()  # one address more from each of these
    share_key: str = ""  # Services of one namespace with the same key may hold one VIP, on different ports
    exclusive: bool = False  # the VIP is shared with nobody, whatever the key
    mode: Mode = "default"
    algorithm: Algorithm = "maglev"
    idle_timeout_s: int = 0  # 0: by protocol
    source_ranges: tuple[str, ...] = ()  # CIDRs that may connect; empty: everyone
    no_backend: NoBackend = "drop"  # what a client gets while there is no backend
    drain_timeout_s: int = 0  # how long a leaving backend keeps its flows; 0: until they end
    affinity_s: int = 0  # a client keeps its backend for so long after its last connection (sessionAffinity ClientIP); 0: does not
    local: bool = False  # each node serves by backends of its own only (externalTrafficPolicy Local)
    health_port: int = 0  # where a node answers whether it has such backends (healthCheckNodePort); 0: nowhere
    targets: Targets = "endpoints"
    node_labels: tuple[str, ...] = ()  # targets nodes: only those with one of these labels, "name" or "name=value"
    probe: Probe | None = None
    annotations: dict[str, str] = {}
    labels: dict[str, str] = {}
    unsupported: tuple[Problem, ...] = ()  # asked for, valid, and not served yet

    def stated(self) -> str:
        ports = ", ".join(f"{port.port}/{port.protocol}" for port in self.ports)
        return f"{self.root.path} {'exposed' if self.exposed else 'not exposed'} on {ports}"


class ServiceGone(ObjectEvent, frozen=True, kw_only=True, tag="service_gone"):
    """The Service is no more."""

    kind: ClassVar[str] = "service"
    gone: ClassVar[bool] = True


class EndpointSliceObserved(ObjectEvent, frozen=True, kw_only=True, tag="endpointslice_observed"):
    """An EndpointSlice; `service` is the name of its Service, in its own namespace."""

    kind: ClassVar[str] = "endpointslice"
    service: str
    family: Family
    ports: tuple[SlicePort, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()

    @property
    def owner(self) -> str:
        """Its Service."""
        return owner_of("Service", self.root.space, self.service)

    def stated(self) -> str:
        ready = [endpoint.address for endpoint in self.endpoints if endpoint.ready]
        return f"{self.root.path} of {self.service}: {len(ready)} of {len(self.endpoints)} ready: {few(ready) or 'none'}"


class EndpointSliceGone(ObjectEvent, frozen=True, kw_only=True, tag="endpointslice_gone"):
    """The EndpointSlice is no more."""

    kind: ClassVar[str] = "endpointslice"
    gone: ClassVar[bool] = True


class PoolObserved(ObjectEvent, frozen=True, kw_only=True, tag="pool_observed"):
    """A VIPPool.  `addresses`: CIDR or `first-last`, canonical, in the order written."""

    kind: ClassVar[str] = "vippool"
    addresses: tuple[str, ...]
    auto_assign: bool = True
    priority: int = 0
    avoid_buggy_ips: bool = False
    share: Share = "key"
    share_with_nodes: bool = False  # addresses of LB nodes' own may be asked for by name: Services take their ports, and nothing else
    one_announcer: bool = False  # one LB node announces all its VIPs, and those of all pools that say so
    service_selector: Selector | None = None  # which Services may draw from it; None: all
    namespace_selector: Selector | None = None  # of which namespaces

    def stated(self) -> str:
        return f"{self.root.path}: {few(self.addresses) or 'none'}"


class PoolGone(ObjectEvent, frozen=True, kw_only=True, tag="pool_gone"):
    """The VIPPool is gone; VIPs drawn from it stay until their holders release them."""

    kind: ClassVar[str] = "vippool"
    gone: ClassVar[bool] = True


class NamespaceObserved(ObjectEvent, frozen=True, kw_only=True, tag="namespace_observed"):
    """A Namespace, for the selectors of pools."""

    kind: ClassVar[str] = "namespace"
    labels: dict[str, str] = {}


class NamespaceGone(ObjectEvent, frozen=True, kw_only=True, tag="namespace_gone"):
    """The Namespace is no more."""

    kind: ClassVar[str] = "namespace"
    gone: ClassVar[bool] = True


class NodeObserved(ObjectEvent, frozen=True, kw_only=True, tag="node_observed"):
    """A Node of the cluster; endpoints on its own addresses are refused."""

    kind: ClassVar[str] = "node"
    addresses: tuple[str, ...] = ()
    internal: tuple[str, ...] = ()  # those of `addresses` at which others of the cluster reach it; node ports answer there
    ready: bool = True  # condition Ready; unknown counts as true
    silent: bool = False  # condition Ready is unknown: its kubelet is not heard of
    labels: dict[str, str] = {}


class NodeGone(ObjectEvent, frozen=True, kw_only=True, tag="node_gone"):
    """The Node is no more."""

    kind: ClassVar[str] = "node"
    gone: ClassVar[bool] = True


class RecordObserved(ObjectEvent, frozen=True, kw_only=True, tag="record_observed"):
    """What Weir wrote down, in the LBService of a Service's name, of its VIPs: given again when the log is lost."""

    kind: ClassVar[str] = "lbservice"
    vips: tuple[str, ...]

    @property
    def owner(self) -> str:
        """The Service whose VIPs it names."""
        return owner_of("Service", self.root.space, self.root.name)


class RecordGone(ObjectEvent, frozen=True, kw_only=True, tag="record_gone"):
    """The record is deleted, or its Service holds again all that it names."""

    kind: ClassVar[str] = "lbservice"
    gone: ClassVar[bool] = True


KubernetesObserved = ServiceObserved | EndpointSliceObserved | PoolObserved | NamespaceObserved | NodeObserved | RecordObserved
KubernetesGone = ServiceGone | EndpointSliceGone | PoolGone | NamespaceGone | NodeGone | RecordGone


class HomeNamed(Event, frozen=True, kw_only=True, tag="home_named"):
    """The names of this cluster stand in the log as they are; those of any other stand behind its name, as in "east:shop"."""

    author: ClassVar[str] = "watcher"
    kind: ClassVar[str] = "home"
    cluster: str

    def entity(self) -> tuple[str, str]:
        return "", ""


class ManifestRejected(Event, frozen=True, kw_only=True, tag="manifest_rejected"):
    """A file, or one document of it, that cannot be used.  What it said before, if anything, still holds."""

    author: ClassVar[str] = "watcher"
    kind: ClassVar[str] = "manifest"
    source: str  # "shop.yaml", or "shop.yaml#2" for its second document
    problems: tuple[Problem, ...]
    root: Root | None = None  # the object, where the document got as far as naming one
    owner: str = ""  # the Service that an EndpointSlice is of; the object meant where there is no root

    def entity(self) -> tuple[str, str]:
        return "", self.source


class ManifestAccepted(Event, frozen=True, kw_only=True, tag="manifest_accepted"):
    """What was wrong with `source` is mended, or `source` is gone."""

    author: ClassVar[str] = "watcher"
    kind: ClassVar[str] = "manifest"
    gone: ClassVar[bool] = True
    source: str

    def entity(self) -> tuple[str, str]:
        return "", self.source
