"""The plan for a proxy as Envoy's resources, each made from its own events alone, so that a change makes again what it concerns.  Pure."""

from collections.abc import Iterable, Mapping

import msgspec

from services.dataplane.l7.clusters import cluster, load_assignment
from services.dataplane.l7.listeners import listener, listener_name, routes_name
from services.dataplane.l7.protobuf import Files, Json
from services.dataplane.l7.routes import route_configuration, virtual_host
from weir.decider import Index, World
from weir.events import AnyEvent, BackendsPlanned, ListenerPlanned, UpstreamPlanned, VirtualHostPlanned
from weir.model import Backend, Chain


def chain_of(event: VirtualHostPlanned) -> str:
    """The route configuration that a virtual host is in."""
    return routes_name(f"{event.owner}:{event.port}", event.chain)


def _chains(event: AnyEvent) -> Iterable[str]:
    match event:
        case VirtualHostPlanned():
            return (chain_of(event),)
        case ListenerPlanned(chains=chains):
            return (routes_name(listener_name(event), chain.name) for chain in chains)
    return ()


def _host(event: AnyEvent) -> Iterable[str]:
    return (host_word(chain_of(event), event.hostname),) if isinstance(event, VirtualHostPlanned) else ()


def host_word(chain: str, hostname: str) -> str:
    """Under which the parts of a virtual host are found."""
    return f"{chain} {hostname}"


def _upstream_sets(event: AnyEvent) -> Iterable[str]:
    return (part.name for part in event.sets) if isinstance(event, UpstreamPlanned) else ()


def _listener(event: AnyEvent) -> Iterable[str]:
    return (listener_name(event),) if isinstance(event, ListenerPlanned) else ()


def _upstream(event: AnyEvent) -> Iterable[str]:
    return (event.name,) if isinstance(event, UpstreamPlanned) else ()


def _secrets(event: AnyEvent) -> Iterable[str]:
    match event:
        case ListenerPlanned(chains=chains):
            return {name for chain in chains for name in chain.certificates}
        case UpstreamPlanned(tls=tls) if tls and tls.client_certificate:
            return (tls.client_certificate,)
    return ()


INDEXES: Mapping[str, Index] = {
    "chain": _chains,
    "virtual host": _host,
    "listener": _listener,
    "upstream": _upstream,
    "upstream set": _upstream_sets,
    "secret": _secrets,
}


class Incomplete(LookupError):
    """A part of a list of rules is missing."""


class Resources(msgspec.Struct, frozen=True):
    """What Envoy is to have, by name; of each kind one file, or one file each."""

    listeners: dict[str, Json]
    routes: dict[str, Json]
    clusters: dict[str, Json]
    endpoints: dict[str, Json]
    secrets: tuple[str, ...]  # owner texts


def resources(world: World, node: str, files: Files) -> Resources:
    """Everything that is planned."""
    listeners = {listener_name(event): listener(event, files) for event in world.of(ListenerPlanned)}
    chains = [(event, chain) for event in world.of(ListenerPlanned) for chain in event.chains if chain.http]
    named = {routes_name(listener_name(event), chain.name): chain for event, chain in chains}
    upstreams = world.of(UpstreamPlanned)
    return Resources(
        listeners,
        {name: routes_of(world, name, chain) for name, chain in named.items()},
        {event.name: cluster(event, files) for event in upstreams},
        {event.name: load_assignment(event.name, backends_of(world, event), node) for event in upstreams},
        tuple(sorted(secrets_of(world))),
    )


def routes_of(world: World, name: str, chain: Chain) -> Json:
    """The route configuration of one chain.   name: of that."""
    scheme = "https" if chain.tls else "http"
    return route_configuration(name, [virtual_host(parts, newest, scheme) for parts, newest in hosts_of(world, name)])


def hosts_of(world: World, name: str) -> list[tuple[list[VirtualHostPlanned], int]]:
    """The virtual hosts of a route configuration: the parts of each in order, and the newest sequence among them."""
    hosts: dict[str, list[VirtualHostPlanned]] = {}
    for event in world.find("chain", name, VirtualHostPlanned):
        hosts.setdefault(event.hostname, []).append(event)
    return [(parts := complete(hosts[host]), max(map(world.seq, parts))) for host in sorted(hosts)]


def complete(parts: list[VirtualHostPlanned]) -> list[VirtualHostPlanned]:
    """The parts of one virtual host in order.  Raises Incomplete where one is missing."""
    held = {part.part: part for part in parts}
    if missing := [number for number in range(parts[0].parts) if number not in held]:
        raise Incomplete(f"{parts[0].hostname}: part {missing[0]} of {parts[0].parts} of its rules is missing")
    return [held[number] for number in range(parts[0].parts)]


def backends_of(world: World, upstream: UpstreamPlanned) -> list[Backend]:
    """The backends of an upstream, of all families and chunks."""
    found = ((part, chunk) for part in upstream.sets for chunk in world.find("set", part.name, BackendsPlanned))
    return [backend for part, chunk in found if chunk.chunks == part.chunks for backend in chunk.backends]


def secrets_of(world: World) -> dict[str, frozenset[str]]:
    """The Secrets that listeners and upstreams refer to, by owner text; with what changes when one of them does."""
    found: dict[str, frozenset[str]] = {}
    chains = (chain for event in world.of(ListenerPlanned) for chain in event.chains)
    pairs = [(name, chain.digests) for chain in chains for name in chain.certificates]
    pairs += [
        (tls.client_certificate, (tls.client_digest,))
        for event in world.of(UpstreamPlanned)
        if (tls := event.tls) and tls.client_certificate
    ]
    for name, digests in pairs:
        found[name] = found.get(name, frozenset()) | frozenset(digests)
    return found
