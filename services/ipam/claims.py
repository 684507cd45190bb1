"""What a Gateway asks for, in the terms of a Service: the one file of ipam that knows both."""

from collections.abc import Iterable

from weir.decider import World
from weir.events import AnyEvent, GatewayClassObserved, GatewayObserved, ServiceObserved, key, object_key
from weir.model import ServicePort, families_of, name_in, parse_address


def claim_of(world: World, owner: str) -> ServiceObserved | None:
    """What the owner asks for; None where that is nothing."""
    event = world.get(object_key(owner))
    if isinstance(event, GatewayObserved):
        found = world.get(key("watcher", "gatewayclass", "", name_in(event.root.source, event.class_name)))
        return of_gateway(event) if isinstance(found, GatewayClassObserved) and found.ours else None
    return event if isinstance(event, ServiceObserved) and event.exposed else None


def of_gateway(event: GatewayObserved) -> ServiceObserved:
    """Its addresses by name, and one of any kind where it names none or an empty value; on the ports of its listeners."""
    named = tuple(str(found) for each in event.addresses if (found := parse_address(each.value)) and each.type == "IPAddress")
    annotated = event.requested
    ports = sorted({(each.port, "UDP" if each.protocol == "UDP" else "TCP") for each in event.listeners})
    return ServiceObserved(
        root=event.root,
        exposed=not event.parameters and all(each.type == "IPAddress" for each in event.addresses),
        ports=tuple(ServicePort(port=port, protocol=protocol) for port, protocol in ports),
        families=tuple(families_of(named)),
        requested=named,
        pools=_words(annotated.get("weir.dev/pool", "")),
        share_key=annotated.get("weir.dev/share-key", ""),
        labels=event.labels,
    )


def owners_touched(world: World, event: AnyEvent) -> Iterable[str]:
    """The Gateways whose claim an event may change."""
    match event:
        case GatewayClassObserved(root=root):
            of_class = (each for each in world.of(GatewayObserved) if (each.root.source, each.class_name) == (root.source, root.name))
            return sorted(each.root.owner for each in of_class)
    return ()


def requested_by(event: AnyEvent) -> Iterable[str]:
    """The addresses that a Service or Gateway asks for by name."""
    if isinstance(event, GatewayObserved):
        event = of_gateway(event)
    return (*event.requested, *event.more_requested) if isinstance(event, ServiceObserved) else ()


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for each in text.split(",") if (word := each.strip()))
