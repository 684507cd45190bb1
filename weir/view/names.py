"""Services by the names that people type: "namespace/name", or the name alone."""

from weir.decider import World
from weir.events import AnyEvent
from weir.model import shown
from weir.view.errors import Unanswerable

DEFAULT = "default"


def services_of(event: AnyEvent) -> set[str]:
    """Return the Services, "namespace/name", that `event` is about."""
    root = getattr(event, "root", None)
    owners = {getattr(event, "owner", ""), *getattr(event, "holders", ()), *({root.owner} if root else ())}
    found = {shown(owner) for owner in owners if owner.startswith("Service/")} | {getattr(event, "set", "").rsplit(":", 2)[0]}
    return found - {""}


def is_named(service: str, name: str) -> bool:
    """Whether `name`, with or without a namespace, is this Service's."""
    return name in (service, service.rpartition("/")[2])


def named(world: World, name: str) -> str:
    """Return the Service that `name` means; "" where none is known.  Raises Unanswerable where it is ambiguous.

    Without a namespace that is the one in "default", as kubectl takes it, or else the only one.
    """
    known = {service for fact in world.facts.values() for service in services_of(fact.event)}
    found = sorted(service for service in known if is_named(service, name))
    preferred = [service for service in found if service in (name, f"{DEFAULT}/{name}")] or found
    if len(preferred) > 1:
        raise Unanswerable(f"ambiguous name {name!r}: {', '.join(preferred)}")
    return preferred[0] if preferred else ""
