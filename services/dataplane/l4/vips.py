"""The VIPs that this node's kernel answers for: the entries of `vips`."""

from collections.abc import Iterable

from services.dataplane.l4.kernel import Kernel
from services.dataplane.l4.layout import VIP_SHARED, Vip
from services.dataplane.l4.maglev import PlanError
from weir.decider import World
from weir.events import VipPlanned, key
from weir.pins import MapError, address_bytes, address_text


class Vips:
    """refused: VIPs that the kernel did not take, and why; they are tried again with every `put`."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.refused: dict[str, str] = {}

    def put(self, world: World, vips: Iterable[str]) -> tuple[str, ...]:
        """Write the planned ones among `vips`.  Return those that are new here, except nodes' own addresses."""
        new = []
        for planned in filter(None, (vip_planned(world, vip) for vip in sorted({*vips, *self.refused}))):
            self._kernel.stuck.pop(("vips", address_bytes(planned.vip)), None)
            held = self._kernel.maps["vips"].get(address_bytes(planned.vip))
            flags = VIP_SHARED if planned.shared_with_node else 0
            try:
                if not held or Vip.unpack(held).flags != flags:
                    self._kernel.write("vips", address_bytes(planned.vip), Vip(flags=flags).pack())
                    new += [] if flags else [planned.vip]
            except (MapError, PlanError) as error:
                self.refused[planned.vip] = str(error)
            else:
                self.refused.pop(planned.vip, None)
        return tuple(new)

    def withdraw(self, vips: Iterable[str]) -> None:
        """Remove VIPs from the kernel."""
        for vip in sorted(vips):
            self._kernel.delete("vips", address_bytes(vip))
            self.refused.pop(vip, None)

    def held(self) -> set[str]:
        """Return every VIP in the kernel."""
        return {address_text(vip) for vip, _ in self._kernel.maps["vips"].items()}


def vip_entity(vip: str) -> str:
    """Return the key of a planned VIP in the log."""
    return key("planner", "planvip", "", vip)


def vip_planned(world: World, vip: str) -> VipPlanned | None:
    """Return the plan of a VIP, None where it is withdrawn or unknown."""
    planned = world.get(vip_entity(vip))
    return planned if isinstance(planned, VipPlanned) else None
