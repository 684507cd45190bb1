"""Gateways and routes: what was planned for each, and what its status says."""

from collections.abc import Iterable, Iterator
from typing import Final

from weir.decider import World
from weir.events import (
    ROUTES,
    GatewayClassObserved,
    GatewayObserved,
    GatewayStatusPlanned,
    L7RouteObserved,
    ListenerPlanned,
    RouteObserved,
    RouteStatusPlanned,
    key,
    object_key,
)
from weir.model import Condition, Listener, ParentRef, ParentStatus, name_in, owner_at
from weir.view.value import View
from weir.words import few

GOOD_WHEN_FALSE: Final = ("Conflicted",)
SERVING: Final = "Serving"  # the state of what is as it should be


class GatewayView(View, frozen=True):
    """One Gateway, ListenerSet or IngressClass.  listeners: "http:80/HTTP".   routes: attached to all listeners together."""

    name: str
    kind: str
    vips: tuple[str, ...]
    listeners: tuple[str, ...]
    routes: int
    state: str
    message: str
    conditions: tuple[Condition, ...]

    @property
    def good(self) -> bool:
        return self.state == SERVING

    @property
    def programmed(self) -> bool:
        return any(each.type == "Programmed" and each.status for each in self.conditions)


class RouteView(View, frozen=True):
    """One route at one parent."""

    name: str
    kind: str
    hostnames: tuple[str, ...]
    parent: str
    state: str
    message: str
    conditions: tuple[Condition, ...]

    @property
    def good(self) -> bool:
        return self.state == SERVING


def gateways(world: World) -> list[GatewayView]:
    """Return each Gateway, ListenerSet and IngressClass that Weir serves, and Gateways of a class that does not exist, by name."""
    served = [_gateway(world, status) for status in world.of(GatewayStatusPlanned) if status.root.kind != "Ingress"]
    return sorted((*served, *_of_no_class(world)), key=lambda each: each.name)


def routes(world: World) -> list[RouteView]:
    """Return each route at each parent that Weir serves or that does not exist, by name.  Those of other controllers are left out."""
    planned = [status for status in world.of(RouteStatusPlanned) if status.root.kind.endswith("Route")]
    served = [_route(world, status, parent) for status in planned for parent in status.parents]
    return sorted((*served, *_of_no_parent(world)), key=lambda each: (each.name, each.kind))


def observed_routes(world: World) -> Iterator[RouteObserved]:
    """Yield every route of any kind and controller."""
    for kind in ROUTES:
        yield from world.of(kind)


def state_of(conditions: Iterable[Condition]) -> tuple[str, str]:
    """Return the reason and message of the first condition that is not as it should be."""
    failed = next((each for each in conditions if each.status == (each.type in GOOD_WHEN_FALSE)), None)
    return (failed.reason, failed.message) if failed else (SERVING, "")


def _of_no_class(world: World) -> Iterator[GatewayView]:
    """Gateways that no controller answers for."""
    for gateway in world.of(GatewayObserved):
        root = gateway.root
        if world.get(key(GatewayClassObserved.author, GatewayClassObserved.kind, "", name_in(root.source, gateway.class_name))):
            continue
        ours = [each.root.name for each in world.of(GatewayClassObserved) if each.ours and each.root.source == root.source]
        yield GatewayView(
            name=root.path,
            kind=root.kind,
            vips=(),
            listeners=_listeners(gateway.listeners),
            routes=0,
            state="NoGatewayClass",
            message=f"spec.gatewayClassName: got {gateway.class_name}, accepted: {few(ours) or 'a GatewayClass, of which there is none'}",
            conditions=(),
        )


def _of_no_parent(world: World) -> Iterator[RouteView]:
    """Routes at Gateways and ListenerSets that do not exist."""
    for route in observed_routes(world):
        for parent in route.parents:
            if parent.kind in ("Gateway", "ListenerSet") and not world.get(object_key(owner_at(route.root, parent))):
                known = few(each.root.path for each in world.of(GatewayObserved) if each.root.source == route.root.source)
                accepted = known or "a Gateway, of which there is none"
                yield RouteView(
                    name=route.root.path,
                    kind=route.root.kind,
                    hostnames=_hostnames(route),
                    parent=_named(parent),
                    state="NoMatchingParent",
                    message=f"spec.parentRefs: got {parent.kind} {parent.namespace}/{parent.name}, accepted: {accepted}",
                    conditions=(),
                )


def _listeners(listeners: Iterable[Listener]) -> tuple[str, ...]:
    return tuple(f"{each.name}:{each.port}/{each.protocol}" for each in listeners)


def _planned(world: World, owner: str) -> tuple[str, ...]:
    """The ports of an IngressClass, whose listeners are its Ingresses'."""
    ports = [each for each in world.of(ListenerPlanned) if each.owner == owner]
    words = ("https" if any(chain.tls for chain in each.chains) else "http" for each in ports)
    return tuple(f"{word}:{each.port}/{word.upper()}" for word, each in zip(words, ports, strict=True))


def _hostnames(route: object) -> tuple[str, ...]:
    return route.hostnames if isinstance(route, L7RouteObserved) else ()


def _named(parent: ParentRef) -> str:
    return f"{parent.namespace}/{parent.name}{f':{parent.section}' if parent.section else ''}"


def _gateway(world: World, status: GatewayStatusPlanned) -> GatewayView:
    observed = world.get(object_key(status.owner))
    listeners = _listeners(observed.listeners) if isinstance(observed, GatewayObserved) else _planned(world, status.owner)
    conditions = (*status.conditions, *(each for listener in status.listeners for each in listener.conditions))
    state, message = state_of(conditions)
    return GatewayView(
        name=status.root.path,
        kind=status.root.kind,
        vips=status.addresses,
        listeners=listeners,
        routes=sum(each.attached for each in status.listeners),
        state=state,
        message=message,
        conditions=status.conditions,
    )


def _route(world: World, status: RouteStatusPlanned, parent: ParentStatus) -> RouteView:
    state, message = state_of(parent.conditions)
    return RouteView(
        name=status.root.path,
        kind=status.root.kind,
        hostnames=_hostnames(world.get(object_key(status.owner))),
        parent=_named(parent.parent),
        state=state,
        message=message,
        conditions=parent.conditions,
    )
