"""The values that events carry and cores compute with.

All are frozen and compare by content.  Addresses travel as canonical text, numbers are integers and carry their unit.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Literal

import msgspec

Protocol = Literal["TCP", "UDP"]
Family = Literal["IPv4", "IPv6"]
Mode = Literal["default", "onearm", "fullnat"]
Algorithm = Literal["maglev", "rr"]
BackendState = Literal["active", "draining", "down"]
FamilyPolicy = Literal["SingleStack", "PreferDualStack", "RequireDualStack"]
NoBackend = Literal["drop", "reject"]
Share = Literal["key", "ports"]  # who may stand on one VIP: Services of one key; besides, all whose ports differ
Targets = Literal["endpoints", "nodes"]  # what serves: the endpoints themselves, or the node ports of the cluster's nodes
Address = IPv4Address | IPv6Address


class Value(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Base of all values: immutable, never part of a cycle (so no garbage collector looks at them), defaults left out of the log."""


class Root(Value, frozen=True, kw_only=True, omit_defaults=True):
    """The object an event goes back to; kept in every event so that `why` works past the log's retention."""

    kind: str
    name: str
    namespace: str = ""
    generation: int = 0
    resource_version: str = ""  # of the Kubernetes API; for a manifest its path and document, "shop.yaml#2"

    @property
    def path(self) -> str:
        """ "namespace/name", or the name alone."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class Problem(Value, frozen=True, kw_only=True, omit_defaults=True):
    """One fault in an object, as STYLE section 9 wants it told: what, where, got, accepted."""

    field: str
    got: str
    accepted: str

    def __str__(self) -> str:
        return f"{self.field}: got {self.got}, accepted: {self.accepted}"


class ServicePort(Value, frozen=True, kw_only=True, omit_defaults=True):
    """A port of a Service.  `target` is a number, or the name of a port of the endpoints; 0 means the same as `port`."""

    port: int
    protocol: Protocol = "TCP"
    name: str = ""
    target: int | str = 0
    node_port: int = 0


class SlicePort(Value, frozen=True, kw_only=True, omit_defaults=True):
    """A port of an EndpointSlice; `port` 0 means all ports (null in the API)."""

    port: int
    protocol: Protocol = "TCP"
    name: str = ""


class Endpoint(Value, frozen=True, kw_only=True, omit_defaults=True):
    """One endpoint of a slice.  `ready` null counts as true (discovery.k8s.io/v1, EndpointConditions)."""

    address: str
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    node: str = ""


def better(one: Endpoint, other: Endpoint) -> Endpoint:
    """Of two entries for one address the one that counts, whole: readiness and node go together.

    A pod that terminates and the one that got its address stand beside each other for a while, in one slice or in two.
    """
    return min(one, other, key=_worse)


def _worse(entry: Endpoint) -> tuple[bool, bool, bool, bool, bool, str]:
    drains = entry.serving and entry.terminating
    return not entry.ready, not entry.ready and not drains, not entry.serving, entry.terminating, not entry.node, entry.node


class Probe(Value, frozen=True, kw_only=True, omit_defaults=True):
    """How a backend is checked: every `interval_s`, down after `retries` failures in a row, up after as many successes."""

    kind: Literal["tcp", "http", "https", "ping"] = "tcp"
    interval_s: int = 2
    timeout_s: int = 1
    retries: int = 2
    port: int = 0  # 0: the backend's own
    path: str = "/"  # of an HTTP request
    host: str = ""  # its Host header, and the TLS server name; empty: the backend's address
    expect: str = ""  # text that the answer's first 4 KiB must hold; a status of 200-399 is needed anyway


class Requirement(Value, frozen=True, kw_only=True, omit_defaults=True):
    """One expression of a label selector (meta/v1, LabelSelectorRequirement)."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()


class Selector(Value, frozen=True, kw_only=True, omit_defaults=True):
    """A label selector; one without a word selects everything (meta/v1, LabelSelector)."""

    labels: dict[str, str] = {}
    expressions: tuple[Requirement, ...] = ()


class Backend(Value, frozen=True, kw_only=True, omit_defaults=True):
    """One address + port that serves a frontend.  Only active backends get new flows; all down counts as all up.

    Each LB node acts on the verdicts of its own probes: see `seen_from`.
    """

    address: str
    port: int
    state: BackendState = "active"
    node: str = ""  # where it runs; told only where a frontend is `local`
    down_on: tuple[str, ...] = ()  # LB nodes whose probes find it dead; `state` is down where all that are heard do


def seen_from(node: str, backend: Backend) -> BackendState:
    """The state of a backend on an LB node, which acts on its own verdict and not on another's."""
    if backend.state == "draining":
        return "draining"
    return "down" if node in backend.down_on else "active"


class Condition(Value, frozen=True, kw_only=True, omit_defaults=True):
    """A condition on an object as the Kubernetes API words it (type, status, reason in CamelCase)."""

    type: str
    status: bool
    reason: str
    message: str = ""
    unknown: bool = False  # `status` Unknown in the Kubernetes API; it counts as not true


MORE_REJECTED = "more"  # the entity of a rejection that stands for all beyond those that fit into one event


class Rejection(Value, frozen=True, kw_only=True, omit_defaults=True):
    """A planned entity that a node could not apply, in the words of the kernel."""

    entity: str
    reason: str


def family_of(address: str) -> Family:
    """The IP family of a canonical address."""
    return "IPv6" if ":" in address else "IPv4"


def families_of(addresses: Iterable[str]) -> list[Family]:
    """Of addresses or CIDRs, sorted."""
    return sorted({family_of(address) for address in addresses})


def endpoint_name(address: str, port: int, protocol: str) -> str:
    """`10.0.0.1:80/TCP`, `[fd00::1]:80/TCP`: how a frontend or backend is named everywhere."""
    return f"[{address}]:{port}/{protocol}" if ":" in address else f"{address}:{port}/{protocol}"


def parse_address(text: str) -> Address | None:
    """The address in `text`, or None where it is none; zones (`fe80::1%eth0`) and IPv4-mapped forms are none."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and (address.scope_id or address.ipv4_mapped):
        return None
    return address


def begins_with_anycast(network: IPv4Network | IPv6Network) -> bool:
    """Whether its first address is the anycast address of the routers of an IPv6 subnet (RFC 4291 2.6.1; not of a /127, RFC 6164)."""
    return network.version == 6 and network.prefixlen < 127


def cluster_of(name: str) -> str:
    """Of a namespace, or of what has none: "east" of "east:shop"; "" is the first cluster."""
    return name.rpartition(":")[0]


def name_in(cluster: str, name: str) -> str:
    """As the log has it: "east:shop"."""
    return f"{cluster}:{name}" if cluster and name else name
