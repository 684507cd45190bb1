"""The VIPs that this node's kernel answers for: the entries of `vips`."""

from collections.abc import Callable, Iterable, Sequence

from services.dataplane.l4.kernel import Kernel
from services.dataplane.l4.layout import VIP_SHARED, Vip
from services.dataplane.l4.maglev import PlanError
from weir.decider import World
from weir.events import AnnouncersPlanned, VipPlanned, key
from weir.pins import MapError, address_bytes, address_text

Slots = Callable[[Sequence[str]], tuple[int, ...]]


class Vips:
    """slots: LB nodes by name -> their slots in `lb_nodes`.   refused: VIPs that the kernel did not take, and why.

    These are tried again with every `put`.
    """

    def __init__(self, kernel: Kernel, slots: Slots) -> None:
        self._kernel, self._slots = kernel, slots
        self.refused: dict[str, str] = {}

    def put(self, world: World, vips: Iterable[str]) -> tuple[str, ...]:
        """Write the planned ones among `vips`.  Return those that are new here, except nodes' own addresses."""
        new = []
        for planned in filter(None, (vip_planned(world, vip) for vip in sorted({*vips, *self.refused}))):
            self._kernel.stuck.pop(("vips", address_bytes(planned.vip)), None)
            held = self._kernel.maps["vips"].get(address_bytes(planned.vip))
            value = Vip(VIP_SHARED if planned.shared_with_node else 0, self._slots(announcers_of(world, planned.vip)))
            try:
                self._kernel.write("vips", address_bytes(planned.vip), value.pack())
                if not value.flags and (not held or Vip.unpack(held).flags):
                    new.append(planned.vip)
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


def announcers_of(world: World, vip: str) -> tuple[str, ...]:
    """Return the LB nodes that may announce a VIP, the first choice first; none where each does."""
    planned = world.get(key("planner", "announcers", "", vip))
    return planned.nodes if isinstance(planned, AnnouncersPlanned) else ()
