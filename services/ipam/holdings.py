"""Who holds what: the world, and what one decision under way has changed of it so far."""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from ipaddress import ip_address
from typing import Final

from msgspec.structs import replace

from services.ipam.claims import Claim, claim_of, record_of, share_word
from services.ipam.pools import blocks_of, offers
from weir.decider import World
from weir.events import (
    AnyEvent,
    NamespaceObserved,
    NodeAddressesObserved,
    NodeObserved,
    PoolObserved,
    RecordObserved,
    VipAllocated,
    VipDenied,
    VipFreed,
    VipReleased,
    key,
    token,
)
from weir.lbnodes import counted, is_silent
from weir.model import FAMILIES, Family, Owner, name_in, selects

NAMESPACE_LABEL: Final = "kubernetes.io/metadata.name"  # every namespace has it (KEP-2161)


class Holdings:
    """VIPs as decided; `events` are the decisions.  `moved`, `released`, `lost` and `reopened` say whom they may concern."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.events: list[AnyEvent] = []
        self.moved: set[str] = set()  # VIPs whose holders changed
        self.released: set[str] = set()  # VIPs that nobody holds any more
        self.lost: set[str] = set()  # owners that hold less than they did
        self.reopened: set[str] = set()  # words of `words_of` whose VIPs changed
        self._vips: dict[str, VipAllocated | VipReleased | None] = {}  # as decided; None: free
        self._given: dict[str, list[str]] = {}  # owner -> VIPs it was given
        self._claims: dict[str, Claim | None] = {}  # by owner, as the world has them
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

    def named(self, claim: Claim, names: Iterable[str]) -> tuple[str, ...]:
        """The pools that a claim names: those of its own cluster, or those that all have."""
        cluster = claim.root.source
        return tuple(own if (own := name_in(cluster, name)) in self.pools else name for name in names)

    def claim(self, owner: str) -> Claim | None:
        """What the owner asks for, None where it is nothing."""
        if owner not in self._claims:
            self._claims[owner] = claim_of(self.world, owner)
        return self._claims[owner]

    def serves(self, pool: PoolObserved, claim: Claim) -> bool:
        """Whether the pool's selectors match the claim."""
        if not pool.service_selector and not pool.namespace_selector:
            return True
        namespace = claim.root.space
        if pool.namespace_selector and pool.root.source != claim.root.source:
            return False  # it selects namespaces of its own cluster
        observed = self.world.get(key("watcher", "namespace", "", namespace))
        name = {NAMESPACE_LABEL: claim.root.namespace}
        labels = {**(observed.labels if isinstance(observed, NamespaceObserved) else {}), **name}
        return selects(pool.service_selector, claim.labels) and selects(pool.namespace_selector, labels)

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

    def denials(self, owner: str) -> dict[Family, VipDenied]:
        """The denials in force for an owner."""
        named = Owner.parse(owner)
        found = [self.world.get(key("ipam", "claim", named.space, f"{named.kind}:{named.name}:{family}")) for family in FAMILIES]
        return {denial.family: denial for denial in found if isinstance(denial, VipDenied)}

    # ── what is held ───────────────────────────────────────────────────────────────────────────────────────────────

    def vip(self, vip: str) -> VipAllocated | VipReleased | None:
        """Who holds an address, None when it is free; one that is being released still is its last holders'."""
        if vip in self._vips:
            return self._vips[vip]
        held = self.world.get(key("ipam", "vip", "", vip))
        return held if isinstance(held, VipAllocated | VipReleased) else None

    def held(self, owner: str) -> list[VipAllocated]:
        """The VIPs that an owner holds, by key."""
        known = {vip.vip for vip in self.world.find("holder", owner, VipAllocated)} | {*self._given.get(owner, ())}
        found = [self.vip(vip) for vip in sorted(known, key=token)]
        return [vip for vip in found if isinstance(vip, VipAllocated) and owner in vip.holders]

    def releasing(self) -> list[VipReleased]:
        """VIPs that nobody holds and that some node may still forward for, by key."""
        found = {vip.vip: vip for vip in self.world.of(VipReleased)} | self._vips
        return [vip for vip in (found[name] for name in sorted(found, key=token)) if isinstance(vip, VipReleased)]

    def shared(self, claim: Claim) -> list[VipAllocated]:
        """VIPs of claims with the same share key, by address; costs their number."""
        word = share_word(claim)
        if not word:
            return []
        known = {vip.vip for vip in self.world.find("shared", word, VipAllocated)} | self._vips.keys()
        return self._open(word, known)

    def given_from(self, pool: str) -> list[VipAllocated]:
        """VIPs of a pool whose holders share by ports, by address; costs their number."""
        return self._open(f"/{pool}", {vip.vip for vip in self.world.find("pool", pool, VipAllocated)} | self._vips.keys())

    def _open(self, word: str, vips: Iterable[str]) -> list[VipAllocated]:
        found = [held for vip in vips if isinstance(held := self.vip(vip), VipAllocated) and word in words_of(held)]
        return sorted(found, key=lambda held: int(ip_address(held.vip)))

    def recorded(self, owner: str) -> tuple[str, ...]:
        """The addresses recorded of the owner in its cluster, before the log was lost."""
        return record_of(self.world, owner)

    def kept_for(self, vip: str, owner: str) -> tuple[str, ...]:
        """Other owners, which may still appear, for which the address is recorded; none where it is recorded for this one too."""
        owners = tuple(record.owner for record in self.world.find("recorded", vip, RecordObserved))
        return () if owner in owners else owners

    def counted(self, word: str) -> int:
        """How many addresses are taken under a word of `blocks_of`."""
        return self.world.count("taken", word) + self._taken[word]

    def count(self, vips: Iterable[str], more: int) -> None:
        """Count `vips` as taken (1), or no longer (-1)."""
        for vip in vips:
            for word in blocks_of(ip_address(vip)):
                self._taken[word] += more

    # ── what becomes of it ─────────────────────────────────────────────────────────────────────────────────────────

    def put(self, event: VipAllocated | VipReleased | VipFreed) -> None:
        """Decide what becomes of a VIP."""
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

    def take(self, vip: str, pool: str, claim: Claim) -> None:
        """Give the claim a free VIP, or a place beside its holders."""
        held, owner = self.vip(vip), claim.owner
        self._given.setdefault(owner, []).append(vip)
        if isinstance(held, VipAllocated):
            self.put(replace(held, holders=(*held.holders, owner)))
        else:
            share_key, share = _share_key(claim), self.pools[pool].share
            given = VipAllocated(vip=vip, pool=pool, holders=(owner,), share_key=share_key, share=share, root=claim.root)
            self.put(self._beside_machines(given, self.pools[pool]))

    def leave(self, vip: str, owner: str) -> None:
        """Remove the owner from a VIP, which is released when nobody else holds it."""
        held = self.vip(vip)
        if not isinstance(held, VipAllocated):
            return
        rest = tuple(holder for holder in held.holders if holder != owner)
        if not rest:
            self.put(VipReleased(vip=vip, pool=held.pool, holders=held.holders, root=held.root))
            return
        first = self.claim(rest[0])
        self.put(replace(held, holders=rest, root=first.root if first else held.root))

    def restate(self, vip: str) -> None:
        """Update a VIP after a change of its pool or of its holders' key.  Holders that share it by ports may stay together."""
        held = self.vip(vip)
        if not isinstance(held, VipAllocated):
            return
        holders = [claim for owner in held.holders if (claim := self.claim(owner))]
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

    def _home(self, held: VipAllocated, holders: Sequence[Claim]) -> PoolObserved | None:
        """The pool that offers a VIP to its holders.  Another than it was given from, a renamed one, only where nobody named that."""

        def is_home(pool: PoolObserved) -> bool:
            apart = pool.root.path != held.pool and any(holder.pools or holder.more_pools for holder in holders)
            return offers(pool, ip_address(held.vip)) and not apart and all(self.serves(pool, holder) for holder in holders)

        return next(filter(is_home, self.pools.values()), None)  # no two pools offer the same address


def words_of(vip: VipAllocated) -> list[str]:
    """The share words under which a VIP stands open: its holders' "namespace/key", and its pool's "/name"."""
    by_key = [f"{Owner.parse(vip.holders[0]).space}/{vip.share_key}"] if vip.share_key else []
    return [*by_key, f"/{vip.pool}"] if vip.share == "ports" else by_key


def _share_key(claim: Claim) -> str:
    return "" if claim.exclusive else claim.share_key
