"""The indexes that the shared modules look events up by."""

from collections.abc import Iterable, Mapping

from weir.decider import BySequence, Index
from weir.events import (
    AnyEvent,
    BackendsPlanned,
    EndpointDown,
    EndpointSliceObserved,
    Event,
    FrontendPlanned,
    ListenerPlanned,
    ManifestRejected,
    Planned,
    PlannedStatus,
    ServiceObserved,
    UpstreamPlanned,
    VipAllocated,
    VipDenied,
    VipPlanned,
    VirtualHostPlanned,
    endpoints_of,
)
from weir.model import endpoint_name, service_of


def concerned(event: AnyEvent) -> Iterable[str]:
    """The owners that an observation or an allocation concerns."""
    match event:
        case EndpointSliceObserved():
            return (event.owner,)
        case VipAllocated(holders=holders):
            return holders
        case VipDenied(owner=owner):
            return (owner,)
        case ManifestRejected(owner=owner, root=root) if owner or root:
            return (owner or root.owner,)  # type: ignore[union-attr]
    return ()


def _planned(event: AnyEvent) -> Iterable[str]:
    return (event.planned_for(),) if isinstance(event, Planned) else ()


def _users(event: AnyEvent) -> Iterable[str]:
    """The Services whose backend sets an entry of another owner refers to."""
    if not isinstance(event, Planned) or not (sets := event.refers_to()):
        return ()
    return {service_of(part.name) for part in sets} - {event.planned_for()}


def _down_backend(event: AnyEvent) -> Iterable[str]:
    match event:
        case EndpointDown(address=address, port=port, protocol=protocol):
            return (endpoint_name(address, port, protocol),)
    return ()


def _suspected(event: AnyEvent) -> Iterable[str]:
    match event:
        case BackendsPlanned(backends=backends) if any(backend.down_on for backend in backends):
            return ("",)
    return ()


def _unconfirmed(event: AnyEvent) -> Iterable[str]:
    match event:
        case PlannedStatus() if event.is_pending() or event.is_unknown():
            return ("",)
    return ()


def _by_nodes(event: AnyEvent) -> Iterable[str]:
    """The cluster whose nodes decide on a Service's backends."""
    match event:
        case ServiceObserved(targets="nodes", root=root) | ServiceObserved(local=True, root=root):
            return (root.source,)
    return ()


ACKNOWLEDGED: tuple[type[Event], ...] = (  # what nodes acknowledge by its sequence
    *(FrontendPlanned, BackendsPlanned, VipPlanned),
    *(ListenerPlanned, VirtualHostPlanned, UpstreamPlanned),
)
INDEXES: Mapping[str, Index] = {
    "concerned": concerned,
    "planned": _planned,
    "users": _users,
    "backend": endpoints_of,
    "down": _down_backend,
    "suspected": _suspected,  # chunks with a backend that some node finds dead
    "unconfirmed": _unconfirmed,
    "acknowledged": BySequence(*ACKNOWLEDGED),
    "by nodes": _by_nodes,
}
