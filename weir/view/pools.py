"""Address pools: how much of each is in use, and what of its latest manifest is invalid."""

from collections import Counter

from weir.decider import World
from weir.events import ManifestRejected, PoolObserved, VipAllocated, VipReleased
from weir.ranges import ranges_of
from weir.view.value import View


class Usage(View, frozen=True):
    """One pool and its VIPs.

    total: addresses it offers.   held: allocated to a Service.   releasing: waiting for nodes to stop forwarding.
    orphaned: allocated, but no longer offered by the pool.
    """

    pool: PoolObserved
    total: int
    held: int
    releasing: int
    orphaned: int

    @property
    def free(self) -> int:
        return max(0, self.total - self.held - self.releasing)


class PoolView(View, frozen=True):
    """One pool.  used: held, orphaned and releasing.   problems: of a manifest that was rejected; the one before it is in force."""

    name: str
    addresses: tuple[str, ...]
    auto_assign: bool
    used: int
    total: int
    orphaned: int
    problems: tuple[str, ...]


def usage(world: World) -> list[Usage]:
    """Count the addresses of every pool, by name."""
    held, releasing, orphaned = Counter[str](), Counter[str](), Counter[str]()
    for vip in world.of(VipAllocated):
        (orphaned if vip.orphaned else held)[vip.pool] += 1
    for released in world.of(VipReleased):
        releasing[released.pool] += 1
    return [
        Usage(
            pool=pool,
            total=sum(found.last - found.first + 1 for found in ranges_of(pool.addresses)),
            held=held[pool.root.path],
            releasing=releasing[pool.root.path],
            orphaned=orphaned[pool.root.path],
        )
        for pool in world.of(PoolObserved)
    ]


def pools(world: World) -> list[PoolView]:
    """Return every pool, by name."""
    rejected = (event for event in world.of(ManifestRejected) if event.root and event.root.kind == "VIPPool")
    problems = {event.root.path: tuple(map(str, event.problems)) for event in rejected if event.root}
    return [
        PoolView(
            name=each.pool.root.path,
            addresses=each.pool.addresses,
            auto_assign=each.pool.auto_assign,
            used=each.held + each.orphaned + each.releasing,
            total=each.total,
            orphaned=each.orphaned,
            problems=problems.get(each.pool.root.path, ()),
        )
        for each in usage(world)
    ]
