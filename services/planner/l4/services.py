"""The plan of a Service: frontends on its VIPs, the backend sets that these refer to, and its status."""

from collections.abc import Iterable, Mapping

from services.planner.l4.ports import other_holder, waiting_for_ports
from services.planner.l4.status import refused, status_of
from services.planner.shared.backends import backend_set, backends_of, probe_of
from services.planner.shared.nodes import is_local
from weir.decider import Change, Index, World
from weir.events import (
    AnyEvent,
    Event,
    FrontendPlanned,
    ManifestRejected,
    ServiceGone,
    ServiceObserved,
    VipAllocated,
    VipDenied,
    object_key,
)
from weir.model import Backend, BackendSet, Family, ServicePort, family_of

MODE_ASKED = "weir.dev/lbmode"


class Services:
    """The part that plans Services."""

    kinds = ("Service",)
    indexes: Mapping[str, Index] = {}
    subscribes: tuple[type[Event], ...] = ()

    def owners(self, world: World) -> list[str]:
        """All that were read, and those that could not be."""
        refusals = (event.root for event in world.of(ManifestRejected) if event.root and event.root.kind == "Service")
        return sorted({*(observed.root.owner for observed in world.of(ServiceObserved)), *(root.owner for root in refusals)})

    def touched(self, world: World, change: Change) -> set[str]:
        """The Service that changed, and those that wait for a port that it no longer serves."""
        match change.fact.event:
            case ServiceObserved(root=root) | ServiceGone(root=root):
                return {root.owner} | waiting_for_ports(world, root.owner, change.before, change.fact.event)
        return set()

    def plan(self, world: World, owner: str) -> list[AnyEvent]:
        """See `plan_service`."""
        return plan_service(world, owner)


def plan_service(world: World, service: str) -> list[AnyEvent]:
    """The plan of one Service: frontends, chunks of backends, status.  Empty when it is not exposed, or ipam has yet to decide."""
    observed = world.get(object_key(service))
    if observed is None:
        return refused(world, service)
    if not isinstance(observed, ServiceObserved) or not observed.exposed:
        return []
    vips = sorted(vip.vip for vip in world.find("concerned", service, VipAllocated))
    if not vips and not world.find("concerned", service, VipDenied):
        return []  # ipam has yet to decide: there is nothing to report
    events: list[AnyEvent] = []
    sets: dict[str, list[Backend]] = {}
    local = is_local(world, observed)
    families: set[Family] = {family_of(vip) for vip in vips} or {"IPv4", "IPv6"}
    for port in observed.ports:
        for family in sorted(families):
            backends = backends_of(world, observed, port, family, probed=bool(vips))
            sets[f"{port.port}/{port.protocol} over {family}"] = backends
            if ours := [vip for vip in vips if family_of(vip) == family and not other_holder(world, observed, vip, port)]:
                part, chunks = backend_set(observed, port, family, backends)
                events += [*chunks, *_frontends(observed, port, part, ours, local=local)]
    return [*events, status_of(world, observed, vips, events, sets)]


def _frontends(
    observed: ServiceObserved, port: ServicePort, part: BackendSet, vips: Iterable[str], *, local: bool
) -> list[FrontendPlanned]:
    """The frontend of a port on each VIP."""
    return [
        FrontendPlanned(
            vip=vip,
            port=port.port,
            protocol=port.protocol,
            owner=observed.root.owner,
            sets=(part,),
            mode="default" if local and MODE_ASKED not in observed.annotations else observed.mode,  # its replies come back through it
            algorithm=observed.algorithm,
            idle_timeout_s=observed.idle_timeout_s,
            sources=observed.source_ranges,
            no_backend=observed.no_backend,
            drain_timeout_s=observed.drain_timeout_s,
            affinity_s=observed.affinity_s,
            local=local,
            health_port=observed.health_port if local else 0,
            probe=probe_of(observed, port),
            root=observed.root,
        )
        for vip in vips
    ]
