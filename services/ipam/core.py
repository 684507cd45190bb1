"""Which Service holds which VIP.

An address is given once and kept until its Service lets go of it, whatever becomes of the pools.  It is given on only after
every node has let go of it too: released -> withdrawn by the planner -> applied by each node -> freed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import ClassVar, NamedTuple

from weir.decider import Change, Decided, Index, World, one_by_one
from weir.events import (
    AnyEvent,
    AppliedThrough,
    ClaimSettled,
    NodeSeen,
    PoolGone,
    PoolObserved,
    ServiceGone,
    ServiceObserved,
    VipAllocated,
    VipDenied,
    VipFreed,
    VipPlanned,
    VipReleased,
    VipWithdrawn,
    key,
)
from weir.model import Address, Family, Root, family_of

HEARS = (ServiceObserved, PoolObserved, VipAllocated, VipDenied, VipPlanned, AppliedThrough, NodeSeen)
FAMILIES: tuple[Family, ...] = ("IPv4", "IPv6")
HOLDERS_TOLD = 10
BLOCK_BITS = 8  # free addresses are looked for in blocks of 256: a full block costs one look


class Refusal(NamedTuple):
    """Why a Service gets no address now."""

    reason: str
    message: str
    holders: tuple[str, ...] = ()


def _vips_of(event: AnyEvent) -> Iterable[str]:
    match event:
        case VipAllocated(services=services):
            return services
    return ()


def _taken_block(event: AnyEvent) -> Iterable[str]:
    match event:
        case VipAllocated(vip=vip) | VipReleased(vip=vip):
            return (_block(ip_address(vip)),)
    return ()


class Ipam:
    """The core.  Order of service: the claim that has waited longest, then by name."""

    indexes: ClassVar[Mapping[str, Index]] = {"holder": _vips_of, "block": _taken_block}

    def decide(self, world: World, changes: Sequence[Change]) -> Iterable[Decided]:
        """Addresses given, released and freed because of `changes`."""
        return one_by_one(world, changes, self._on)

    def _on(self, world: World, change: Change) -> Iterable[AnyEvent]:
        book = _Book(world, change.fact.seq)
        match change.fact.event:
            case ServiceObserved(root=root) | ServiceGone(root=root):
                book.settle(root.path)
            case PoolObserved() | PoolGone():
                book.settle_waiting()
            case VipWithdrawn() | AppliedThrough() | NodeSeen():
                if book.free_released():
                    book.settle_waiting()
        return book.serve()

    def reconcile(self, world: World) -> Iterable[AnyEvent]:
        """The same over every Service."""
        book = _Book(world, max((fact.seq for fact in world.facts.values()), default=0))
        book.free_released()
        book.settle_waiting()
        services = [observed.root.path for observed in world.of(ServiceObserved)]
        for service in sorted({*services, *world.words("holder")}):
            book.settle(service)
        return book.serve()


class _Want(NamedTuple):
    """What a Service asks for and has not.  `claim`: the denial it was told, if any."""

    since: int
    service: str
    family: Family
    asked: str  # an address, "" for any
    root: Root
    claim: VipDenied | None


def _turn(want: _Want) -> tuple[int, str, Family]:
    """The order in which wants are served."""
    return want.since, want.service, want.family


class _Book:
    """One decision under way: the world, and what was decided upon it so far."""

    def __init__(self, world: World, now: int) -> None:
        self.world, self.now = world, now
        self.events: list[AnyEvent] = []
        self._given: dict[str, str] = {}  # address -> Service
        self._freed: set[str] = set()
        self._wants: list[_Want] = []
        self._settled: set[str] = set()

    def settle(self, service: str) -> None:
        """Takes back what `service` has and does not ask for; what it asks for and has not, `serve` gives."""
        if service in self._settled:
            return
        self._settled.add(service)
        observed = self._observed(service)
        wanted = self._wanted(observed) if observed else {}
        held = self._release_unwanted(service, wanted)
        for family in FAMILIES:
            claim = self._claim(service, family)
            if observed and family in wanted and family not in held:
                since = claim.since if claim else self.now
                self._wants.append(_Want(since, service, family, wanted[family], observed.root, claim))
            elif claim:
                self.events.append(ClaimSettled(service=service, family=family, root=claim.root))

    def settle_waiting(self) -> None:
        """The same for all who wait."""
        for claim in self.world.of(VipDenied):
            self.settle(claim.service)

    def serve(self) -> list[AnyEvent]:
        """Gives what is free, the oldest want first; denials last, when it is plain who holds what.  Returns all events."""
        wants, self._wants = sorted(self._wants, key=_turn), []
        denied = [want for want in wants if not self._give(want)]
        if self._given or self._freed:  # those who wait may have to be told of other holders
            self.settle_waiting()
            denied += self._wants
        for want in sorted(denied, key=_turn):
            self._deny(want)
        return self.events

    def _observed(self, service: str) -> ServiceObserved | None:
        namespace, _, name = service.partition("/")
        event = self.world.get(key("watcher", "service", namespace, name))
        return event if isinstance(event, ServiceObserved) and event.exposed else None

    def _claim(self, service: str, family: Family) -> VipDenied | None:
        namespace, _, name = service.partition("/")
        event = self.world.get(key("ipam", "claim", namespace, f"{name}:{family}"))
        return event if isinstance(event, VipDenied) else None

    def free_released(self) -> bool:
        """Frees each released VIP that every node has let go of; True when there was one."""
        nodes = [seen.node for seen in self.world.of(NodeSeen)]
        for vip in self.world.of(VipReleased):
            if self._let_go(vip.vip, self.world.seq(vip), nodes):
                self.events.append(VipFreed(vip=vip.vip, pool=vip.pool, services=vip.services, root=vip.root))
                self._freed.add(vip.vip)
        return bool(self._freed)

    def _let_go(self, vip: str, release: int, nodes: list[str]) -> bool:
        withdrawn = self.world.facts.get(key("planner", "planvip", "", vip))
        if not withdrawn or not isinstance(withdrawn.event, VipWithdrawn) or withdrawn.event.release != release:
            return False
        entity = key("planner", "planvip", "", vip)
        acks = [ack for ack in self.world.of(AppliedThrough) if entity not in {refused.entity for refused in ack.rejected}]
        applied = {ack.node: ack.seq for ack in acks}
        return all(applied.get(node, 0) >= withdrawn.seq for node in nodes)

    def _release_unwanted(self, service: str, wanted: dict[Family, str]) -> set[Family]:
        """Families that `service` holds a VIP of, after releasing those it did not ask for."""
        held: set[Family] = set()
        for vip in self.world.find("holder", service, VipAllocated):
            family = family_of(vip.vip)
            if family in wanted and wanted[family] in ("", vip.vip) and family not in held:
                held.add(family)
            else:
                self.events.append(VipReleased(vip=vip.vip, pool=vip.pool, services=vip.services, root=vip.root))
        return held

    def _wanted(self, observed: ServiceObserved) -> dict[Family, str]:
        """Family -> the address asked for, "" for any.  Without a word on families: that of the address asked for, or of the pools."""
        asked = {family_of(address): address for address in reversed(observed.requested)}
        families = observed.families or tuple(asked) or self._pool_families(observed)
        return {family: asked.get(family, "") for family in families}

    def _pool_families(self, observed: ServiceObserved) -> tuple[Family, ...]:
        held = [family_of(vip.vip) for vip in self.world.find("holder", observed.root.path, VipAllocated)]
        if held:  # what a Service has does not change because a pool came
            return (held[0],)
        offered = {family_of(addresses) for pool in self._pools() for addresses in pool.addresses}
        return ("IPv6",) if offered == {"IPv6"} else ("IPv4",)

    def _give(self, want: "_Want") -> bool:
        found = self._asked_for(want.asked) if want.asked else self._any_free(want.family)
        if isinstance(found, Refusal):
            return False
        vip, pool = found
        self._given[vip] = want.service
        self.events.append(VipAllocated(vip=vip, pool=pool, services=(want.service,), root=want.root))
        if want.claim:
            self.events.append(ClaimSettled(service=want.service, family=want.family, root=want.root))
        return True

    def _deny(self, want: "_Want") -> None:
        found = self._asked_for(want.asked) if want.asked else self._any_free(want.family)
        if isinstance(found, Refusal):
            denied = VipDenied(service=want.service, family=want.family, since=want.since, root=want.root, **found._asdict())
            if denied != want.claim:
                self.events.append(denied)

    def _asked_for(self, vip: str) -> tuple[str, str] | Refusal:
        address = ip_address(vip)
        pool = next((pool.root.name for pool in self._pools() if _offers(pool, address)), None)
        if pool is None:
            offered = ", ".join(text for pool in self._pools() for text in pool.addresses) or "none"
            return Refusal("AddressOutsidePools", f"{vip} is in no pool; pools offer {offered}")
        if holder := self._holder(vip):
            return Refusal("AddressHeld", f"{vip} is held by {holder}", (holder,))
        return vip, pool

    def _any_free(self, family: Family) -> tuple[str, str] | Refusal:
        pools = [pool for pool in self._pools() if pool.auto_assign]
        version = 4 if family == "IPv4" else 6
        for pool in sorted(pools, key=lambda pool: (-pool.priority, pool.root.name)):
            for first, last in _ranges(pool, version):
                for address in self._free_in(first, last):
                    if not (pool.avoid_buggy_ips and _is_buggy(address)):
                        return str(address), pool.root.name
        return self._exhausted(family, pools)

    def _exhausted(self, family: Family, pools: list[PoolObserved]) -> Refusal:
        version = 4 if family == "IPv4" else 6
        names = sorted(pool.root.name for pool in pools if any(True for _ in _ranges(pool, version)))
        if not names:
            return Refusal("NoPool", f"no pool offers {family} addresses")
        held = {
            vip.vip: vip.services[0] for vip in [*self.world.of(VipAllocated), *self.world.of(VipReleased)] if vip.vip not in self._freed
        }
        offered = [vip for vip in sorted(held | self._given) if any(_offers(pool, ip_address(vip)) for pool in pools)]
        holders = sorted({(held | self._given)[vip] for vip in offered if family_of(vip) == family})
        return Refusal("PoolExhausted", f"every {family} address of {', '.join(names)} is held", tuple(holders[:HOLDERS_TOLD]))

    def _free_in(self, first: Address, last: Address) -> Iterator[Address]:
        number, end = int(first), int(last)
        while number <= end:
            block_end = min(number | ((1 << BLOCK_BITS) - 1), end)
            taken = self._taken(first.__class__(number))
            free = (candidate for candidate in range(number, block_end + 1) if candidate not in taken)
            if len(taken) < 1 << BLOCK_BITS:
                yield from map(first.__class__, free)
            number = block_end + 1

    def _taken(self, address: Address) -> set[int]:
        """Addresses of the same block that are not free, as numbers."""
        block = _block(address)
        vips = [*self.world.find("block", block, VipAllocated), *self.world.find("block", block, VipReleased)]
        held = {vip.vip for vip in vips}
        given = {vip for vip in self._given if _block(ip_address(vip)) == block}
        return {int(ip_address(vip)) for vip in (held - self._freed) | given}

    def _holder(self, vip: str) -> str:
        """Who holds `vip`, "" when it is free; one that is being released still is its last holder's."""
        if vip in self._given:
            return self._given[vip]
        held = self.world.get(key("ipam", "vip", "", vip))
        if isinstance(held, VipAllocated | VipReleased) and vip not in self._freed:
            return held.services[0]
        return ""

    def _pools(self) -> list[PoolObserved]:
        return self.world.of(PoolObserved)


def _ranges(pool: PoolObserved, version: int) -> Iterator[tuple[Address, Address]]:
    """First and last address of each range of an IP version, in the order written."""
    for text in pool.addresses:
        first, dash, last = text.partition("-")
        network = None if dash else ip_network(text, strict=False)
        low, high = (network[0], network[-1]) if network else (ip_address(first), ip_address(last))
        if low.version == version:
            yield low, high


def _offers(pool: PoolObserved, address: Address) -> bool:
    return any(int(first) <= int(address) <= int(last) for first, last in _ranges(pool, address.version))


def _block(address: Address) -> str:
    return f"{address.version}:{int(address) >> BLOCK_BITS:x}"


def _is_buggy(address: Address) -> bool:
    """Ends in .0 or .255: some old equipment takes these for network and broadcast addresses."""
    return address.version == 4 and int(address) & 0xFF in (0, 0xFF)
