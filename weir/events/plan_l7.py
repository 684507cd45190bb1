"""The plan for the proxy of each LB node, and the status of the Gateway API's objects.  Author: planner."""

from typing import ClassVar

from weir.events.plan import Planned, PlannedStatus, Withdrawn, programmed_of
from weir.events.subjects import entity_for_object
from weir.model import BackendSet, Chain, Condition, ListenerStatus, ParentStatus, Probe, ProxyRule, Root, UpstreamTls


class _Owned(Planned, frozen=True, kw_only=True):
    owner: str  # "Gateway/shop/edge", "IngressClass/weir"
    root: Root

    def planned_for(self) -> str:
        return self.owner


def _part_of(root: Root, *words: object) -> tuple[str, str]:
    """The entity of a part of what is planned for a Gateway or IngressClass."""
    namespace, name = entity_for_object(root)
    return namespace, ":".join((name, *map(str, words)))


class ListenerPlanned(_Owned, frozen=True, kw_only=True, tag="listener_planned"):
    """A port of a Gateway's VIPs that the proxy serves.  root: the Gateway."""

    kind: ClassVar[str] = "listener"
    port: int
    vips: tuple[str, ...]
    chains: tuple[Chain, ...]  # a connection takes the one with the most specific server name

    def entity(self) -> tuple[str, str]:
        return _part_of(self.root, self.port)

    def withdrawal(self) -> "ListenerWithdrawn":
        return ListenerWithdrawn(port=self.port, root=self.root)


class ListenerWithdrawn(Withdrawn, frozen=True, kw_only=True, tag="listener_withdrawn"):
    """The proxy does not serve the port any more."""

    kind: ClassVar[str] = "listener"
    port: int

    def entity(self) -> tuple[str, str]:
        return _part_of(self.root, self.port)


class VirtualHostPlanned(_Owned, frozen=True, kw_only=True, tag="virtualhost_planned"):
    """The routes of one hostname in one chain of a listener, in order of precedence.  root: the Gateway.

    A request that no rule matches is answered with `status` (404; 421 where another listener of the port has the name).
    """

    kind: ClassVar[str] = "virtualhost"
    port: int
    chain: str
    hostname: str  # "*": all others
    part: int = 0  # long lists of rules come in several events
    parts: int = 1
    rules: tuple[ProxyRule, ...] = ()
    status: int = 404

    def entity(self) -> tuple[str, str]:
        return _part_of(self.root, self.port, self.chain, self.hostname, self.part)

    def withdrawal(self) -> "VirtualHostWithdrawn":
        return VirtualHostWithdrawn(port=self.port, chain=self.chain, hostname=self.hostname, part=self.part, root=self.root)


class VirtualHostWithdrawn(Withdrawn, frozen=True, kw_only=True, tag="virtualhost_withdrawn"):
    """The hostname is not served any more."""

    kind: ClassVar[str] = "virtualhost"
    port: int
    chain: str
    hostname: str
    part: int = 0

    def entity(self) -> tuple[str, str]:
        return _part_of(self.root, self.port, self.chain, self.hostname, self.part)


class UpstreamPlanned(_Owned, frozen=True, kw_only=True, tag="upstream_planned"):
    """A Service's port as the proxy of a Gateway's listeners reaches it.  root: the Gateway."""

    kind: ClassVar[str] = "upstream"
    name: str  # Gateway, Service and port, protocol: "shop/edge shop/web:80 http1"
    sets: tuple[BackendSet, ...]  # one per family; their weights do not count
    protocol: str = "http1"  # http1, h2 (prior knowledge), tcp
    tls: UpstreamTls | None = None
    probe: Probe | None = None  # how its backends are asked whether they live; None: not at all

    def entity(self) -> tuple[str, str]:
        return self.root.space, self.name.removeprefix(f"{self.root.space}/")

    def withdrawal(self) -> "UpstreamWithdrawn":
        return UpstreamWithdrawn(name=self.name, root=self.root)

    def refers_to(self) -> tuple[BackendSet, ...]:
        return self.sets


class UpstreamWithdrawn(Withdrawn, frozen=True, kw_only=True, tag="upstream_withdrawn"):
    """No rule refers to it any more."""

    kind: ClassVar[str] = "upstream"
    name: str

    def entity(self) -> tuple[str, str]:
        return self.root.space, self.name.removeprefix(f"{self.root.space}/")


# ── status ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class GatewayStatusPlanned(PlannedStatus, frozen=True, kw_only=True, tag="gateway_status_planned"):
    """Status of a Gateway or ListenerSet, of an IngressClass and of each Ingress.  observedGeneration is root.generation everywhere."""

    addresses: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()
    listeners: tuple[ListenerStatus, ...] = ()
    listener_sets: int = 0  # attachedListenerSets

    def programmed(self) -> Condition | None:
        return programmed_of(self.conditions)


class RouteStatusPlanned(PlannedStatus, frozen=True, kw_only=True, tag="route_status_planned"):
    """Status of a route by parent; of a policy by ancestor."""

    parents: tuple[ParentStatus, ...] = ()


class ClassStatusPlanned(PlannedStatus, frozen=True, kw_only=True, tag="class_status_planned"):
    """Status of a GatewayClass."""

    conditions: tuple[Condition, ...] = ()
    features: tuple[str, ...] = ()  # supportedFeatures
