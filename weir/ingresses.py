"""Which IngressClass serves an Ingress, and what it refers to."""

from weir.decider import World
from weir.events import IngressClassObserved, IngressObserved, object_key
from weir.model import name_in, owner_at, owner_of


def class_of(world: World, ingress: IngressObserved) -> IngressClassObserved | None:
    """The class that the Ingress names, or else the default one of its source; of any controller, None where there is none."""
    source = ingress.root.source
    if not ingress.class_name:
        return default_class(world, source)
    found = world.get(object_key(f"IngressClass/{name_in(source, ingress.class_name)}"))
    return found if isinstance(found, IngressClassObserved) else None


def default_class(world: World, source: str) -> IngressClassObserved | None:
    """Of several the newest, then the first by name, as the API server's admission chooses."""
    found = [each for each in world.of(IngressClassObserved) if each.default and each.root.source == source]
    newest = max((each.root.created for each in found), default="")
    return min((each for each in found if each.root.created == newest), key=lambda each: each.root.name, default=None)


def needs(event: object) -> set[str]:
    """The Services and Secrets that an Ingress refers to, by owner.  An index of a world."""
    if not isinstance(event, IngressObserved):
        return set()
    services = {owner_at(event.root, ref) for ref in event.backends() if (ref.group, ref.kind) == ("", "Service")}
    return services | {owner_of("Secret", event.root.space, tls.secret) for tls in event.tls if tls.secret}
