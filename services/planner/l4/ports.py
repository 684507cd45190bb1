"""Ports of a shared VIP that two Services want: until ipam separates them, the Service whose frontend is planned there keeps it."""

from weir.decider import World
from weir.events import AnyEvent, FrontendPlanned, ServiceObserved, VipAllocated, key, object_key
from weir.model import ServicePort, endpoint_name

_Port = tuple[int, str]


def other_holder(world: World, observed: ServiceObserved, vip: str, port: ServicePort) -> str:
    """The other Service that a port of the VIP is planned for, and that still holds the VIP and serves the port; "" for none."""
    planned = world.get(key("planner", "frontend", "", endpoint_name(vip, port.port, port.protocol)))
    if not isinstance(planned, FrontendPlanned) or planned.owner == observed.root.owner:
        return ""
    allocated = world.get(key("ipam", "vip", "", vip))
    holds = isinstance(allocated, VipAllocated) and planned.owner in allocated.holders
    other = world.get(object_key(planned.owner))
    return planned.owner if holds and (port.port, port.protocol) in _served(other) else ""


def waiting_for_ports(world: World, service: str, before: AnyEvent | None, now: AnyEvent) -> set[str]:
    """The Services on the VIPs of `service` that want a port which it served `before` and does not serve `now`."""
    released = _served(before) - _served(now)
    if not released:
        return set()
    others = {other for vip in world.find("concerned", service, VipAllocated) for other in vip.holders} - {service}
    return {other for other in others if released & _served(world.get(object_key(other)))}


def _served(observed: AnyEvent | None) -> set[_Port]:
    exposed = isinstance(observed, ServiceObserved) and observed.exposed
    return {(port.port, port.protocol) for port in observed.ports} if exposed else set()  # type: ignore[union-attr]
