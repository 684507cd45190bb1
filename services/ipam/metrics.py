"""What ipam holds, counted when asked."""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from services.ipam.pools import ranges_of
from weir.decider import World
from weir.events import PoolObserved, VipAllocated, VipDenied, VipReleased
from weir.service.metrics import Sample


class Usage(NamedTuple):
    """One pool and its VIPs.  total: addresses it offers; orphaned: held, and not offered any more."""

    pool: PoolObserved
    total: int
    held: int
    releasing: int
    orphaned: int

    @property
    def free(self) -> int:
        return max(0, self.total - self.held - self.releasing)


def usage(world: World) -> list[Usage]:
    """Every pool, by name."""
    held, releasing, orphaned = Counter[str](), Counter[str](), Counter[str]()
    for vip in world.of(VipAllocated):
        (orphaned if vip.orphaned else held)[vip.pool] += 1
    for released in world.of(VipReleased):
        releasing[released.pool] += 1
    return [
        Usage(
            pool,
            sum(found.last - found.first + 1 for found in ranges_of(pool.addresses)),
            *(counts[pool.root.path] for counts in (held, releasing, orphaned)),
        )
        for pool in world.of(PoolObserved)
    ]


def samples(world: World) -> Iterator[Sample]:
    """For `weir_pool_*` and `weir_claims_waiting`."""
    for each in usage(world):
        name = each.pool.root.path
        yield Sample("weir_pool_addresses", (name,), each.total)
        for state, count in (("held", each.held), ("releasing", each.releasing), ("orphaned", each.orphaned), ("free", each.free)):
            yield Sample("weir_pool_vips", (name, state), count)
    yield Sample("weir_claims_waiting", (), len(world.of(VipDenied)))
