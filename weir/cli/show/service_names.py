"""Services by the names that people type: "namespace/name", or the name alone."""

from weir.cli.log.history import Unanswerable
from weir.decider import World
from weir.events import AnyEvent, EndpointSliceObserved

DEFAULT = "default"


def services_of(event: AnyEvent) -> set[str]:
    """The Services, "namespace/name", that `event` is about."""
    root, name = getattr(event, "root", None), getattr(event, "service", "")
    found = {*getattr(event, "services", ()), getattr(event, "set", "").rsplit(":", 2)[0]}
    found.add(f"{root.namespace}/{name}" if isinstance(event, EndpointSliceObserved) and root else name)
    return (found | ({root.path} if root and root.kind == "Service" else set())) - {""}


def is_named(service: str, name: str) -> bool:
    """Whether `name`, with or without a namespace, is this Service's."""
    return name in (service, service.rpartition("/")[2])


def named(world: World, name: str) -> str:
    """The Service that `name` means; "" where none is known.  Raises Unanswerable where it may mean several.

    Without a namespace that is the one in "default", as kubectl takes it, or else the only one.
    """
    known = {service for fact in world.facts.values() for service in services_of(fact.event)}
    found = sorted(service for service in known if is_named(service, name))
    preferred = [service for service in found if service in (name, f"{DEFAULT}/{name}")] or found
    if len(preferred) > 1:
        raise Unanswerable(f"several Services are called {name!r}: {', '.join(preferred)}")
    return preferred[0] if preferred else ""
