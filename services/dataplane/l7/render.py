"""Envoy's resources in JSON, kept between changes: a change makes again what it touches.  Pure.

What Envoy refused stays out until its events change: a rule answers 500, a listener or cluster stays as Envoy last took it.
"""

from collections.abc import Iterable, Iterator

import msgspec

from services.dataplane.l7.clusters import cluster, load_assignment
from services.dataplane.l7.listeners import listener, listener_name, routes_name
from services.dataplane.l7.protobuf import Files
from services.dataplane.l7.resources import backends_of, chain_of, complete, host_word
from services.dataplane.l7.routes import route_configuration, route_name, virtual_host
from weir.decider import Change, World
from weir.events import BackendsPlanned, Event, ListenerPlanned, UpstreamPlanned, VirtualHostPlanned
from weir.model import ProxyRule

_ENCODE = msgspec.json.Encoder().encode
Host = tuple[str, str]  # route configuration, hostname


class Touched:
    """What changes concern: names of listeners, virtual hosts, clusters, and of the clusters whose endpoints changed."""

    def __init__(self) -> None:
        self.listeners: set[str] = set()
        self.hosts: set[Host] = set()
        self.clusters: set[str] = set()
        self.endpoints: set[str] = set()

    @classmethod
    def by(cls, world: World, changes: Iterable[Change]) -> "Touched":
        """What `changes` touch; the world holds them already."""
        touched = cls()
        for change in changes:
            for event in (change.before, change.fact.event):
                touched.add(world, event)
        return touched

    @classmethod
    def all(cls, world: World) -> "Touched":
        """Everything that is planned."""
        touched = cls()
        for event in (*world.of(ListenerPlanned), *world.of(VirtualHostPlanned), *world.of(UpstreamPlanned)):
            touched.add(world, event)
        return touched

    def add(self, world: World, event: Event | None) -> None:
        """What an event concerns; it may be in the world no more."""
        match event:
            case ListenerPlanned():
                self.listeners.add(listener_name(event))
                names = [routes_name(listener_name(event), chain.name) for chain in event.chains]
                self.hosts |= {(name, host.hostname) for name in names for host in world.find("chain", name, VirtualHostPlanned)}
            case VirtualHostPlanned():
                self.hosts.add((chain_of(event), event.hostname))
            case UpstreamPlanned(name=name):
                self.clusters.add(name)
                self.endpoints.add(name)
            case BackendsPlanned(set=name):
                self.endpoints |= {upstream.name for upstream in world.find("upstream set", name, UpstreamPlanned)}

    def update(self, other: "Touched") -> None:
        """And what another touches."""
        self.listeners |= other.listeners
        self.hosts |= other.hosts
        self.clusters |= other.clusters
        self.endpoints |= other.endpoints

    def __bool__(self) -> bool:
        return bool(self.listeners or self.hosts or self.clusters or self.endpoints)


class Refused(msgspec.Struct, frozen=True):
    """What Envoy does not take, as it was then planned; it is tried again when that changes."""

    planned: ListenerPlanned | UpstreamPlanned | ProxyRule
    reason: str
    drop: bool = False  # a rule whose match is at fault: nothing of it can be kept


