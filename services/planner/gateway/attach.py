"""Which routes attach to which listeners, and why others do not."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from services.planner.gateway.hostnames import common
from services.planner.gateway.listeners import Entry, chosen, entries_of, gateway_of
from services.planner.gateway.references import GROUP, Fault
from weir.decider import World
from weir.events import GatewayObserved, ListenerSetObserved, RouteObserved, object_key
from weir.model import ParentRef, Root, owner_at
from weir.words import few


class Attached(NamedTuple):
    """A route on a listener, and the hostnames that it serves there."""

    entry: Entry
    route: RouteObserved
    hostnames: tuple[str, ...]


def hostnames_of(route: RouteObserved) -> tuple[str, ...]:
    """Those of kinds that have them, in lower case."""
    return tuple(name.lower() for name in getattr(route, "hostnames", ()))


def parent_gateway(world: World, root: Root, parent: ParentRef) -> GatewayObserved | None:
    """The Gateway that a parent reference means, directly or by a ListenerSet."""
    if parent.group != GROUP or parent.kind not in ("Gateway", "ListenerSet"):
        return None
    found = world.get(object_key(owner_at(root, parent)))
    if isinstance(found, ListenerSetObserved):
        return gateway_of(world, found)
    return found if isinstance(found, GatewayObserved) else None


def attach(world: World, route: RouteObserved, parent: ParentRef, entries: Iterable[Entry]) -> tuple[list[Attached], Fault | None]:
    """The listeners of one parent that take the route; where none does, why.

    entries: of the parent's Gateway.
    """
    of_parent = [entry for entry in entries if (entry.root.kind, entry.root.namespace, entry.root.name) == _named(parent)]
    meant = [entry for entry in of_parent if _is_meant(entry, parent)]
    if not meant:
        return [], Fault("NoMatchingParent", _missing(parent, of_parent))
    kind = route.root.kind
    allowed = [e for e in meant if kind in e.kinds and chosen(world, e.listener.namespaces, e.root, route.root)]
    if not allowed:
        return [], Fault("NotAllowedByListeners", f"no listener allows {kind} from namespace {route.root.namespace}")
    taken = [Attached(entry, route, tuple(common(entry.listener.hostname.lower(), hostnames_of(route)))) for entry in allowed]
    if not any(each.hostnames for each in taken):
        return [], Fault("NoMatchingListenerHostname", "no listener has a hostname in common with the route")
    return [each for each in taken if each.hostnames], None


def routes_of(world: World, gateway: GatewayObserved) -> list[RouteObserved]:
    """Every route that names the Gateway or one of its ListenerSets: oldest first, then by name."""
    parents = [gateway.root.owner, *(found.root.owner for found in world.find("parent", gateway.root.owner, ListenerSetObserved))]
    routes = {route.root.owner: route for parent in parents for route in world.find("parent", parent, RouteObserved)}
    return sorted(routes.values(), key=lambda route: (route.root.created, route.root.space, route.root.name))


def attachments(world: World, gateway: GatewayObserved, entries: Sequence[Entry] | None = None) -> list[Attached]:
    """Every route on every listener of the Gateway, each once, in order of precedence."""
    entries = entries_of(world, gateway) if entries is None else entries
    found: dict[tuple[int, str], Attached] = {}
    for route in routes_of(world, gateway):
        for parent in route.parents:
            if parent_gateway(world, route.root, parent) is not gateway:
                continue
            for each in attach(world, route, parent, entries)[0]:
                found.setdefault((id(each.entry), route.root.owner), each)
    return list(found.values())


def _named(parent: ParentRef) -> tuple[str, str, str]:
    return parent.kind, parent.namespace, parent.name


def _is_meant(entry: Entry, parent: ParentRef) -> bool:
    return parent.section in ("", entry.listener.name) and parent.port in (0, entry.listener.port)


def _missing(parent: ParentRef, of_parent: Sequence[Entry]) -> str:
    words = [f"named {parent.section}" if parent.section else "", f"on port {parent.port}" if parent.port else ""]
    missing = f"{parent.kind} {parent.namespace}/{parent.name} has no listener {' '.join(filter(None, words))}".rstrip()
    return f"{missing}; it has {few(f'{each.listener.name} on {each.listener.port}' for each in of_parent)}" if of_parent else missing
