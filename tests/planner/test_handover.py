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
from weir.model import ServicePort, shown

VIP = "203.0.113.1"
RELEASED = VipReleased(vip=VIP, pool="lan", holders=("Service/shop/web",), root=root("web"))
SHARED = VipAllocated(vip=VIP, pool="lan", holders=("Service/shop/api", "Service/shop/web"), share_key="k", root=root("api"))


def serving(name: str, *ports: int) -> ServiceObserved:
    return replace(service(name), ports=tuple(ServicePort(port=port) for port in ports))


def owners(log: Log) -> dict[int, str]:
    """Port of the VIP -> the Service that it is planned for."""
    return {frontend.port: shown(frontend.owner) for frontend in log.fold.world.of(FrontendPlanned)}


def test_a_vip_is_withdrawn_after_its_frontends_so_that_who_confirms_it_forwards_nothing_for_it() -> None:
    log = Log(service("web", ports=2), allocated(VIP, "web"))
    kinds = [type(event) for event in log.say(RELEASED, ServiceGone(root=root("web")))]
    assert kinds[-1] is VipWithdrawn
    assert kinds.count(FrontendWithdrawn) == 2


def test_a_vip_is_withdrawn_last_also_by_a_planner_that_was_down() -> None:
    log = Log(service("web", ports=2), allocated(VIP, "web"))
    kinds = [type(event) for event in log.miss(RELEASED, ServiceGone(root=root("web")))]
    assert kinds[-1] is VipWithdrawn


def test_a_service_that_wants_the_port_of_another_on_its_vip_does_not_take_it() -> None:
    log = Log(serving("api", 443), serving("web", 80), SHARED)
    log.say(serving("api", 443, 80))
    assert owners(log) == {443: "shop/api", 80: "shop/web"}


def test_a_service_that_lacks_a_port_is_not_programmed_and_says_who_has_it() -> None:
    log = Log(NodeSeen(node="n1", hook="tc", layout=1, interfaces=()), serving("api", 443), serving("web", 80), SHARED)
    log.say(serving("api", 443, 80))
    log.say(AppliedThrough(node="n1", seq=1000))
    conditions = {status.root.path: status.conditions[-1] for status in log.fold.world.of(StatusPlanned)}
    assert conditions["shop/web"].status
    assert (conditions["shop/api"].status, conditions["shop/api"].reason) == (False, "PortHeld")
    assert conditions["shop/api"].message == f"{VIP} serves 80/TCP for shop/web"


def test_a_port_passes_on_when_its_service_does_not_serve_it_any_more() -> None:
    for change in (serving("web", 81), replace(serving("web", 80), exposed=False), ServiceGone(root=root("web"))):
        log = Log(serving("api", 443), serving("web", 80), SHARED, serving("api", 443, 80))
        log.say(change)
        assert owners(log)[80] == "shop/api", change


def test_a_port_passes_on_when_its_service_leaves_the_vip() -> None:
    log = Log(serving("api", 443), serving("web", 80), SHARED, serving("api", 443, 80))
    events: list[AnyEvent] = log.say(replace(SHARED, holders=("Service/shop/api",)))
    assert owners(log) == {443: "shop/api", 80: "shop/api"}
    assert not [event for event in events if isinstance(event, FrontendWithdrawn)], "no packet finds the port without a frontend"
