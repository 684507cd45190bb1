"""Gateways and routes: what was planned for each, and what its status says."""

from collections.abc import Iterable

from weir.decider import World
from weir.events import GatewayObserved, GatewayStatusPlanned, L7RouteObserved, RouteStatusPlanned, object_key
from weir.model import Condition, ParentStatus
from weir.view.value import View

GOOD_WHEN_FALSE = ("Conflicted",)


class GatewayView(View, frozen=True):
    """One Gateway or ListenerSet.  listeners: "http:80/HTTP".   routes: attached to all listeners together."""

    name: str
    kind: str
    vips: tuple[str, ...]
    listeners: tuple[str, ...]
    routes: int
    state: str
    message: str
    conditions: tuple[Condition, ...]


class RouteView(View, frozen=True):
    """One route at one parent."""

    name: str
    kind: str
    hostnames: tuple[str, ...]
    parent: str
    state: str
    message: str
    conditions: tuple[Condition, ...]


def gateways(world: World) -> list[GatewayView]:
    """Return each Gateway and ListenerSet that Weir serves, by name."""
    return [_gateway(world, status) for status in sorted(world.of(GatewayStatusPlanned), key=lambda status: status.root.path)]


def routes(world: World) -> list[RouteView]:
    """Return each route at each parent that Weir serves, by name."""
    found = sorted(world.of(RouteStatusPlanned), key=lambda status: (status.root.path, status.root.kind))
    return [_route(world, status, parent) for status in found for parent in status.parents if status.root.kind.endswith("Route")]


def _gateway(world: World, status: GatewayStatusPlanned) -> GatewayView:
    observed = world.get(object_key(status.owner))
    listeners = observed.listeners if isinstance(observed, GatewayObserved) else ()
    conditions = (*status.conditions, *(each for listener in status.listeners for each in listener.conditions))
    state, message = _state(conditions)
    return GatewayView(
        name=status.root.path,
        kind=status.root.kind,
        vips=status.addresses,
        listeners=tuple(f"{each.name}:{each.port}/{each.protocol}" for each in listeners),
        routes=sum(each.attached for each in status.listeners),
        state=state,
        message=message,
        conditions=status.conditions,
    )


def _route(world: World, status: RouteStatusPlanned, parent: ParentStatus) -> RouteView:
    observed = world.get(object_key(status.owner))
    state, message = _state(parent.conditions)
    section = f":{parent.parent.section}" if parent.parent.section else ""
    return RouteView(
        name=status.root.path,
        kind=status.root.kind,
        hostnames=observed.hostnames if isinstance(observed, L7RouteObserved) else (),
        parent=f"{parent.parent.namespace}/{parent.parent.name}{section}",
        state=state,
        message=message,
        conditions=parent.conditions,
    )


def _state(conditions: Iterable[Condition]) -> tuple[str, str]:
    """The reason and message of the first condition that is not as it should be."""
    failed = next((each for each in conditions if each.status == (each.type in GOOD_WHEN_FALSE)), None)
    return (failed.reason, failed.message) if failed else ("Serving", "")
