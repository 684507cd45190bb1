"""How an address, or a port of a shared one, passes from one Service to another."""

from msgspec.structs import replace
from test_plan import Log, allocated, root, service

from weir.events import (
    AnyEvent,
    AppliedThrough,
    FrontendPlanned,
    FrontendWithdrawn,
    NodeSeen,
    ServiceGone,
    ServiceObserved,
    StatusPlanned,
    VipAllocated,
    VipReleased,
    VipWithdrawn,
)
from weir.model import ServicePort

VIP = "203.0.113.1"
RELEASED = VipReleased(vip=VIP, pool="lan", services=("shop/web",), root=root("web"))
SHARED = VipAllocated(vip=VIP, pool="lan", services=("shop/api", "shop/web"), share_key="k", root=root("api"))


def serving(name: str, *ports: int) -> ServiceObserved:
    return replace(service(name), ports=tuple(ServicePort(port=port) for port in ports))


def owners(log: Log) -> dict[int, str]:
    """Port of the VIP -> the Service that it is planned for."""
    return {frontend.port: frontend.service for frontend in log.fold.world.of(FrontendPlanned)}


def test_a_vip_is_withdrawn_after_its_frontends_so_that_who_confirms_it_forwards_nothing_for_it() -> None:
    log = Log(service("web", ports=2), allocated(VIP, "web"))
    kinds = [type(event) for event in log.say(RELEASED, ServiceGone(root=root("web")))]
    assert kinds[-1] is VipWithdrawn
    assert kinds.count(FrontendWithdrawn) == 2


def test_a_vip_is_withdrawn_last_also_by_a_planner_that_was_down() -> None:
    log = Log(service("web", ports=2), allocated(VIP, "web"))
    kinds = [type(event) for event in log.miss(RELEASED, ServiceGone(root=root("web")))]
    assert kinds[-1] is VipWithdrawn
