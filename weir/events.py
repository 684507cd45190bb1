"""Every event of the log, grouped by the service that states it.

An event carries the whole state of its entity, so the last event per entity is enough to start from.  Its subject is
`weir.<cluster>.<author>.<kind>.<namespace>.<name>`; `kind` is the entity's, shared by all events about it.
Tags are on disk forever: new fields have defaults, nothing is renamed, retyped or used again.
"""

from functools import lru_cache
from typing import ClassVar

import msgspec

from weir.model import (
    Algorithm,
    Backend,
    Condition,
    Endpoint,
    Family,
    FamilyPolicy,
    Mode,
    NoBackend,
    Probe,
    Problem,
    Protocol,
    Rejection,
    Root,
    Selector,
    ServicePort,
    Share,
    SlicePort,
    Targets,
    endpoint_name,
)


class Event(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True, gc=False):
    """An event.  Past tense, immutable, true forever."""

    author: ClassVar[str]  # the service that states it
    kind: ClassVar[str]  # of the entity
    gone: ClassVar[bool] = False  # the entity is no more: nothing of it is kept in a fold

    def entity(self) -> tuple[str, str]:
        """Namespace ("" where there is none) and name of the entity."""
        raise TypeError(f"{type(self).__name__} names no entity")


class _Object(Event, frozen=True, kw_only=True):
    """An event about one object that the watcher follows."""

    author: ClassVar[str] = "watcher"
    root: Root

    def entity(self) -> tuple[str, str]:
        return self.root.namespace, self.root.name


class EpochStarted(Event, frozen=True, kw_only=True, tag="epoch_started"):
    """Only this process appends in its author's name from here on: the server refuses what an earlier epoch of that author appends."""

    author: ClassVar[str] = ""  # whichever starts it
    kind: ClassVar[str] = "epoch"
    writer: str  # the author, as in subjects
    host: str
    pid: int

    def entity(self) -> tuple[str, str]:
        return "", ""


# ── watcher ────────────────────────────────────────────────────────────────────────────────────────────────────────


class ServiceObserved(_Object, frozen=True, kw_only=True, tag="service_observed"):
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


class ServiceGone(_Object, frozen=True, kw_only=True, tag="service_gone"):
    """The Service is no more."""

    kind: ClassVar[str] = "service"
    gone: ClassVar[bool] = True


