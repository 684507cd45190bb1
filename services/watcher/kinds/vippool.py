"""VIPPool: ranges of addresses that VIPs are drawn from.  No address is in two pools.

Which pools meet shows only beside the others, so all pools are compared when one is.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, TypedDict

import msgspec

from services.watcher.kinds.fields import Field, never
from services.watcher.kinds.kind import Comparison, Judge, Kind, Metadata
from services.watcher.kinds.ranges import Range, Ranges, range_of
from services.watcher.kinds.schema import CONDITIONS, SELECTOR, fields, of_kind
from services.watcher.kinds.selector import read_selector
from services.watcher.settings import Settings
from services.watcher.writer.vippool import STATUS
from weir.events import PoolGone, PoolObserved
from weir.model import SHARES, Problem, Root


class _Pool(TypedDict, total=False):
    metadata: Metadata
    spec: Any


def _read(manifest: Field, root: Root, _: Settings) -> PoolObserved | None:
    spec = manifest["spec"]
    ranges = Ranges()
    addresses = [_range(item, ranges) for item in spec["addresses"].items()]
    if spec["addresses"].value in (None, []):
        spec["addresses"].fail("at least one CIDR or first-last")
    event = PoolObserved(
        root=root,
        addresses=tuple(addresses),
        auto_assign=spec["autoAssign"].flag(absent=True),
        priority=spec["priority"].number(-(2**31), 2**31 - 1),
        avoid_buggy_ips=spec["avoidBuggyIPs"].flag(absent=False),
        share=spec["share"].word(SHARES, "key"),
        share_with_nodes=spec["shareWithNodes"].flag(absent=False),
        one_announcer=spec["oneAnnouncer"].flag(absent=False),
        service_selector=read_selector(spec["serviceSelector"]),
        namespace_selector=read_selector(spec["namespaceSelector"]),
    )
    return None if manifest.faults else event


def _range(item: Field, ranges: Ranges) -> str:
    """Return the canonical form, which is added to `ranges`; "" where a fault was noted."""
    found = range_of(item.value) if isinstance(item.value, str) else None
    if not found:
        item.fail("a CIDR (203.0.113.0/28) or first-last (203.0.113.10-203.0.113.29) of one family, first before last")
        return ""
    if what := never(found.first, found.last):
        item.fail(f"unicast addresses only (this holds {what})")
        return ""
    if other := next(ranges.meeting(found), None):
        item.fail(f"each address once; {other.text} is in this pool already")
        return ""
    ranges.add(found)
    return found.text


def _touches(comparison: Comparison, _: Sequence[str]) -> Iterable[str]:
    return comparison.named(PoolObserved)


class _Pools:
    """The pools of one comparison.  Those of the log stand; then, by name, each pool is taken that meets none that stands."""

    def __init__(self, comparison: Comparison) -> None:
        self._pools: dict[str, PoolObserved] = {}
        self._ranges = Ranges()  # of these pools
        waiting: dict[str, tuple[str, PoolObserved]] = {}  # not taken yet, and from which source
        for pool in comparison.compared(PoolObserved):
            stated, held = comparison.stated(pool), comparison.held(pool)
            if stated and isinstance(held, PoolObserved):
                self._stand(pool, held)
            if stated and isinstance(stated[1], PoolObserved):
                waiting[pool] = stated[0], stated[1]
        while taken := [pool for pool, (_, event) in waiting.items() if self._take(pool, event)]:  # one may make room for another
            for pool in taken:
                del waiting[pool]
        for source, event in waiting.values():
            comparison.reject(source, self._overlaps(event))

    def judge(self, pool: str, _: PoolObserved, __: str) -> PoolObserved | None:
        """Return the pool as it stands."""
        return self._pools.get(pool)

    def _take(self, pool: str, event: PoolObserved) -> bool:
        if any(self._overlaps(event)):
            return False
        self._stand(pool, event)
        return True

    def _stand(self, pool: str, event: PoolObserved) -> None:
        before = self._pools.get(pool)
        self._pools[pool] = event
        if before and before.addresses != event.addresses:
            self._ranges.drop(event.root.path)
        if not before or before.addresses != event.addresses:
            for found in _ranges(event):
                self._ranges.add(found)

    def _overlaps(self, pool: PoolObserved) -> Iterator[Problem]:
        """Yield a problem for each range that shares an address with one of another pool that stands."""
        for mine in _ranges(pool):
            for theirs in self._ranges.meeting(mine):
                if theirs.owner != pool.root.path:
                    accepted = f"each address in one pool; pool {theirs.owner} has {theirs.text}"
                    yield Problem(field="spec.addresses", got=mine.text, accepted=accepted)


def _judge(comparison: Comparison) -> Judge:
    return _Pools(comparison).judge


def _ranges(pool: PoolObserved) -> Iterator[Range]:
    return (found for text in pool.addresses if (found := range_of(text, pool.root.path)))


VIPPOOL: Final = Kind(
    word="VIPPool",
    plural="vippools",
    group="weir.dev",
    versions=("v1alpha1",),
    namespaced=False,
    optional=True,
    decode=msgspec.json.Decoder(_Pool).decode,
    read=_read,
    observed=PoolObserved,
    gone=PoolGone,
    touches=_touches,
    judge=_judge,
    status=STATUS,
    fields=of_kind(
        spec=fields(
            "addresses autoAssign avoidBuggyIPs oneAnnouncer priority share shareWithNodes",
            serviceSelector=SELECTOR,
            namespaceSelector=SELECTOR,
        ),
        status=fields("total used", conditions=CONDITIONS),
    ),
)
