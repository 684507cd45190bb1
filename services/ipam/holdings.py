"""Who holds what: the world, and what one decision under way has changed of it so far."""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from ipaddress import ip_address
from typing import Final

from msgspec.structs import replace

from services.ipam.claims import claim_of
from services.ipam.pools import blocks_of, offers
from services.ipam.wants import share_word
from weir.decider import World
from weir.events import (
    AnyEvent,
    NamespaceObserved,
    NodeAddressesObserved,
    NodeObserved,
    PoolObserved,
    RecordObserved,
    ServiceObserved,
    VipAllocated,
    VipDenied,
    VipFreed,
    VipReleased,
    key,
    record_key,
    token,
)
from weir.lbnodes import counted, is_silent
from weir.model import FAMILIES, Family, Owner, name_in, selects

NAMESPACE_LABEL: Final = "kubernetes.io/metadata.name"  # every namespace has it (KEP-2161)


class Holdings:
    """VIPs as decided; `events` are the decisions.  `moved`, `released`, `lost` and `reopened` tell whom they may concern."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.events: list[AnyEvent] = []
        self.moved: set[str] = set()  # VIPs whose holders changed
        self.released: set[str] = set()  # VIPs that nobody holds any more
        self.lost: set[str] = set()  # Services that hold less than they did
        self.reopened: set[str] = set()  # words of `words_of` whose VIPs changed
        self._vips: dict[str, VipAllocated | VipReleased | None] = {}  # as decided; None: free
        self._given: dict[str, list[str]] = {}  # Service -> VIPs it was given
        self._taken = Counter[str]()  # by word of `blocks_of`, beyond what the world counts

    # ── who is there ───────────────────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def pools(self) -> dict[str, PoolObserved]:
        """By name."""
        return {pool.root.path: pool for pool in self.world.of(PoolObserved)}

    @cached_property
    def silent(self) -> list[str]:
        """LB nodes that count, and of which nothing is heard."""
        return [seen.node for seen in counted(self.world) if is_silent(self.world, seen.node)]

    @cached_property
    def automatic(self) -> list[PoolObserved]:
        """Pools that assign by themselves, by priority, then name."""
        pools = [pool for pool in self.pools.values() if pool.auto_assign]
        return sorted(pools, key=lambda pool: (-pool.priority, pool.root.path))

    def named(self, observed: ServiceObserved, names: Iterable[str]) -> tuple[str, ...]:
        """Pools as the Service names them: those of its own cluster, or those that all have."""
        cluster = observed.root.source
        return tuple(own if (own := name_in(cluster, name)) in self.pools else name for name in names)

    def exposed(self, service: str) -> ServiceObserved | None:
        """The Service, None where it asks for nothing."""
        found = claim_of(self.world, service)
        return found if found and found.exposed else None

    def serves(self, pool: PoolObserved, observed: ServiceObserved) -> bool:
        """Whether the pool's selectors take the Service in."""
        if not pool.service_selector and not pool.namespace_selector:
            return True
        namespace = observed.root.space
        if pool.namespace_selector and pool.root.source != observed.root.source:
            return False  # it speaks of the namespaces of its own cluster
        said = self.world.get(key("watcher", "namespace", "", namespace))
        name = {NAMESPACE_LABEL: observed.root.namespace}
        labels = {**(said.labels if isinstance(said, NamespaceObserved) else {}), **name}
        return selects(pool.service_selector, observed.labels) and selects(pool.namespace_selector, labels)

    def in_use_by(self, vip: str) -> str:
        """Whose address it is, in words, "" where it is no machine's: as a VIP it would cut that machine off."""
        by_lbnodes = self._by_lbnodes(vip)
        if own := [each.node for each in by_lbnodes if vip in each.addresses]:
            return f"LB node {own[0]}'s own address"
        if by_lbnodes:
            return f"the default gateway of LB node {by_lbnodes[0].node}"
        return next((f"node {node.root.path}'s own address" for node in self.world.find("node address", vip, NodeObserved)), "")

    def is_lbnodes_own(self, vip: str) -> bool:
        """Whether an LB node has the address, so that packets to it arrive there without an announcement."""
        return any(vip in each.addresses for each in self._by_lbnodes(vip))

    def _by_lbnodes(self, vip: str) -> list[NodeAddressesObserved]:
        found = self.world.find("node address", vip, NodeAddressesObserved)
        return [each for each in found if each.node in self._counted]

    @cached_property
    def _counted(self) -> frozenset[str]:
        return frozenset(seen.node for seen in counted(self.world))

    @cached_property
    def of_lbnodes(self) -> list[str]:
        """Addresses of LB nodes' own and of their gateways."""
        reported = [each for each in self.world.of(NodeAddressesObserved) if each.node in self._counted]
        return list(dict.fromkeys(address for each in reported for address in (*each.addresses, *each.gateways)))

    @cached_property
    def addresses_known(self) -> bool:
        """Whether an LB node has reported its addresses: until then each address may be that of the machine itself."""
        return bool(self.world.of(NodeAddressesObserved))

    def claims(self, service: str) -> dict[Family, VipDenied]:
        """What the Service was told that it waits for."""
        owner = Owner.parse(service)
        found = [self.world.get(key("ipam", "claim", owner.space, f"{owner.kind}:{owner.name}:{family}")) for family in FAMILIES]
        return {claim.family: claim for claim in found if isinstance(claim, VipDenied)}

    # ── what is held ───────────────────────────────────────────────────────────────────────────────────────────────

    def vip(self, vip: str) -> VipAllocated | VipReleased | None:
        """Who holds an address, None when it is free; one that is being released still is its last holders'."""
        if vip in self._vips:
            return self._vips[vip]
        held = self.world.get(key("ipam", "vip", "", vip))
        return held if isinstance(held, VipAllocated | VipReleased) else None

    def held(self, service: str) -> list[VipAllocated]:
        """All that the Service holds, by key."""
        known = {vip.vip for vip in self.world.find("holder", service, VipAllocated)} | {*self._given.get(service, ())}
        found = [self.vip(vip) for vip in sorted(known, key=token)]
        return [vip for vip in found if isinstance(vip, VipAllocated) and service in vip.holders]

    def releasing(self) -> list[VipReleased]:
        """VIPs that nobody holds and that some node may still forward for, by key."""
        found = {vip.vip: vip for vip in self.world.of(VipReleased)} | self._vips
        return [vip for vip in (found[name] for name in sorted(found, key=token)) if isinstance(vip, VipReleased)]

    def shared(self, observed: ServiceObserved) -> list[VipAllocated]:
        """VIPs of Services under the same key, by address; costs their number."""
        word = share_word(observed)
        if not word:
            return []
        known = {vip.vip for vip in self.world.find("shared", word, VipAllocated)} | self._vips.keys()
        return self._open(word, known)

    def given_from(self, pool: str) -> list[VipAllocated]:
        """VIPs of a pool whose Services share by ports, by address; costs their number."""
        return self._open(f"/{pool}", {vip.vip for vip in self.world.find("pool", pool, VipAllocated)} | self._vips.keys())

    def _open(self, word: str, vips: Iterable[str]) -> list[VipAllocated]:
        found = [held for vip in vips if isinstance(held := self.vip(vip), VipAllocated) and word in words_of(held)]
        return sorted(found, key=lambda held: int(ip_address(held.vip)))

    def recorded(self, service: str) -> tuple[str, ...]:
        """What was written down in its cluster that the Service has, before the log was lost."""
        record = self.world.get(record_key(service))
        return record.vips if isinstance(record, RecordObserved) else ()

    def kept_for(self, vip: str, service: str) -> tuple[str, ...]:
        """Other Services, which may come yet, whose the address was written down as; none where it was as this one's too."""
        owners = tuple(record.owner for record in self.world.find("recorded", vip, RecordObserved))
        return () if service in owners else owners

    def counted(self, word: str) -> int:
        """How many addresses are taken under a word of `blocks_of`."""
        return self.world.count("taken", word) + self._taken[word]

    def count(self, vips: Iterable[str], more: int) -> None:
        """Takes `vips` for taken (1), or not any more (-1)."""
        for vip in vips:
            for word in blocks_of(ip_address(vip)):
                self._taken[word] += more

    # ── what becomes of it ─────────────────────────────────────────────────────────────────────────────────────────

    def put(self, event: VipAllocated | VipReleased | VipFreed) -> None:
        """Decides what becomes of a VIP."""
        before, after = self.vip(event.vip), None if isinstance(event, VipFreed) else event
        self.events.append(event)
        self._vips[event.vip] = after
        if isinstance(event, VipReleased):
            self.released.add(event.vip)
        if bool(before) != bool(after):
            self.count([event.vip], 1 if after else -1)
        held_by, holders = before.holders if before else (), after.holders if after else ()
        if held_by != holders:
            self.moved.add(event.vip)
            self.lost |= {*held_by} - {*holders}
        self.reopened |= {word for vip in (before, after) if isinstance(vip, VipAllocated) for word in words_of(vip)}

    def take(self, vip: str, pool: str, observed: ServiceObserved) -> None:
        """Gives the Service a free VIP, or a place beside those who hold it."""
        held, service = self.vip(vip), observed.root.owner
        self._given.setdefault(service, []).append(vip)
        if isinstance(held, VipAllocated):
            self.put(replace(held, holders=(*held.holders, service)))
        else:
            share_key, share = _share_key(observed), self.pools[pool].share
            given = VipAllocated(vip=vip, pool=pool, holders=(service,), share_key=share_key, share=share, root=observed.root)
            self.put(self._beside_machines(given, self.pools[pool]))

    def leave(self, vip: str, service: str) -> None:
        """Takes the Service off a VIP, which is released when nobody else holds it."""
        held = self.vip(vip)
        if not isinstance(held, VipAllocated):
            return
        rest = tuple(holder for holder in held.holders if holder != service)
        if not rest:
            self.put(VipReleased(vip=vip, pool=held.pool, holders=held.holders, root=held.root))
            return
        first = self.exposed(rest[0])
        self.put(replace(held, holders=rest, root=first.root if first else held.root))

    def restate(self, vip: str) -> None:
        """Says of a VIP what became of its pool or of its holders' key.  Those who stand on it by their ports may stay together."""
        held = self.vip(vip)
        if not isinstance(held, VipAllocated):
            return
        holders = [observed for service in held.holders if (observed := self.exposed(service))]
        home = self._home(held, holders)
        pool = home or self.pools.get(held.pool)
        share = held.share if not pool or (len(held.holders) > 1 and held.share == "ports") else pool.share
        named = home.root.path if home else held.pool
        now = replace(held, pool=named, share_key=_share_key(holders[0]) if holders else "", orphaned=not home, share=share)
        now = self._beside_machines(now, home)
        if now != held:
            self.put(now)

    def _beside_machines(self, vip: VipAllocated, home: PoolObserved | None) -> VipAllocated:
        """The VIP, and whether it is a machine's address besides.  What its pool granted stays while no pool offers it."""
        in_use_by = self.in_use_by(vip.vip)
        granted = home.share_with_nodes if home else vip.shared_with_node
        return replace(vip, in_use_by=in_use_by, shared_with_node=granted and bool(in_use_by) and self.is_lbnodes_own(vip.vip))

    def _home(self, held: VipAllocated, holders: Sequence[ServiceObserved]) -> PoolObserved | None:
        """The pool that offers a VIP to its holders.  Another than it was given from, a renamed one, only where nobody named that."""

        def is_home(pool: PoolObserved) -> bool:
            apart = pool.root.path != held.pool and any(holder.pools or holder.more_pools for holder in holders)
            return offers(pool, ip_address(held.vip)) and not apart and all(self.serves(pool, holder) for holder in holders)

        return next(filter(is_home, self.pools.values()), None)  # no two pools offer the same address


def words_of(vip: VipAllocated) -> list[str]:
    """The share words under which a VIP stands open: its holders' "namespace/key", and its pool's "/name"."""
    by_key = [f"{Owner.parse(vip.holders[0]).space}/{vip.share_key}"] if vip.share_key else []
    return [*by_key, f"/{vip.pool}"] if vip.share == "ports" else by_key


def _share_key(observed: ServiceObserved) -> str:
    return "" if observed.exclusive else observed.share_key
