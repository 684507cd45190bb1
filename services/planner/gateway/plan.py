"""What is planned for one Gateway: listeners, virtual hosts, upstreams, frontends, and its status."""

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from services.planner.gateway.attach import Attached
from services.planner.gateway.hosts import PLAIN, virtual_hosts
from services.planner.gateway.listeners import Entry
from services.planner.gateway.references import Backend, Fault, backend_of
from services.planner.gateway.status import backend_refs, gateway_status, vips_of
from services.planner.gateway.upstreams import Share, planned_share, share_of
from services.planner.shared.backends import backend_set, backends_of, probe_of
from services.planner.shared.programmed import programmed, vip_planned
from weir.decider import World
from weir.events import (
    AnyEvent,
    FrontendPlanned,
    GatewayObserved,
    ListenerPlanned,
    TlsRouteObserved,
    UpstreamPlanned,
    VipAllocated,
)
from weir.model import FAMILIES, PROXY, BackendRef, BackendSet, Chain, Condition, Root, UpstreamShare, family_of


class Plan:
    """What is planned for one Gateway, or for what is seen as one (`services.planner.ingress`)."""

    def __init__(self, world: World, gateway: GatewayObserved, entries: Sequence[Entry], attached: Sequence[Attached]) -> None:
        """entries: its listeners.   attached: routes on these, in order of precedence."""
        self.world, self.gateway, self.entries, self.attached = world, gateway, entries, attached
        self.vips = vips_of(world, gateway)
        self._upstreams: dict[str, UpstreamPlanned] = {}
        self._chunks: dict[str, AnyEvent] = {}
        self._entries = self._planned() if self.vips else []
        held = [vip_planned(vip) for vip in world.find("concerned", gateway.root.owner, VipAllocated)]
        self.programmed: Condition = programmed(world, gateway.root.owner, [*self._entries, *held])

    def events(self) -> list[AnyEvent]:
        """Entries, chunks and status."""
        sets = len({id(entry.holder) for entry in self.entries if entry.holder is not self.gateway and entry.serves})
        return [*self._entries, gateway_status(self.world, self.gateway, self.entries, self.attached, self.programmed, sets)]

    def _planned(self) -> list[AnyEvent]:
        hosts = virtual_hosts(self.gateway.root, self.attached, self.entries, self._resolve)
        listeners = self._listeners()
        frontends = [*self._proxied(listeners), *self._forwarded()]
        return [*self._chunks.values(), *self._upstreams.values(), *hosts, *listeners, *frontends]

    def _resolve(self, root: Root, ref: BackendRef, protocol: str) -> Share:
        """A share whose upstream is planned, with the chunks of its sets."""
        share = share_of(self.world, self.gateway, root, ref, protocol=protocol)
        if share.upstream and share.backend and share.upstream.name not in self._upstreams:
            sets = self._sets(share.backend, 1)
            self._upstreams[share.upstream.name] = replace(share.upstream, sets=tuple(sets.values()))
        return share

    def _sets(self, backend: Backend, weight: int) -> dict[str, BackendSet]:
        """By family, also without a backend: when one comes, whoever refers to its set is planned again.  The chunks are planned too."""
        found: dict[str, BackendSet] = {}
        for family in FAMILIES:
            backends = backends_of(self.world, backend.service, backend.port, family)
            found[family], chunks = backend_set(backend.service, backend.port, family, backends, weight)
            self._chunks |= {f"{chunk.set} {chunk.chunk}": chunk for chunk in chunks}
        return found

    # ── what the proxy serves ──────────────────────────────────────────────────────────────────────────────────────

    def _listeners(self) -> list[ListenerPlanned]:
        by_port: dict[int, dict[str, Chain]] = {}
        for entry in self.entries:
            if entry.serves and entry.listener.protocol in ("HTTP", "HTTPS", "TLS"):
                chains = by_port.setdefault(entry.listener.port, {})
                for chain in self._chains(entry):
                    chains.setdefault(chain.name, chain)
        return [
            ListenerPlanned(
                owner=self.gateway.root.owner, port=port, vips=tuple(self.vips), chains=tuple(chains.values()), root=self.gateway.root
            )
            for port, chains in sorted(by_port.items())
            if chains  # a TLS listener without a route closes connections
        ]

    def _chains(self, entry: Entry) -> list[Chain]:
        if entry.listener.protocol == "HTTP":
            return [Chain(name=PLAIN)]
        if entry.listener.protocol == "HTTPS":
            return [entry.chain()]
        chains: list[Chain] = []
        for each in self._routes_on(entry):
            if not isinstance(each.route, TlsRouteObserved):
                continue
            shares = self._shares(each.route.root, backend_refs(each.route))
            named = replace(entry.chain(each.hostnames), name=f"{entry.name} {each.route.root.path}", shares=shares)
            chains.append(named)
        return chains

    def _shares(self, root: Root, refs: Sequence[BackendRef]) -> tuple[UpstreamShare, ...]:
        return tuple(planned_share(self._resolve(root, ref, "tcp")) for ref in refs if ref.weight)

    def _proxied(self, listeners: Iterable[ListenerPlanned]) -> list[FrontendPlanned]:
        """The frontends whose packets the proxy of each node gets."""
        return [
            FrontendPlanned(vip=vip, port=each.port, protocol="TCP", owner=each.owner, sets=(), mode=PROXY, root=each.root)
            for each in listeners
            for vip in self.vips
        ]

    # ── what the kernel forwards ───────────────────────────────────────────────────────────────────────────────────

    def _forwarded(self) -> list[FrontendPlanned]:
        """Of TCP and UDP listeners: the oldest route has the listener."""
        return [
            event
            for entry in self.entries
            if entry.serves and entry.listener.protocol in ("TCP", "UDP")
            for each in self._routes_on(entry)[:1]
            for event in self._frontends(entry, each)
        ]

    def _frontends(self, entry: Entry, each: Attached) -> list[FrontendPlanned]:
        protocol = entry.listener.protocol
        refs = [ref for ref in backend_refs(each.route) if ref.weight]
        found = [(ref, backend_of(self.world, each.route.root, ref, protocol)) for ref in refs]
        served = [(ref, backend) for ref, backend in found if not isinstance(backend, Fault)]
        sets = [self._sets(backend, ref.weight) for ref, backend in served]
        probes = {probe_of(backend.service, backend.port) for _, backend in served}
        probe = next(iter(probes)) if len(probes) == 1 else None  # one entry has one probe for all its sets
        return [
            FrontendPlanned(
                vip=vip,
                port=entry.listener.port,
                protocol=protocol,
                owner=self.gateway.root.owner,
                sets=tuple(each[family_of(vip)] for each in sets),
                mode=self.gateway.mode,
                no_backend="reject",
                probe=probe,
                root=self.gateway.root,
            )
            for vip in self.vips
        ]

    def _routes_on(self, entry: Entry) -> list[Attached]:
        return [each for each in self.attached if each.entry is entry]
