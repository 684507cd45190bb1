"""Status of a VIPPool: whether it was accepted, how much of it is in use, and which addresses it does not offer any more."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from services.watcher.kinds.ranges import anycast, buggy, range_of
from services.watcher.writer.conditions import MOST_WORDS, condition_of, same
from services.watcher.writer.status import Json, Mark, Status, View, Wanted, of_root
from weir.decider import World
from weir.events import (
    AnyEvent,
    ManifestAccepted,
    ManifestRejected,
    PoolObserved,
    VipAllocated,
    VipFreed,
    VipReleased,
    key,
    object_key,
)
from weir.model import Condition, Root, shown, source_of


def _wanted(view: View) -> Wanted | None:
    seen, owner = view.seen("VIPPool"), view.owner("VIPPool")
    observed = view.world.get(object_key(owner))
    rejected = view.world.get(key("watcher", "manifest", "", view.unit))
    refused = rejected if isinstance(rejected, ManifestRejected) else None
    offers = observed if isinstance(observed, PoolObserved) else None
    if not seen or not (offers or refused):
        return None
    given = view.world.find("pool", owner.partition("/")[2], VipAllocated)
    status = pool_status(offers, refused, given, view.before, view.now)
    return Wanted(status=None if same(status, view.before) else status)


def _of_vip(_: World, event: VipAllocated | VipReleased | VipFreed, __: AnyEvent | None) -> Iterable[Mark]:
    return (Mark(source_of(event.pool), "", event.pool.rpartition(":")[2]),)


def _observed(_: World, event: PoolObserved, __: AnyEvent | None) -> Iterable[Mark]:
    return (of_root(event.root),)


def _judged(_: World, event: ManifestRejected | ManifestAccepted, before: AnyEvent | None) -> Iterable[Mark]:
    """A pool that was rejected, or was until now."""
    found = event if isinstance(event, ManifestRejected) else before
    root: Root | None = found.root if isinstance(found, ManifestRejected) else None
    return (of_root(root),) if root and root.kind == "VIPPool" else ()


STATUS: Final = Status(
    wanted=_wanted,
    marks={
        VipAllocated: _of_vip,
        VipReleased: _of_vip,
        VipFreed: _of_vip,
        PoolObserved: _observed,
        ManifestRejected: _judged,
        ManifestAccepted: _judged,
    },
)


def pool_status(
    pool: PoolObserved | None, rejected: ManifestRejected | None, given: Sequence[VipAllocated], before: Mapping[str, Any], now: str
) -> Json:
    """`status` of a VIPPool.  rejected: why its present content is not accepted; `pool` is the last that was, None where none ever was."""
    why = "; ".join(map(str, rejected.problems))[:MOST_WORDS] if rejected else ""
    accepted = Condition(type="Accepted", status=not why, reason="Invalid" if why else "Accepted", message=why)
    orphans = sorted(f"{vip.vip} of {', '.join(map(shown, vip.holders))}" for vip in given if vip.orphaned)
    words = f"addresses not in the pool any more: {'; '.join(orphans)}; they stay until released"[:MOST_WORDS] if orphans else ""
    orphaned = Condition(type="Orphaned", status=bool(orphans), reason="AddressesHeld" if orphans else "None", message=words)
    offered = [found for text in pool.addresses if (found := range_of(text))] if pool else []
    size = sum(int(found.last) - int(found.first) + 1 for found in offered)
    drawn = len(given) - len(orphans)
    if pool and pool.avoid_buggy_ips:
        asked_for = sum(buggy(found) for vip in given if not vip.orphaned and (found := range_of(vip.vip)))
        drawn += sum(map(buggy, offered)) - asked_for
    drawn += len({address for found in offered if (address := anycast(found))} - {vip.vip for vip in given})
    full = 0 < size <= drawn
    room = Condition(type="Full", status=full, reason="Used" if full else "Room")
    judged = max((each.root.generation for each in (pool, rejected) if each and each.root), default=0)
    conditions = [condition_of(each, "", before, now) | {"observedGeneration": judged} for each in (accepted, orphaned, room)]
    return {"used": len(given), "total": str(size), "conditions": conditions}
