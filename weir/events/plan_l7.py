"""The plan for the proxy of each LB node, and the status of the Gateway API's objects.  Author: planner."""

from typing import ClassVar

from weir.events.base import Event
from weir.model import BackendSet, Chain, Condition, ListenerStatus, ParentStatus, ProxyRule, Root, UpstreamTls


class _PlanEvent(Event, frozen=True, kw_only=True):
    author: ClassVar[str] = "planner"
    root: Root


class _OfListener(_PlanEvent, frozen=True, kw_only=True):
    kind: ClassVar[str] = "listener"
    port: int

    def entity(self) -> tuple[str, str]:
        return self.root.space, f"{self.root.kind}:{self.root.name}:{self.port}"


class ListenerPlanned(_OfListener, frozen=True, kw_only=True, tag="listener_planned"):
    """A port of a Gateway's VIPs that the proxy serves.  root: the Gateway."""

    owner: str  # "Gateway/shop/edge"
    vips: tuple[str, ...]
    chains: tuple[Chain, ...]  # a connection takes the one with the most specific server name


class ListenerWithdrawn(_OfListener, frozen=True, kw_only=True, tag="listener_withdrawn"):
    """The proxy does not serve the port any more."""

    gone: ClassVar[bool] = True


class _OfHost(_PlanEvent, frozen=True, kw_only=True):
    kind: ClassVar[str] = "virtualhost"
    port: int
    chain: str
    hostname: str  # "*": all others
    part: int = 0  # long lists of rules come in several events

    def entity(self) -> tuple[str, str]:
        return self.root.space, f"{self.root.kind}:{self.root.name}:{self.port}:{self.chain}:{self.hostname}:{self.part}"


class VirtualHostPlanned(_OfHost, frozen=True, kw_only=True, tag="virtualhost_planned"):
    """The routes of one hostname in one chain of a listener, in order of precedence.  root: the Gateway.

    A request that no rule matches is answered with `status` (404; 421 where another listener of the port has the name).
    """

    owner: str
    parts: int = 1
    rules: tuple[ProxyRule, ...] = ()
    status: int = 404


class VirtualHostWithdrawn(_OfHost, frozen=True, kw_only=True, tag="virtualhost_withdrawn"):
    """The hostname is not served any more."""

    gone: ClassVar[bool] = True


class _OfUpstream(_PlanEvent, frozen=True, kw_only=True):
    kind: ClassVar[str] = "upstream"
    name: str  # Gateway, Service and port, protocol: "shop/edge shop/web:80 http1"

    def entity(self) -> tuple[str, str]:
        return self.name.partition("/")[0], self.name.partition("/")[2]


class UpstreamPlanned(_OfUpstream, frozen=True, kw_only=True, tag="upstream_planned"):
    """A Service's port as the proxy of a Gateway's listeners reaches it.  root: the Gateway."""

    owner: str
    sets: tuple[BackendSet, ...]  # one per family; their weights do not count
    protocol: str = "http1"  # http1, h2 (prior knowledge), tcp
    tls: UpstreamTls | None = None


class UpstreamWithdrawn(_OfUpstream, frozen=True, kw_only=True, tag="upstream_withdrawn"):
    """No rule refers to it any more."""

    gone: ClassVar[bool] = True


# ── status ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class _OfStatus(_PlanEvent, frozen=True, kw_only=True):
    kind: ClassVar[str] = "status"

    def entity(self) -> tuple[str, str]:
        return self.root.space, f"{self.root.kind}:{self.root.name}"


class GatewayStatusPlanned(_OfStatus, frozen=True, kw_only=True, tag="gateway_status_planned"):
    """Status of a Gateway or ListenerSet.  observedGeneration is root.generation everywhere."""

    owner: str
    addresses: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()
    listeners: tuple[ListenerStatus, ...] = ()
    listener_sets: int = 0  # attachedListenerSets


class RouteStatusPlanned(_OfStatus, frozen=True, kw_only=True, tag="route_status_planned"):
    """Status of a route by parent; of a policy by ancestor."""

    owner: str
    parents: tuple[ParentStatus, ...] = ()


class ClassStatusPlanned(_OfStatus, frozen=True, kw_only=True, tag="class_status_planned"):
    """Status of a GatewayClass."""

    owner: str
    conditions: tuple[Condition, ...] = ()
    features: tuple[str, ...] = ()  # supportedFeatures
