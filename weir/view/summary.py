"""Events and conditions in one line of text."""

from collections.abc import Sequence

from weir.events import (
    AnyEvent,
    AppliedThrough,
    BackendsPlanned,
    BackendsWithdrawn,
    ClaimSettled,
    EndpointDown,
    EndpointUp,
    EpochStarted,
    FrontendPlanned,
    FrontendWithdrawn,
    GatewayObserved,
    GatewayStatusPlanned,
    HomeNamed,
    ListenerPlanned,
    ManifestAccepted,
    ManifestRejected,
    MapPressure,
    NodeAddressesObserved,
    NodeRetired,
    NodeSeen,
    RouteStatusPlanned,
    StatusPlanned,
    VipAllocated,
    VipDenied,
    VipFreed,
    VipPlanned,
    VipReleased,
    VipTaken,
    VipWithdrawn,
    VirtualHostPlanned,
)
from weir.model import (
    Backend,
    Condition,
    endpoint_name,
    shown,
)
from weir.view.gateways import GOOD_WHEN_FALSE
from weir.words import few


def summary(event: AnyEvent) -> str:
    """Summarize an event: what happened to which object."""
    return _of_manifests(event) or _of_vips(event) or _of_plan(event) or _of_gateways(event) or _of_nodes(event) or event.summary()


def _of_manifests(event: AnyEvent) -> str:
    match event:
        case ManifestRejected(source=source, problems=problems):
            return f"{source}: {'; '.join(map(str, problems))}"
        case ManifestAccepted(source=source):
            return source
        case HomeNamed(cluster=cluster):
            return cluster
        case GatewayObserved(listeners=listeners):
            named = few(f"{each.name}:{each.port}/{each.protocol}" for each in listeners)
            return f"{event.summary()}, class {event.class_name}, listeners {named or 'none'}"
    return ""


def _of_vips(event: AnyEvent) -> str:
    match event:
        case VipAllocated(in_use_by=in_use_by) if in_use_by:
            return f"{event.vip} of pool {event.pool}, {', '.join(map(shown, event.holders))}; it is also {in_use_by}"
        case VipAllocated() | VipReleased() | VipFreed():
            return f"{event.vip} of pool {event.pool}, {', '.join(map(shown, event.holders))}"
        case VipDenied():
            return f"{shown(event.owner)} {event.family}: {event.reason}: {event.message}"
        case ClaimSettled(owner=owner, family=family):
            return f"{shown(owner)} {family}"
        case VipPlanned(vip=vip, shared_with_node=shared):
            return f"{vip}, shared with its node by ports" if shared else vip
        case VipWithdrawn(vip=vip, release=release):
            return f"{vip}, released by {release}"
    return ""


def _of_plan(event: AnyEvent) -> str:
    match event:
        case FrontendPlanned():
            return f"{endpoint_name(event.vip, event.port, event.protocol)} for {shown(event.owner)}, {event.algorithm}, {event.mode}"
        case FrontendWithdrawn(vip=vip, port=port, protocol=protocol):
            return endpoint_name(vip, port, protocol)
        case BackendsPlanned(backends=backends):
            return f"{event.set}: {few(_stated(backends)) or 'none'}"
        case BackendsWithdrawn():
            return event.set
        case StatusPlanned(owner=owner, conditions=conditions):
            return f"{shown(owner)}: {', '.join(condition(c) for c in conditions)}"
    return ""


def _of_gateways(event: AnyEvent) -> str:
    match event:
        case ListenerPlanned(chains=chains):
            return f"{shown(event.owner)} port {event.port}: {few(each.name for each in chains)}"
        case VirtualHostPlanned(rules=rules):
            routes = few(dict.fromkeys(each.route for each in rules))
            return f"{event.root.path} port {event.port}, {event.hostname}: {len(rules)} rules of {routes or 'no route'}"
        case GatewayStatusPlanned(conditions=conditions, listeners=listeners):
            wrong = [f"{each.name}: {faults}" for each in listeners if (faults := _faults(each.conditions))]
            return f"{shown(event.owner)}: {'; '.join([', '.join(map(condition, conditions)), *wrong])}"
        case RouteStatusPlanned(parents=parents):
            stated = (f"{each.parent.namespace}/{each.parent.name}: {', '.join(map(condition, each.conditions))}" for each in parents)
            return f"{shown(event.owner)} at {'; '.join(stated) or 'no parent'}"
    return ""


def _of_nodes(event: AnyEvent) -> str:
    match event:
        case EpochStarted(writer=writer, host=host, pid=pid):
            return f"{writer} is process {pid} on {host}"
        case NodeSeen():
            return f"{event.node}: {event.hook} on {', '.join(event.interfaces)}"
        case NodeAddressesObserved(addresses=addresses, gateways=gateways):
            return f"{event.node} has {few(addresses) or 'no address'}; default gateway: {few(gateways) or 'none'}"
        case NodeRetired(lbnode=node, reason=reason):
            return f"{node}: {reason}"
        case AppliedThrough(node=node, seq=seq, writes=writes, rejected=rejected):
            refused = "".join(f"; refused {r.entity}: {r.reason}" for r in rejected)
            return f"{node} holds the plan up to {seq}, {writes} map writes{refused}"
        case VipTaken(node=node, vip=vip, interfaces=interfaces):
            return f"{node} announced {vip} on {', '.join(interfaces)}"
        case MapPressure(node=node, map=name, used_percent=percent):
            return f"{node}: {name} {percent} % full"
        case EndpointDown(reason=reason, failures=failures):
            return f"{endpoint_name(event.address, event.port, event.protocol)} on {event.node} after {failures} failures: {reason}"
        case EndpointUp(reason=reason):
            return f"{endpoint_name(event.address, event.port, event.protocol)} on {event.node}: {reason}"
    return ""


def condition(found: Condition) -> str:
    """A condition in few words: `Programmed`, or `not Programmed (Pending: …)`."""
    if found.status:
        return found.type
    return f"not {found.type} ({': '.join(filter(None, (found.reason, found.message)))})"


def _faults(conditions: Sequence[Condition]) -> str:
    """Of a listener: what is not as it should be; Conflicted is true where it is not."""
    return ", ".join(
        each.reason if each.status else condition(each) for each in conditions if each.status == (each.type in GOOD_WHEN_FALSE)
    )


def notes(conditions: Sequence[Condition]) -> list[str]:
    """Return the messages of true conditions whose reason is more than their type."""
    return [found.message for found in conditions if found.status and found.message and found.reason != found.type]


def _stated(backends: Sequence[Backend]) -> list[str]:
    return [" ".join(filter(None, (each.address, _state(each)))) for each in backends]


def _state(backend: Backend) -> str:
    if backend.down_on:
        return f"down on {', '.join(backend.down_on)}"
    return "" if backend.state == "active" else backend.state
