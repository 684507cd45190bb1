"""What the owner of a Service is told.  `Programmed` comes from what the nodes read back, never from what was planned."""

from collections.abc import Iterable, Mapping, Sequence

from services.planner.l4.ports import other_holder
from services.planner.shared.nodes import is_local, unserved_local
from services.planner.shared.programmed import bounded, programmed, refusals_of, vip_planned
from weir.decider import World
from weir.events import (
    AnyEvent,
    EndpointSliceObserved,
    ManifestRejected,
    ServiceObserved,
    StatusPlanned,
    VipAllocated,
    VipDenied,
    key_of,
)
from weir.lbnodes import counted
from weir.model import Backend, Condition, Endpoint, Family, families_of, shown
from weir.words import few


def status_of(
    world: World, observed: ServiceObserved, vips: Sequence[str], planned: Sequence[AnyEvent], sets: Mapping[str, Sequence[Backend]]
) -> StatusPlanned:
    """The conditions of one Service.

    planned: the frontends and chunks it should have.   sets: the backends of each port and family, by how people call these.
    """
    service = observed.root.owner
    conditions = (
        _accepted(world, observed, service),
        _allocated(world, service),
        _serving(world, observed, sets, vips),
        _programmed(world, observed, planned),
    )
    return StatusPlanned(owner=service, vips=tuple(vips), conditions=conditions, root=observed.root)


def refused(world: World, service: str) -> list[AnyEvent]:
    """What is told of a Service that could never be read; nothing of one that nobody named."""
    rejected = [event for event in world.find("concerned", service, ManifestRejected) if event.root and event.root.kind == "Service"]
    roots = [event.root for event in rejected if event.root]
    if not roots:
        return []
    accepted = Condition(type="Accepted", status=False, reason="Invalid", message=_problems(rejected))
    programmed = Condition(type="Programmed", status=False, reason="NotAccepted", message="it could not be read yet")
    return [StatusPlanned(owner=service, vips=(), conditions=(accepted, programmed), root=roots[0])]


def unserved(world: World, observed: ServiceObserved, backends: Sequence[Backend]) -> tuple[str, str] | None:
    """Reason and message where no packet, or none to some port, can find an endpoint."""
    if observed.targets == "nodes":
        if unnumbered := [f"{port.port}/{port.protocol}" for port in observed.ports if not port.node_port]:
            ports = ", ".join(unnumbered)
            return (
                "NoNodePort",
                f"its targets are nodes, where without a nodePort nothing answers for {ports} (allocateLoadBalancerNodePorts)",
            )
        if not backends:
            return "NoNodes", _no_nodes(observed)
    answering = observed.targets == "endpoints" or any(endpoint.ready or endpoint.serving for endpoint in _endpoints(world, observed))
    return None if backends and answering else ("NoEndpoints", _no_endpoints(world, observed))


def _problems(rejected: Sequence[ManifestRejected]) -> str:
    return bounded([f"{event.source}: {problem}" for event in rejected for problem in event.problems])


def _accepted(world: World, observed: ServiceObserved, service: str) -> Condition:
    if rejected := world.find("concerned", service, ManifestRejected):
        own = any(event.root is None or event.root.kind == "Service" for event in rejected)  # of a slice, the rest may be in use
        message = f"{'what was valid before still serves; ' if own else ''}{_problems(rejected)}"
        return Condition(type="Accepted", status=False, reason="Invalid", message=message)
    if observed.unsupported:
        return Condition(type="Accepted", status=False, reason="Unsupported", message=bounded(map(str, observed.unsupported)))
    return Condition(type="Accepted", status=True, reason="Accepted")


def _allocated(world: World, service: str) -> Condition:
    denied = world.find("concerned", service, VipDenied)
    if denied:
        return Condition(type="Allocated", status=False, reason=denied[0].reason, message="; ".join(claim.message for claim in denied))
    vips = world.find("concerned", service, VipAllocated)
    if taken := [vip for vip in vips if vip.in_use_by and not vip.shared_with_node]:
        words = bounded([f"{vip.vip} is also {vip.in_use_by}; both stay until one is changed" for vip in taken])
        return Condition(type="Allocated", status=True, reason="AddressInUse", message=words)
    orphans = [vip for vip in vips if vip.orphaned]
    if orphans:
        words = bounded([f"{vip.vip} stays, though pool {vip.pool} does not offer it any more" for vip in orphans])
        return Condition(type="Allocated", status=True, reason="Orphaned", message=words)
    return Condition(type="Allocated", status=True, reason="Allocated")


