"""VIPs: which Services hold each, and whether nodes announce it."""

from weir.decider import World
from weir.events import VipAllocated, VipPlanned, VipReleased
from weir.model import shown
from weir.view.value import View


class VipView(View, frozen=True):
    """One VIP.  state: held, announced, or releasing while a node may still forward for it."""

    vip: str
    pool: str
    services: tuple[str, ...]
    state: str
    share_key: str
    orphaned: bool


def vips(world: World) -> list[VipView]:
    """Return every VIP that is allocated, or not yet released by every node, by address."""
    announced = {event.vip for event in world.of(VipPlanned)}
    known: list[VipAllocated | VipReleased] = [*world.of(VipAllocated), *world.of(VipReleased)]
    return [_vip(event, announced=event.vip in announced) for event in sorted(known, key=lambda event: event.vip)]


def _vip(event: VipAllocated | VipReleased, *, announced: bool) -> VipView:
    return VipView(
        vip=event.vip,
        pool=event.pool,
        services=tuple(map(shown, event.holders)),
        state="releasing" if isinstance(event, VipReleased) else "announced" if announced else "held",
        share_key=event.share_key if isinstance(event, VipAllocated) else "",
        orphaned=isinstance(event, VipAllocated) and event.orphaned,
    )