class Rendered:
    """The JSON of every resource by name, of virtual hosts by route configuration and hostname."""

    def __init__(self, node: str, files: Files) -> None:
        self._node, self._files = node, files
        self.listeners: dict[str, bytes] = {}
        self.hosts: dict[str, dict[str, bytes]] = {}
        self.rules: dict[Host, list[ProxyRule]] = {}
        self.clusters: dict[str, bytes] = {}
        self.endpoints: dict[str, bytes] = {}
        self.refused: dict[tuple[str, str], Refused] = {}  # "listener", "cluster" or a route configuration; and the name in it
        self.incomplete: dict[Host, str] = {}

    def names(self) -> Touched:
        """All that is rendered."""
        touched = Touched()
        touched.listeners.update(self.listeners)
        touched.hosts |= {(name, host) for name, hosts in self.hosts.items() for host in hosts}
        touched.clusters.update(self.clusters)
        touched.endpoints.update(self.endpoints)
        return touched

    def turn(self, world: World, touched: Touched) -> None:
        """Make again what `touched` names."""
        for name in touched.clusters:
            self._turn_cluster(world, name)
        for name in touched.endpoints:
            self._turn_endpoints(world, name)
        for name in touched.listeners:
            self._turn_listener(world, name)
        for name, hostname in touched.hosts:
            self.turn_host(world, name, hostname)

    def routes(self, name: str) -> bytes:
        """A route configuration."""
        hosts = self.hosts.get(name, {})
        return _ENCODE(route_configuration(name, [msgspec.Raw(hosts[host]) for host in sorted(hosts)]))

    def _turn_cluster(self, world: World, name: str) -> None:
        planned = next(iter(world.find("upstream", name, UpstreamPlanned)), None)
        if not planned:
            self.clusters.pop(name, None)
        elif not self._refuses("cluster", name, planned):
            self.clusters[name] = _ENCODE(cluster(planned, self._files))

    def _turn_endpoints(self, world: World, name: str) -> None:
        planned = next(iter(world.find("upstream", name, UpstreamPlanned)), None)
        if planned:
            self.endpoints[name] = _ENCODE(load_assignment(name, backends_of(world, planned), self._node))
        else:
            self.endpoints.pop(name, None)

    def _turn_listener(self, world: World, name: str) -> None:
        planned = next(iter(world.find("listener", name, ListenerPlanned)), None)
        held = {each for each in self.hosts if each.startswith(f"{name} ")}
        wanted = {routes_name(name, chain.name) for chain in planned.chains if chain.http} if planned else set[str]()
        for gone in held - wanted:
            for hostname in self.hosts.pop(gone):
                self.rules.pop((gone, hostname), None)
        for new in wanted - held:
            self.hosts[new] = {}
        if not planned:
            self.listeners.pop(name, None)
        elif not self._refuses("listener", name, planned):
            self.listeners[name] = _ENCODE(listener(planned, self._files))

    def turn_host(self, world: World, name: str, hostname: str) -> None:
        """Make one virtual host again."""
        if name not in self.hosts:  # its listener has gone
            return
        self.incomplete.pop((name, hostname), None)
        parts = world.find("virtual host", host_word(name, hostname), VirtualHostPlanned)
        if not parts:
            self.hosts[name].pop(hostname, None)
            self.rules.pop((name, hostname), None)
            return
        try:
            parts = complete(parts)
        except LookupError as error:  # the rest is on its way
            self.incomplete[name, hostname] = str(error)
            return
        self.rules[name, hostname] = [rule for part in parts for rule in part.rules]
        excluded = frozenset(self._excluded(name, self.rules[name, hostname]))
        scheme = scheme_of(world, name)
        self.hosts[name][hostname] = _ENCODE(virtual_host(parts, max(map(world.seq, parts)), scheme, excluded))

    def _excluded(self, name: str, rules: Iterable[ProxyRule]) -> Iterator[str]:
        for rule in rules:
            refused = self.refused.get((name, route_name(rule)))
            if refused and refused.planned == rule:
                yield f"match {route_name(rule)}" if refused.drop else route_name(rule)

    def _refuses(self, kind: str, name: str, planned: ListenerPlanned | UpstreamPlanned) -> bool:
        refused = self.refused.get((kind, name))
        return refused is not None and refused.planned == planned


def scheme_of(world: World, name: str) -> str:
    """http or https, of a route configuration."""
    chains = ((event, chain) for event in world.find("chain", name, ListenerPlanned) for chain in event.chains)
    return next(("https" for event, chain in chains if routes_name(listener_name(event), chain.name) == name and chain.tls), "http")
