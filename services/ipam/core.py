"""Which owner holds which VIP.

When the log is lost, a Service gets the addresses back that were recorded of it in its cluster, and nobody else does.
An address is allocated once and kept until its holders release it, whatever becomes of the pools: one that its pool no longer
offers is marked as orphaned and stays.  It is reassigned only after every LB node that counts has released it too: released ->
withdrawn by the planner -> applied by each node -> freed.  A silent node is waited for, since it may still forward.  Of two
holders that clash on one VIP the one that changed last yields.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import ClassVar

from services.ipam import claims
from services.ipam.book import Book
from services.ipam.pools import blocks_of, offers
from weir.decider import BySequence, Change, Decided, Index, World, one_by_one
from weir.events import (
    AnyEvent,
    AppliedThrough,
    Event,
    NamespaceGone,
    NamespaceObserved,
    NodeAddressesObserved,
    NodeGone,
    NodeHeard,
    NodeLeft,
    NodeObserved,
    NodeRetired,
    NodeSeen,
    NodeSilent,
    PoolGone,
    PoolObserved,
    RecordGone,
    RecordObserved,
    VipAllocated,
    VipDenied,
    VipFreed,
    VipPlanned,
    VipReleased,
    VipWithdrawn,
    key,
    object_key,
    token,
)
from weir.lbnodes import ABOUT_NODES, addresses_of, counted
from weir.model import FAMILIES, MORE_REJECTED, Owner

_FRONTENDS = key("planner", "frontend", "", "").removesuffix("_")  # what the key of each frontend begins with

SUBSCRIBES: tuple[type[Event], ...] = (
    *claims.SUBSCRIBES,
    *(PoolObserved, NamespaceObserved, NodeObserved, RecordObserved),
    *(VipAllocated, VipDenied, VipPlanned, AppliedThrough, *ABOUT_NODES),
)


def _holders(event: AnyEvent) -> Iterable[str]:
    return event.holders if isinstance(event, VipAllocated) else ()


def _taken(event: AnyEvent) -> Iterable[str]:
    return blocks_of(ip_address(event.vip)) if isinstance(event, VipAllocated | VipReleased) else ()


def _pool(event: AnyEvent) -> Iterable[str]:
    return (event.pool,) if isinstance(event, VipAllocated) else ()


def _shared(event: AnyEvent) -> Iterable[str]:
    match event:
        case VipAllocated(share_key=share_key, holders=services) if share_key:
            return (f"{Owner.parse(services[0]).space}/{share_key}",)
    return ()


def _recorded(event: AnyEvent) -> Iterable[str]:
    return event.vips if isinstance(event, RecordObserved) else ()


def _machines_have(event: AnyEvent | None) -> Iterable[str]:
    match event:
        case NodeObserved(addresses=addresses):
            return addresses
        case NodeAddressesObserved(addresses=addresses, gateways=gateways):
            return {*addresses, *gateways}
    return ()


def _waiting(event: AnyEvent) -> Iterable[str]:
    return (event.family, event.root.space) if isinstance(event, VipDenied) else ()


def _named(event: AnyEvent) -> Iterable[str]:
    return event.holders if isinstance(event, VipDenied) else ()


def _unbound(world: World, before: AnyEvent | None, event: RecordGone | RecordObserved) -> bool:
    """Whether a record no longer names an address that nobody holds: others may have it then."""
    named = before.vips if isinstance(before, RecordObserved) else ()
    dropped = set(named) - set(event.vips if isinstance(event, RecordObserved) else ())
    return any(not world.get(key("ipam", "vip", "", vip)) for vip in dropped)


class Ipam:
    """The core.  Claims are served by how long they have waited, then by name."""

    indexes: ClassVar[Mapping[str, Index]] = {
        "holder": _holders,  # owner -> VIPs
        "taken": _taken,  # block of addresses -> VIPs
        "pool": _pool,  # pool -> VIPs given from it
        "shared": _shared,  # namespace/key -> VIPs
        "recorded": _recorded,  # address -> records that name it
        "node address": _machines_have,  # address -> nodes of clusters, and LB nodes, that have it or have it for a gateway
        "waiting": _waiting,  # family, and namespace -> claims
        "named": _named,  # owner -> claims that name it as a holder
        "asked": claims.requested_by,  # address -> objects that ask for it by name
        "acknowledged": BySequence(VipWithdrawn),  # what nodes acknowledge by its sequence
        "prefers": claims.prefers,  # "" for all, and namespace/key -> objects whose second family is optional
    }

    def decide(self, world: World, changes: Sequence[Change]) -> Iterable[Decided]:
        """Addresses given, released and freed because of `changes`."""
        return one_by_one(world, changes, self._on)

    def _on(self, world: World, change: Change) -> Iterable[AnyEvent]:
        book = Book(world, change.fact.seq)
        for owner in claims.changed(world, change.fact.event):
            book.settle(owner)
            book.reopen(owner, change.before, change.fact.event)
        match change.fact.event:
            case PoolObserved(root=root) | PoolGone(root=root):
                self._pool_changed(world, book, root.path)
            case NamespaceObserved(root=root) | NamespaceGone(root=root):
                self._namespace_changed(world, book, root.path)
            case RecordGone() | RecordObserved() as event if _unbound(world, change.before, event):
                book.settle_waiting(*FAMILIES)
            case NodeObserved() | NodeGone() | NodeAddressesObserved() as event:
                self._addresses_changed(world, book, set(_machines_have(change.before)), set(_machines_have(event)))
                if isinstance(event, NodeAddressesObserved) and not change.before:  # before the first, nothing was given
                    book.settle_waiting(*FAMILIES)
                    book.settle_preferring()
            case VipWithdrawn(vip=vip):
                book.free(_released_by_all(world, [world.get(key("ipam", "vip", "", vip))]))
            case AppliedThrough() as event:
                book.free(_released_by_all(world, _acknowledged(world, event, change.before)))
            case NodeSeen(node=node):
                self._addresses_changed(world, book, set(), set(_machines_have(addresses_of(world, node))))
            case NodeRetired(lbnode=node) | NodeLeft(lbnode=node):
                book.free(_released_by_all(world, world.of(VipReleased)))
                self._addresses_changed(world, book, set(_machines_have(addresses_of(world, node))), set())
            case NodeSilent() | NodeHeard() if world.of(VipReleased):
                book.settle_waiting(*FAMILIES)  # their denials name the node that an address waits for
        return book.conclude()

    def reconcile(self, world: World) -> Iterable[Decided]:
        """The same over every owner."""
        book = Book(world, max((fact.seq for fact in world.facts.values()), default=0))
        waiting = [denial.owner for denial in world.of(VipDenied)]
        for owner in sorted({*claims.owners(world), *waiting, *world.words("holder")}):
            book.settle(owner)
        book.free(_released_by_all(world, world.of(VipReleased)))
        return [Decided(event, _because(world, event)) for event in book.conclude()]

    def _pool_changed(self, world: World, book: Book, name: str) -> None:
        book.restate([*world.find("pool", name, VipAllocated), *(vip for vip in world.of(VipAllocated) if vip.orphaned)])
        book.settle_waiting(*FAMILIES)
        book.settle_preferring()

    def _addresses_changed(self, world: World, book: Book, before: set[str], after: set[str]) -> None:
        """Mark VIPs that a machine has, and unmark those that it has no longer.  What is in a pool concerns all who wait."""
        book.restate(_held_at(world, before | after))
        for address in sorted(before | after):
            book.settle_requesting(address)
        pools = world.of(PoolObserved)
        if any(offers(pool, ip_address(address)) for address in before ^ after for pool in pools):
            book.settle_waiting(*FAMILIES)
            book.settle_preferring()

    def _namespace_changed(self, world: World, book: Book, name: str) -> None:
        selecting = [pool for pool in world.of(PoolObserved) if pool.namespace_selector]
        for pool in selecting:
            given = world.find("pool", pool.root.path, VipAllocated)
            book.restate(vip for vip in given if any(Owner.parse(holder).space == name for holder in vip.holders))
        if selecting:
            book.settle_waiting(name)
            book.settle_preferring()


def _held_at(world: World, addresses: Iterable[str]) -> list[VipAllocated]:
    held = (world.get(key("ipam", "vip", "", address)) for address in sorted(addresses))
    return [vip for vip in held if isinstance(vip, VipAllocated)]


def _acknowledged(world: World, now: AppliedThrough, before: AnyEvent | None) -> Iterable[AnyEvent | None]:
    """VIPs that the node may have released since its last acknowledgement."""
    was = before if isinstance(before, AppliedThrough) else AppliedThrough(node=now.node, seq=0)
    no_longer = {rejection.entity for rejection in was.rejected} - {rejection.entity for rejection in now.rejected}
    if MORE_REJECTED in no_longer or any(entity.startswith(_FRONTENDS) for entity in no_longer):
        return world.of(VipReleased)  # it may be any of them
    withdrawn = [*world.between(was.seq, now.seq), *(world.get(entity) for entity in sorted(no_longer))]
    return [world.get(key("ipam", "vip", "", event.vip)) for event in withdrawn if isinstance(event, VipWithdrawn)]


def _because(world: World, event: AnyEvent) -> int:
    """The sequence of the newest event that a decision rests on, as far as its holders, pool and withdrawal say."""
    names = event.holders if isinstance(event, VipAllocated | VipReleased | VipFreed) else (getattr(event, "owner", ""),)
    keys = [object_key(name) for name in names if name]
    match event:
        case VipAllocated(pool=pool):
            keys.append(key("watcher", "vippool", "", pool))
        case VipFreed(vip=vip):
            keys.append(key("planner", "planvip", "", vip))
    return world.newest(keys)


def _released_by_all(world: World, candidates: Iterable[AnyEvent | None]) -> Iterator[VipReleased]:
    """Those of `candidates` that are released and that no node forwards for any more."""
    released = [vip for vip in candidates if isinstance(vip, VipReleased)]
    if not released:
        return
    nodes = [seen.node for seen in counted(world)]
    through = {ack.node: ack for ack in world.of(AppliedThrough) if ack.node in nodes}
    refused = {rejection.entity for ack in through.values() for rejection in ack.rejected}
    for vip in released:
        answer = world.facts.get(key("planner", "planvip", "", vip.vip))
        if not answer or not isinstance(answer.event, VipWithdrawn) or answer.event.release != world.seq(vip):
            continue
        if any(entity == MORE_REJECTED or entity == answer.key or entity.startswith(_frontends_of(vip.vip)) for entity in refused):
            continue
        if all(node in through and through[node].seq >= answer.seq for node in nodes):
            yield vip


def _frontends_of(vip: str) -> str:
    """What the keys of a VIP's frontends begin with."""
    return _FRONTENDS + token(f"[{vip}]:" if ":" in vip else f"{vip}:")
