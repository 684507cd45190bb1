"""The plan: what nodes should hold, and what is reported of it.  Author: planner."""

from typing import ClassVar

from weir.events.base import Event
from weir.events.subjects import entity_for_object
from weir.model import Algorithm, Backend, BackendSet, Condition, Mode, NoBackend, Probe, Protocol, Root, endpoint_name, service_of


class Planned(Event, frozen=True, kw_only=True):
    """A part of the plan of one owner.  The planner withdraws what is no longer wanted by these methods alone."""

    author: ClassVar[str] = "planner"

    def planned_for(self) -> str:
        """The owner, such as "Service/shop/web"; of a backend set the Service whose endpoints it holds."""
        raise TypeError(f"{type(self).__name__} names no owner")

    def withdrawal(self) -> "Withdrawn":
        """The event that ends it."""
        raise TypeError(f"{type(self).__name__} has no withdrawal")

    def refers_to(self) -> tuple[BackendSet, ...]:
        """The backend sets that it needs: they are planned as long as it is."""
        return ()


class Withdrawn(Event, frozen=True, kw_only=True):
    """A part of the plan that ends."""

    author: ClassVar[str] = "planner"
    gone: ClassVar[bool] = True
    root: Root


class PlannedStatus(Planned, frozen=True, kw_only=True):
    """What is reported of an owner; nodes hold nothing of it."""

    kind: ClassVar[str] = "status"
    owner: str
    root: Root

    def entity(self) -> tuple[str, str]:
        return entity_for_object(self.root)

    def planned_for(self) -> str:
        return self.owner

    def withdrawal(self) -> "StatusWithdrawn":
        return StatusWithdrawn(owner=self.owner, root=self.root)

    def programmed(self) -> Condition | None:
        """Its condition Programmed, where it has one."""
        return None

    def is_pending(self) -> bool:
        """Whether it waits for nodes to confirm something."""
        condition = self.programmed()
        return condition is not None and condition.reason == "Pending"

    def is_unknown(self) -> bool:
        """Whether no node is heard that could confirm it."""
        condition = self.programmed()
        return condition is not None and condition.unknown


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


class AnnouncersPlanned(Planned, frozen=True, kw_only=True, tag="announcers_planned"):
    """Who announces a VIP: the first of `nodes` that is alive and ready, as they find among themselves by hellos.

    A VIP without it is announced by every node.
    """

    kind: ClassVar[str] = "announcers"
    vip: str
    nodes: tuple[str, ...]
    together: bool = False  # its pool's VIPs, and those of all pools that say so, have one announcer
    root: Root

    def entity(self) -> tuple[str, str]:
        return "", self.vip

    def planned_for(self) -> str:
        return f"VIP/{self.vip}"

    def withdrawal(self) -> "AnnouncersWithdrawn":
        return AnnouncersWithdrawn(vip=self.vip, root=self.root)


class AnnouncersWithdrawn(Withdrawn, frozen=True, kw_only=True, tag="announcers_withdrawn"):
    """There is no choice: one node announces the VIP, or it is withdrawn."""

    kind: ClassVar[str] = "announcers"
    vip: str

    def entity(self) -> tuple[str, str]:
        return "", self.vip


class FrontendPlanned(Planned, frozen=True, kw_only=True, tag="frontend_planned"):
    """VIP + port + protocol, and the backend sets that serve it."""

    kind: ClassVar[str] = "frontend"
    vip: str
    port: int
    protocol: Protocol
    owner: str  # who asks for it: "Service/shop/web"
    sets: tuple[BackendSet, ...]  # what serves it
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

    def planned_for(self) -> str:
        return self.owner

    def withdrawal(self) -> "FrontendWithdrawn":
        return FrontendWithdrawn(vip=self.vip, port=self.port, protocol=self.protocol, root=self.root)

    def refers_to(self) -> tuple[BackendSet, ...]:
        return self.sets


class FrontendWithdrawn(Withdrawn, frozen=True, kw_only=True, tag="frontend_withdrawn"):
    """The frontend is no more."""

    kind: ClassVar[str] = "frontend"
    vip: str
    port: int
    protocol: Protocol

    def entity(self) -> tuple[str, str]:
        return "", endpoint_name(self.vip, self.port, self.protocol)


class BackendsPlanned(Planned, frozen=True, kw_only=True, tag="backends_planned"):
    """One chunk of a backend set.  A backend's chunk follows from its address alone, so one flip rewrites one chunk.

    A set is planned once, while any entry of any owner refers to it.
    """

    kind: ClassVar[str] = "backends"
    set: str  # as `weir.model.set_name` gives it
    chunk: int
    chunks: int
    protocol: Protocol
    backends: tuple[Backend, ...]  # by address, then port
    root: Root

    def entity(self) -> tuple[str, str]:
        return self.set.partition("/")[0], f"{self.set.partition('/')[2]}:{self.chunk}of{self.chunks}"

    def planned_for(self) -> str:
        return service_of(self.set)

    def withdrawal(self) -> "BackendsWithdrawn":
        return BackendsWithdrawn(set=self.set, chunk=self.chunk, chunks=self.chunks, root=self.root)


class BackendsWithdrawn(Withdrawn, frozen=True, kw_only=True, tag="backends_withdrawn"):
    """The chunk is no more."""

    kind: ClassVar[str] = "backends"
    set: str
    chunk: int
    chunks: int

    def entity(self) -> tuple[str, str]:
        return self.set.partition("/")[0], f"{self.set.partition('/')[2]}:{self.chunk}of{self.chunks}"


class StatusPlanned(PlannedStatus, frozen=True, kw_only=True, tag="status_planned"):
    """Status of a Service.  `programmed` only from what nodes have read back."""

    vips: tuple[str, ...]
    conditions: tuple[Condition, ...]

    def programmed(self) -> Condition | None:
        return programmed_of(self.conditions)


class StatusWithdrawn(Withdrawn, frozen=True, kw_only=True, tag="status_withdrawn"):
    """There is nothing to tell: the Service is gone or no longer exposed."""

    kind: ClassVar[str] = "status"
    owner: str

    def entity(self) -> tuple[str, str]:
        return entity_for_object(self.root)


def programmed_of(conditions: tuple[Condition, ...]) -> Condition | None:
    return next((each for each in conditions if each.type == "Programmed"), None)


def endpoints_of(event: Event) -> list[str]:
    """Names of the backends in a planned chunk, none in any other event."""
    match event:
        case BackendsPlanned(backends=backends, protocol=protocol):
            return [endpoint_name(backend.address, backend.port, protocol) for backend in backends]
    return []
