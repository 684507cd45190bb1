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
    HomeNamed,
    ManifestAccepted,
    ManifestRejected,
    MapPressure,
    NodeAddressesObserved,
    NodeRetired,
    NodeSeen,
    StatusPlanned,
    VipAllocated,
    VipDenied,
    VipFreed,
    VipPlanned,
    VipReleased,
    VipTaken,
    VipWithdrawn,
)
from weir.model import (
    Backend,
    Condition,
    endpoint_name,
    shown,
)
from weir.words import few


def summary(event: AnyEvent) -> str:
    """Summarize an event: what happened to which object."""
    match event:
        case EpochStarted(writer=writer, host=host, pid=pid):
            return f"{writer} is process {pid} on {host}"
        case ManifestRejected(source=source, problems=problems):
            return f"{source}: {'; '.join(map(str, problems))}"
        case ManifestAccepted(source=source):
            return source
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
        case NodeSeen():
            return f"{event.node}: {event.hook} on {', '.join(event.interfaces)}"
        case NodeAddressesObserved(addresses=addresses, gateways=gateways):
            return f"{event.node} has {few(addresses) or 'no address'}; default gateway: {few(gateways) or 'none'}"
        case HomeNamed(cluster=cluster):
            return cluster
        case NodeRetired(lbnode=node, reason=reason):
            return f"{node}: {reason}"
        case AppliedThrough(node=node, seq=seq, writes=writes, rejected=rejected):
            return f"{node} holds the plan up to {seq}, {writes} map writes" + "".join(
                f"; refused {r.entity}: {r.reason}" for r in rejected
            )
        case VipTaken(node=node, vip=vip, interfaces=interfaces):
            return f"{node} announced {vip} on {', '.join(interfaces)}"
        case MapPressure(node=node, map=name, used_percent=percent):
            return f"{node}: {name} {percent} % full"
        case EndpointDown(reason=reason, failures=failures):
            return f"{endpoint_name(event.address, event.port, event.protocol)} on {event.node} after {failures} failures: {reason}"
        case EndpointUp(reason=reason):
            return f"{endpoint_name(event.address, event.port, event.protocol)} on {event.node}: {reason}"
    return event.summary()


def condition(found: Condition) -> str:
    """A condition in few words: `Programmed`, or `not Programmed (Pending: …)`."""
    if found.status:
        return found.type
    return f"not {found.type} ({': '.join(filter(None, (found.reason, found.message)))})"


def notes(conditions: Sequence[Condition]) -> list[str]:
    """Return the messages of true conditions whose reason is more than their type."""
    return [found.message for found in conditions if found.status and found.message and found.reason != found.type]


def _stated(backends: Sequence[Backend]) -> list[str]:
    return [" ".join(filter(None, (each.address, _state(each)))) for each in backends]


def _state(backend: Backend) -> str:
    if backend.down_on:
        return f"down on {', '.join(backend.down_on)}"
    return "" if backend.state == "active" else backend.state
