"""Ingresses in the terms of the Gateway API.  Pure.

An IngressClass of ours is a Gateway with one HTTP listener; an Ingress is a ListenerSet, with an HTTPS listener for each of its TLS
hosts, and a route for each of its hosts.  Only hostnames differ: a wildcard of an Ingress stands for exactly one label.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from msgspec.structs import replace

from services.planner.gateway.attach import Attached
from services.planner.gateway.hostnames import ANY
from services.planner.gateway.listeners import Entry
from services.planner.gateway.plan import Plan
from weir.decider import World
from weir.events import GatewayObserved, HttpRouteObserved, IngressClassObserved, IngressObserved, ListenerSetObserved
from weir.ingresses import class_of, default_class
from weir.model import Listener, ListenerTls, Match, ObjectRef, ParentRef, Root, RouteRule, ValueMatch, name_in

_HTTP: Final = Listener(name="http", port=80, protocol="HTTP")
_DEFAULT: Final = "?"  # stands for the default class, as no class is called so
_LAST: Final = "~"  # sorts behind every time of creation


def gateway_of(found: IngressClassObserved) -> GatewayObserved:
    """The class as a Gateway."""
    return GatewayObserved(root=found.root, class_name=found.root.name, listeners=(_HTTP,), parameters=found.parameters)


def by_class_name(event: object) -> Iterable[str]:
    """The class that an Ingress names.  An index of a world."""
    return (name_in(event.root.source, event.class_name or _DEFAULT),) if isinstance(event, IngressObserved) else ()


def naming(world: World, root: Root) -> list[IngressObserved]:
    """The Ingresses of a source that name a class, and those that name none.   root: of the class."""
    words = (root.path, name_in(root.source, _DEFAULT))
    return [each for word in words for each in world.find("class name", word, IngressObserved)]


def ingresses_of(world: World, found: IngressClassObserved) -> list[IngressObserved]:
    """The Ingresses of a class: oldest first, then by name."""
    is_default = default_class(world, found.root.source) is found
    own = [each for each in naming(world, found.root) if each.class_name or is_default]
    return sorted(own, key=lambda each: (each.root.created, each.root.path))


def served_by(world: World, ingress: IngressObserved) -> IngressClassObserved | None:
    """The class that serves the Ingress, where it is one of ours."""
    found = class_of(world, ingress)
    return found if found and found.ours else None


def plan_of(world: World, found: IngressClassObserved) -> Plan:
    """What is planned for a class of ours."""
    gateway, ingresses = gateway_of(found), ingresses_of(world, found)
    entries = [Entry(world, gateway, gateway, _HTTP), *_secure(world, gateway, ingresses)]
    return Plan(world, gateway, entries, _attached(entries, ingresses))


# ── listeners ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _secure(world: World, gateway: GatewayObserved, ingresses: Iterable[IngressObserved]) -> list[Entry]:
    """One for each TLS host.  Of several Ingresses that have one host, the oldest one's certificate is served."""
    found: dict[str, Entry] = {}
    for ingress in ingresses:
        for entry in entries_of(world, gateway, ingress):
            found.setdefault(entry.listener.hostname, entry)
    return list(found.values())


def entries_of(world: World, gateway: GatewayObserved, ingress: IngressObserved) -> list[Entry]:
    """The HTTPS listeners that an Ingress asks for."""
    parent = ParentRef(name=gateway.root.name, namespace="", kind=gateway.root.kind)
    holder = ListenerSetObserved(root=ingress.root, parent=parent)
    return [
        Entry(world, gateway, holder, _https(ingress.root, host, tls.secret))
        for tls in ingress.tls
        if tls.secret
        for host in tls.hosts or (ANY,)
    ]


def _https(root: Root, host: str, secret: str) -> Listener:
    certificate = ObjectRef(kind="Secret", name=secret, namespace=root.namespace)
    return Listener(name=host or "any", port=443, protocol="HTTPS", hostname=host, tls=ListenerTls(certificates=(certificate,)))


# ── routes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def routes_of(ingress: IngressObserved) -> list[HttpRouteObserved]:
    """A route for each host, and one at each host, and at any, for what no rule of any Ingress takes there."""
    rules: dict[str, list[RouteRule]] = {}
    for i, rule in enumerate(ingress.rules):
        rules.setdefault(rule.host, []).extend(
            RouteRule(name=f"rules[{i}].paths[{j}]", matches=(replace(_match(rule.host), path=each.path),), backends=(each.backend,))
            for j, each in enumerate(rule.paths)
        )
    routes = [HttpRouteObserved(root=ingress.root, hostnames=(host,), rules=tuple(of_host)) for host, of_host in rules.items() if of_host]
    if ingress.default_backend:
        last = replace(ingress.root, created=_LAST + ingress.root.created)
        for host in dict.fromkeys((*rules, ANY)):
            taken = RouteRule(name="defaultBackend", matches=(_match(host),), backends=(ingress.default_backend,))
            routes.append(HttpRouteObserved(root=last, hostnames=(host,), rules=(taken,)))
    return routes


def _match(host: str) -> Match:
    """A proxy takes a wildcard for any number of labels; what has more than one is left to the wider hosts."""
    if not host.startswith("*."):
        return Match()
    return Match(headers=(ValueMatch(name="host", kind="RegularExpression", value=rf"(?i)[^.]+{re.escape(host[1:])}(:[0-9]+)?"),))


def _attached(entries: Iterable[Entry], ingresses: Iterable[IngressObserved]) -> list[Attached]:
    """Every route on every listener whose hostname it may be asked for."""
    by_host: dict[str, list[HttpRouteObserved]] = {}
    for ingress in ingresses:
        for route in routes_of(ingress):
            by_host.setdefault(route.hostnames[0], []).append(route)
    return [
        Attached(entry, route, (host,))
        for entry in entries
        if entry.serves
        for host in _hosts_at(entry.listener.hostname, by_host)
        for route in by_host[host]
    ]


def _hosts_at(hostname: str, hosts: Collection[str]) -> Sequence[str]:
    """Those of `hosts` that have names in common with the hostname of a listener."""
    if hostname == ANY:
        return list(hosts)
    if hostname.startswith("*."):
        return [host for host in hosts if host in (ANY, hostname) or _wildcard(host) == hostname]
    return [host for host in (hostname, _wildcard(hostname), ANY) if host in hosts]


def _wildcard(host: str) -> str:
    """The wildcard that stands for the host: "*.example.com" for "shop.example.com"."""
    return f"*.{host.partition('.')[2]}"
