"""What ipam holds, counted when asked."""

from collections.abc import Iterator

from weir.decider import World
from weir.events import VipDenied
from weir.service.metrics import Sample
from weir.view.pools import usage


def samples(world: World) -> Iterator[Sample]:
    """For `weir_pool_*` and `weir_claims_waiting`."""
    for each in usage(world):
        name = each.pool.root.path
        yield Sample("weir_pool_addresses", (name,), each.total)
        for state, count in (("held", each.held), ("releasing", each.releasing), ("orphaned", each.orphaned), ("free", each.free)):
            yield Sample("weir_pool_vips", (name, state), count)
    yield Sample("weir_claims_waiting", (), len(world.of(VipDenied)))