class EndpointSliceObserved(_Object, frozen=True, kw_only=True, tag="endpointslice_observed"):
    """An EndpointSlice; `service` is the name of its Service, in its own namespace."""

    kind: ClassVar[str] = "endpointslice"
    service: str
    family: Family
    ports: tuple[SlicePort, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()


class EndpointSliceGone(_Object, frozen=True, kw_only=True, tag="endpointslice_gone"):
    """The EndpointSlice is no more."""

    kind: ClassVar[str] = "endpointslice"
    gone: ClassVar[bool] = True


class PoolObserved(_Object, frozen=True, kw_only=True, tag="pool_observed"):
    """A VIPPool.  `addresses`: CIDR or `first-last`, canonical, in the order written."""

    kind: ClassVar[str] = "pool"
    addresses: tuple[str, ...]
    auto_assign: bool = True
    priority: int = 0
    avoid_buggy_ips: bool = False
    share: Share = "key"
    share_with_nodes: bool = False  # addresses of LB nodes' own may be asked for by name: Services take their ports, and nothing else
    service_selector: Selector | None = None  # which Services may draw from it; None: all
    namespace_selector: Selector | None = None  # of which namespaces


class PoolGone(_Object, frozen=True, kw_only=True, tag="pool_gone"):
    """The VIPPool is no more; VIPs given from it stay until their Services let go."""

    kind: ClassVar[str] = "pool"
    gone: ClassVar[bool] = True


class NamespaceObserved(_Object, frozen=True, kw_only=True, tag="namespace_observed"):
    """A Namespace, for the selectors of pools."""

    kind: ClassVar[str] = "namespace"
    labels: dict[str, str] = {}


class NamespaceGone(_Object, frozen=True, kw_only=True, tag="namespace_gone"):
    """The Namespace is no more."""

    kind: ClassVar[str] = "namespace"
    gone: ClassVar[bool] = True


class NodeObserved(_Object, frozen=True, kw_only=True, tag="node_observed"):
    """A Node of the cluster; endpoints on its own addresses are refused."""

    kind: ClassVar[str] = "node"
    addresses: tuple[str, ...] = ()
    internal: tuple[str, ...] = ()  # those of `addresses` at which others of the cluster reach it; node ports answer there
    ready: bool = True  # condition Ready; unknown counts as true
    silent: bool = False  # condition Ready is unknown: its kubelet is not heard of
    labels: dict[str, str] = {}


class NodeGone(_Object, frozen=True, kw_only=True, tag="node_gone"):
    """The Node is no more."""

    kind: ClassVar[str] = "node"
    gone: ClassVar[bool] = True


class _OfLbNode(Event, frozen=True, kw_only=True):
    """An event about an LB node that another than itself states."""

    lbnode: str

    def entity(self) -> tuple[str, str]:
        return "", self.lbnode


class NodeSilent(_OfLbNode, frozen=True, kw_only=True, tag="node_silent"):
    """Nothing is heard of the LB node.  Its kernel may forward on; nobody waits for it, except to reassign an address."""

    author: ClassVar[str] = "watcher"
    kind: ClassVar[str] = "silence"


class NodeHeard(_OfLbNode, frozen=True, kw_only=True, tag="node_heard"):
    """The LB node is heard again, or was retired."""

    author: ClassVar[str] = "watcher"
    kind: ClassVar[str] = "silence"
    gone: ClassVar[bool] = True


class NodeRetired(_OfLbNode, frozen=True, kw_only=True, tag="node_retired"):
    """The LB node is gone: its Node or its LBNode was deleted.  It counts for nothing until it reports itself after this."""

    author: ClassVar[str] = "watcher"
    kind: ClassVar[str] = "retired"
    reason: str = ""


class HomeNamed(Event, frozen=True, kw_only=True, tag="home_named"):
    """The names of this cluster stand in the log as they are; those of any other stand behind its name, as in "east:shop"."""

    author: ClassVar[str] = "watcher"
    kind: ClassVar[str] = "home"
    cluster: str

    def entity(self) -> tuple[str, str]:
        return "", ""


class RecordObserved(_Object, frozen=True, kw_only=True, tag="record_observed"):
    """What Weir wrote down, in the LBService of a Service's name, of its VIPs: given again when the log is lost."""

    kind: ClassVar[str] = "record"
    vips: tuple[str, ...]


class RecordGone(_Object, frozen=True, kw_only=True, tag="record_gone"):
    """The record is deleted, or its Service holds again all that it names."""

    kind: ClassVar[str] = "record"
    gone: ClassVar[bool] = True


class ManifestRejected(Event, frozen=True, kw_only=True, tag="manifest_rejected"):
    """A file, or one document of it, that cannot be used.  What it said before, if anything, still holds."""

    author: ClassVar[str] = "watcher"
    kind: ClassVar[str] = "manifest"
    source: str  # "shop.yaml", or "shop.yaml#2" for its second document
    problems: tuple[Problem, ...]
    root: Root | None = None  # the object, where the document got as far as naming one
    service: str = ""  # "namespace/name": the Service that an EndpointSlice is of; the Service meant where there is no root

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


# ── ipam ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Vip(Event, frozen=True, kw_only=True):
    """An event about one VIP: allocated, released, freed follow one another on one subject."""

    author: ClassVar[str] = "ipam"
    kind: ClassVar[str] = "vip"
    vip: str
    pool: str
    services: tuple[str, ...]  # holders, "namespace/name", the first is the oldest
    root: Root

    def entity(self) -> tuple[str, str]:
        return "", self.vip


class VipAllocated(_Vip, frozen=True, kw_only=True, tag="vip_allocated"):
    """The VIP belongs to `services`."""

    share_key: str = ""
    orphaned: bool = False  # its pool does not offer it any more; it stays until its Services let go
    share: Share = "key"  # as the pool has it; "ports" holds on for those who stand on it together
    in_use_by: str = ""  # whose address it is besides, in words, such as "LB node lb-1's own address"
    shared_with_node: bool = False  # it is an LB node's own, and its pool shares those by ports


class VipReleased(_Vip, frozen=True, kw_only=True, tag="vip_released"):
    """Nobody holds the VIP any more, but nodes may still forward for it: it must not be given on yet."""


class VipFreed(_Vip, frozen=True, kw_only=True, tag="vip_freed"):
    """Every node has let go of the VIP: it may be given on."""

    gone: ClassVar[bool] = True


class VipDenied(Event, frozen=True, kw_only=True, tag="vip_denied"):
    """A Service waits for an address of `family`; `since` is the sequence at which it began, the oldest is served first."""

    author: ClassVar[str] = "ipam"
    kind: ClassVar[str] = "claim"
    service: str
    family: Family
    reason: str  # CamelCase, as a condition's
    message: str
    holders: tuple[str, ...]  # Services that hold what was asked for; at most ten
    since: int
    root: Root

    def entity(self) -> tuple[str, str]:
        return self.root.namespace, f"{self.root.name}:{self.family}"


class ClaimSettled(Event, frozen=True, kw_only=True, tag="claim_settled"):
    """The Service waits no more: served, or withdrawn."""

    author: ClassVar[str] = "ipam"
    kind: ClassVar[str] = "claim"
    gone: ClassVar[bool] = True
    service: str
    family: Family
    root: Root

    def entity(self) -> tuple[str, str]:
        return self.root.namespace, f"{self.root.name}:{self.family}"


# ── planner ────────────────────────────────────────────────────────────────────────────────────────────────────────


class VipPlanned(Event, frozen=True, kw_only=True, tag="vip_planned"):
    """Nodes answer for the VIP and forward what comes to it."""

    author: ClassVar[str] = "planner"
    kind: ClassVar[str] = "planvip"
    vip: str
    shared_with_node: bool = False  # an LB node's own address: nodes take the ports of its frontends only, and do not announce it
    root: Root

    def entity(self) -> tuple[str, str]:
        return "", self.vip


class VipWithdrawn(Event, frozen=True, kw_only=True, tag="vip_withdrawn"):
    """Nodes let go of the VIP; `release` is the sequence of the `vip_released` that this answers."""

    author: ClassVar[str] = "planner"
    kind: ClassVar[str] = "planvip"
    vip: str
    release: int
    root: Root

    def entity(self) -> tuple[str, str]:
        return "", self.vip


class FrontendPlanned(Event, frozen=True, kw_only=True, tag="frontend_planned"):
    """VIP + port + protocol, and the backend set that serves it."""

    author: ClassVar[str] = "planner"
    kind: ClassVar[str] = "frontend"
    vip: str
    port: int
    protocol: Protocol
    service: str
    backends: str  # the set: "namespace/name:port/protocol:family"
    chunks: int  # how many `backends_planned` make the set
    mode: Mode = "default"
    algorithm: Algorithm = "maglev"
    idle_timeout_s: int = 0
    sources: tuple[str, ...] = ()
    no_backend: NoBackend = "drop"
    drain_timeout_s: int = 0
    affinity_s: int = 0
    local: bool = False  # a node takes those backends only that are on it
    health_port: int = 0
    probe: Probe | None = None
    root: Root

    def entity(self) -> tuple[str, str]:
        return "", endpoint_name(self.vip, self.port, self.protocol)


class FrontendWithdrawn(Event, frozen=True, kw_only=True, tag="frontend_withdrawn"):
    """The frontend is no more."""

    author: ClassVar[str] = "planner"
    kind: ClassVar[str] = "frontend"
    gone: ClassVar[bool] = True
    vip: str
    port: int
    protocol: Protocol
    root: Root

    def entity(self) -> tuple[str, str]:
        return "", endpoint_name(self.vip, self.port, self.protocol)


class BackendsPlanned(Event, frozen=True, kw_only=True, tag="backends_planned"):
    """One chunk of a backend set.  A backend's chunk follows from its address alone, so one flip rewrites one chunk."""

    author: ClassVar[str] = "planner"
    kind: ClassVar[str] = "backends"
    set: str  # "namespace/name:port/protocol:family"
    chunk: int
    chunks: int
    protocol: Protocol
    backends: tuple[Backend, ...]  # by address, then port
    root: Root

    def entity(self) -> tuple[str, str]:
        return self.root.namespace, f"{self.set.partition('/')[2]}:{self.chunk}of{self.chunks}"


class BackendsWithdrawn(Event, frozen=True, kw_only=True, tag="backends_withdrawn"):
    """The chunk is no more."""

    author: ClassVar[str] = "planner"
    kind: ClassVar[str] = "backends"
    gone: ClassVar[bool] = True
    set: str
    chunk: int
    chunks: int
    root: Root

    def entity(self) -> tuple[str, str]:
        return self.root.namespace, f"{self.set.partition('/')[2]}:{self.chunk}of{self.chunks}"


class StatusPlanned(Event, frozen=True, kw_only=True, tag="status_planned"):
    """What the owner of a Service should be told.  `programmed` only from what nodes have read back."""

    author: ClassVar[str] = "planner"
    kind: ClassVar[str] = "status"
    service: str
    vips: tuple[str, ...]
    conditions: tuple[Condition, ...]
    root: Root

    def entity(self) -> tuple[str, str]:
        return self.root.namespace, self.root.name


class StatusWithdrawn(Event, frozen=True, kw_only=True, tag="status_withdrawn"):
    """There is nothing to tell: the Service is gone or no longer exposed."""

    author: ClassVar[str] = "planner"
    kind: ClassVar[str] = "status"
    gone: ClassVar[bool] = True
    service: str
    root: Root

    def entity(self) -> tuple[str, str]:
        return self.root.namespace, self.root.name


# ── an operator ────────────────────────────────────────────────────────────────────────────────────────────────────


class NodeLeft(_OfLbNode, frozen=True, kw_only=True, tag="node_left"):
    """An operator removed the LB node (`weir leave`).  It counts for nothing until it reports itself after this."""

    author: ClassVar[str] = "operator"
    kind: ClassVar[str] = "left"


# ── dataplane, one per node ────────────────────────────────────────────────────────────────────────────────────────


class _OfNode(Event, frozen=True, kw_only=True):
    """An event about one node, stated by that node."""

    author: ClassVar[str] = "dataplane"
    node: str

    def entity(self) -> tuple[str, str]:
        return "", self.node


class NodeSeen(_OfNode, frozen=True, kw_only=True, tag="node_seen"):
    """A node forwards: how, and on which interfaces."""

    kind: ClassVar[str] = "lbnode"
    hook: str
    layout: int
    interfaces: tuple[str, ...]
    hooks: tuple[str, ...] = ()  # of each interface in turn: tc, xdp native, xdp generic
    local_backends: bool = False  # it serves backends at addresses of its own too

    @property
    def attached(self) -> str:
        """What came of "auto", for people; what was asked for, where that is not known."""
        return ", ".join(sorted(set(filter(None, self.hooks)))) or self.hook


class NodeAddressesObserved(_OfNode, frozen=True, kw_only=True, tag="node_addresses_observed"):
    """The addresses of a node's own, on all its interfaces, and its default gateways; none loopback or link-local."""

    kind: ClassVar[str] = "addresses"
    addresses: tuple[str, ...] = ()  # by family, then number
    gateways: tuple[str, ...] = ()  # likewise


class AppliedThrough(_OfNode, frozen=True, kw_only=True, tag="applied_through"):
    """The node's kernel holds the plan up to sequence `seq`, read back, but for `rejected`."""

    kind: ClassVar[str] = "applied"
    seq: int
    rejected: tuple[Rejection, ...] = ()
    writes: int = 0  # map entries written or deleted to get here from the watermark before


class VipTaken(_OfNode, frozen=True, kw_only=True, tag="vip_taken"):
    """The node claimed the VIP on the wire: gratuitous ARP or unsolicited NA on `interfaces`."""

    kind: ClassVar[str] = "taken"
    vip: str
    interfaces: tuple[str, ...]

    def entity(self) -> tuple[str, str]:
        return "", self.vip


class MapPressure(_OfNode, frozen=True, kw_only=True, tag="map_pressure"):
    """A kernel map passed a tenth of its size, up or down: `used_percent` is rounded down to tens."""

    kind: ClassVar[str] = "pressure"
    map: str
    used_percent: int

    def entity(self) -> tuple[str, str]:
        return "", self.map


# ── health, one per node ───────────────────────────────────────────────────────────────────────────────────────────


class _OfEndpoint(Event, frozen=True, kw_only=True):
    """An event about one backend, as probed from `node`."""

    author: ClassVar[str] = "health"
    kind: ClassVar[str] = "endpoint"
    node: str
    address: str
    port: int
    protocol: Protocol
    reason: str

    def entity(self) -> tuple[str, str]:
        return "", endpoint_name(self.address, self.port, self.protocol)


class EndpointDown(_OfEndpoint, frozen=True, kw_only=True, tag="endpoint_down"):
    """The backend failed `failures` probes in a row."""

    failures: int
    held_s: int = 0  # it flaps: down for at least so long, whatever its probes say


class EndpointUp(_OfEndpoint, frozen=True, kw_only=True, tag="endpoint_up"):
    """The backend answers again.  Up is what a backend is taken for, so nothing of it is kept."""

    gone: ClassVar[bool] = True


def endpoints_of(event: Event) -> list[str]:
    """Names of the backends in a planned chunk, none in any other event."""
    match event:
        case BackendsPlanned(backends=backends, protocol=protocol):
            return [endpoint_name(backend.address, backend.port, protocol) for backend in backends]
    return []


AnyEvent = (
    EpochStarted
    | ServiceObserved
    | ServiceGone
    | EndpointSliceObserved
    | EndpointSliceGone
    | PoolObserved
    | PoolGone
    | NamespaceObserved
    | NamespaceGone
    | NodeObserved
    | NodeGone
    | NodeSilent
    | NodeHeard
    | NodeRetired
    | HomeNamed
    | RecordObserved
    | RecordGone
    | ManifestRejected
    | ManifestAccepted
    | VipAllocated
    | VipReleased
    | VipFreed
    | VipDenied
    | ClaimSettled
    | VipPlanned
    | VipWithdrawn
    | FrontendPlanned
    | FrontendWithdrawn
    | BackendsPlanned
    | BackendsWithdrawn
    | StatusPlanned
    | StatusWithdrawn
    | NodeSeen
    | NodeAddressesObserved
    | NodeLeft
    | AppliedThrough
    | VipTaken
    | MapPressure
    | EndpointDown
    | EndpointUp
)

DECODE = msgspec.json.Decoder(AnyEvent).decode
ENCODE = msgspec.json.Encoder(order="deterministic").encode


class _Tag(msgspec.Struct):
    """What is read of an event whose type alone matters."""

    type: str = ""


_TAG = msgspec.json.Decoder(_Tag).decode


_ESCAPES = {code: f"={code:02X}" for code in range(128) if not (chr(code).isalnum() or chr(code) == "-")}


@lru_cache(maxsize=4096)  # the same names come several times in a row
def token(text: str) -> str:
    """`text` as one subject token: letters, digits and `-` stay, "" is `_`, all else becomes `=HH` per UTF-8 byte."""
    if not text.isascii():
        return "".join(token(c) if c.isascii() else "".join(f"={b:02X}" for b in c.encode()) for c in text)
    return text.translate(_ESCAPES) or "_"


def untoken(text: str) -> str:
    """The inverse of `token`."""
    if text == "_":
        return ""
    return bytes.fromhex("".join(_hex(part, first=i == 0) for i, part in enumerate(text.split("=")))).decode()


def _hex(part: str, *, first: bool) -> str:
    return part.encode().hex() if first else part[:2] + part[2:].encode().hex()


def tag_of(kind: type[Event]) -> str:
    """The type as the log writes it."""
    return str(kind.__struct_config__.tag)


_GONE = frozenset(tag_of(kind) for kind in AnyEvent.__args__ if kind.gone)


def is_gone(body: bytes) -> bool:
    """Whether the event with this body says that its entity is gone; false for a body that is no event."""
    try:
        return _TAG(body).type in _GONE
    except msgspec.MsgspecError:
        return False


def author_of(event: Event) -> str:
    """The author's token: the service, and the node where it runs per node, so that two nodes never share a subject."""
    if node := getattr(event, "node", ""):
        return f"{event.author}-{token(node)}"
    return event.author or getattr(event, "writer", "")


def key_of(event: Event) -> str:
    """The entity's key: its subject without `weir.<cluster>.`."""
    namespace, name = event.entity()
    return f"{author_of(event)}.{event.kind}.{token(namespace)}.{token(name)}"


def key(author: str, kind: str, namespace: str, name: str) -> str:
    """The key of an entity known by name, as `key_of` gives it."""
    return f"{author}.{kind}.{token(namespace)}.{token(name)}"