def _serving(world: World, observed: ServiceObserved, sets: Mapping[str, Sequence[Backend]], vips: Sequence[str]) -> Condition:
    backends = [backend for found in sets.values() for backend in found]
    if not observed.ports:
        return Condition(type="Serving", status=False, reason="NoPorts", message="none of its ports can be served")
    if fault := unserved(world, observed, backends):
        return Condition(type="Serving", status=False, reason=fault[0], message=fault[1])
    if empty := [name for name, found in sets.items() if vips and not found]:
        words = f"no ready endpoint serves {', '.join(empty)}; the rest is served"
        return Condition(type="Serving", status=False, reason="NoEndpoints", message=words)
    if vips and is_local(world, observed) and not {backend.node for backend in backends} & {seen.node for seen in counted(world)}:
        words = "externalTrafficPolicy is Local, and no ready endpoint is on a node that forwards"
        return Condition(type="Serving", status=False, reason="NoLocalEndpoints", message=words)
    if vips and observed.targets == "endpoints" and (local := unserved_local(world, backends)):
        words = bounded([f"{node} gets no answer from backends at its own address {few(own)}" for node, own in local.items()])
        return Condition(type="Serving", status=False, reason="LocalBackends", message=words)
    states = {backend.state for backend in backends}
    if "down" in states and "active" not in states:
        return Condition(
            type="Serving", status=False, reason="AllDown", message="every probe fails; all backends get traffic as if all were up"
        )
    if closed := _closed(observed, vips):
        words = f"no client may connect over {' or '.join(closed)}: its source ranges are all of the other family"
        return Condition(type="Serving", status=len(closed) < len(families_of(vips)), reason="SourcesOfOneFamily", message=words)
    if strangers := _outside(world, observed):
        words = f"externalTrafficPolicy Local counts as Cluster: no Node has the name of an LB node ({few(strangers)})"
        return Condition(type="Serving", status=True, reason="LocalIgnored", message=words)
    return Condition(type="Serving", status=True, reason="Serving")


def _closed(observed: ServiceObserved, vips: Sequence[str]) -> list[Family]:
    """The families with a VIP and without a source range, where there are source ranges: as the nodes have it, nobody may connect."""
    return [family for family in families_of(vips) if observed.source_ranges and family not in families_of(observed.source_ranges)]


def _outside(world: World, observed: ServiceObserved) -> list[str]:
    """The nodes that forward, where the Service asks for endpoints of the node alone and none of them is a Node; else none."""
    if not observed.local or observed.targets == "nodes" or is_local(world, observed):
        return []
    return [seen.node for seen in counted(world)]


def _endpoints(world: World, observed: ServiceObserved) -> list[Endpoint]:
    return [each for found in world.find("concerned", observed.root.owner, EndpointSliceObserved) for each in found.endpoints]


def _no_nodes(observed: ServiceObserved) -> str:
    wanted = [f"the label {' or '.join(observed.node_labels)}"] if observed.node_labels else []
    wanted += ["a ready endpoint of this Service"] if observed.local else []
    return f"no ready node has an internal address of the VIP's family{''.join(f' and {each}' for each in wanted)}"


def _no_endpoints(world: World, observed: ServiceObserved) -> str:
    """Without a count: it would be told anew with each pod of a start."""
    endpoints = _endpoints(world, observed)
    if not world.find("concerned", observed.root.owner, EndpointSliceObserved):
        return "this Service has no EndpointSlice"
    if not endpoints:
        return "the EndpointSlices of this Service are empty: does its selector match any pod?"
    if not any(endpoint.ready for endpoint in endpoints):
        return "no endpoint of this Service is ready"
    ports = [f"{port.port}/{port.protocol}{f' (targetPort {port.target})' if port.target else ''}" for port in observed.ports]
    return f"no ready endpoint of this Service is of the VIP's family and has its ports: {bounded(ports)}"


def _programmed(world: World, observed: ServiceObserved, planned: Sequence[AnyEvent]) -> Condition:
    held = world.find("concerned", observed.root.owner, VipAllocated)
    found = programmed(world, observed.root.owner, [*planned, *map(vip_planned, held)], _obstacle(world, observed, held))
    if found.status and (refusals := refusals_of(world, key_of(observed))):
        return Condition(type="Programmed", status=True, reason="HealthPortUnserved", message=bounded(refusals))
    return found


def _obstacle(world: World, observed: ServiceObserved, held: Sequence[VipAllocated]) -> Condition | None:
    if not observed.ports:
        return Condition(type="Programmed", status=False, reason="NoPorts")
    if held_by_others := _ports_of_others(world, observed, held):
        return Condition(type="Programmed", status=False, reason="PortHeld", message=bounded(held_by_others))
    return None


def _ports_of_others(world: World, observed: ServiceObserved, vips: Iterable[VipAllocated]) -> list[str]:
    found = [(vip.vip, port, other_holder(world, observed, vip.vip, port)) for vip in vips for port in observed.ports]
    return [f"{vip} serves {port.port}/{port.protocol} for {shown(other)}" for vip, port, other in found if other]
