"""What Services and EndpointSlices request."""

from typing import Final

from weir.model.value import Value

# Words of an enumeration travel as text: a reader that does not act on one passes over words of later versions.  One that does act
# on it compares with the words it knows and refuses the entity, by name.
Protocol = str
PROTOCOLS: Final = ("TCP", "UDP")
FamilyPolicy = str
FAMILY_POLICIES: Final = ("SingleStack", "PreferDualStack", "RequireDualStack")
Share = str  # who may share one VIP
SHARES: Final = ("key", "ports")  # Services of one key; also all whose ports differ
Targets = str  # what serves a Service
TARGETS: Final = ("endpoints", "nodes")  # its endpoints, or the node ports of the cluster's nodes
ProbeKind = str
PROBE_KINDS: Final = ("tcp", "http", "https", "ping")


class ServicePort(Value, frozen=True, kw_only=True, omit_defaults=True):
    """A port of a Service.  `target` is a number, or the name of a port of the endpoints; 0 means the same as `port`."""

    port: int
    protocol: Protocol = "TCP"
    name: str = ""
    target: int | str = 0
    node_port: int = 0
    app_protocol: str = ""  # appProtocol


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

    kind: ProbeKind = "tcp"
    interval_s: int = 2
    timeout_s: int = 1
    retries: int = 2
    port: int = 0  # 0: the backend's own
    path: str = "/"  # of an HTTP request
    host: str = ""  # its Host header, and the TLS server name; empty: the backend's address
    expect: str = ""  # text that the answer's first 4 KiB must hold; a status of 200-399 is needed anyway
