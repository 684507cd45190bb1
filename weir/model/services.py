"""What Services and EndpointSlices request."""

from typing import Literal

from weir.model.value import Value

Protocol = Literal["TCP", "UDP"]
FamilyPolicy = Literal["SingleStack", "PreferDualStack", "RequireDualStack"]
Share = Literal["key", "ports"]  # who may stand on one VIP: Services of one key; besides, all whose ports differ
Targets = Literal["endpoints", "nodes"]  # what serves: the endpoints themselves, or the node ports of the cluster's nodes


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
