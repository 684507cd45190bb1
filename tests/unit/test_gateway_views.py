"""What the command line shows of Gateways and routes, those that nothing serves among them."""

import msgspec
import pytest
from test_lint import CLASS, GATEWAY, POOL, ROUTE, TLS

from services.watcher.settings import DEFAULT
from services.watcher.sources.yaml_documents import documents
from weir.cli.lint import world_of
from weir.decider import World
from weir.view.gateways import gateways, routes
from weir.view.status import Status


def world(*texts: str) -> World:
    return world_of({"shop.yaml": documents("shop.yaml", "\n---\n".join(texts).encode())}, DEFAULT)


def test_a_gateway_of_a_class_that_does_not_exist_is_shown_with_what_is_accepted() -> None:
    found = world(POOL, CLASS, (GATEWAY % TLS).replace("gatewayClassName: weir", "gatewayClassName: wier"))
    (gateway,) = gateways(found)
    assert (gateway.name, gateway.state) == ("shop/edge", "NoGatewayClass")
    assert gateway.message == "spec.gatewayClassName: got wier, accepted: weir"


def test_a_gateway_of_another_controller_is_not_shown() -> None:
    other = CLASS.replace("name: weir", "name: other").replace("controllerName: weir.dev/weir", "controllerName: example.com/other")
    assert "other" in other
    assert "example.com" in other
    found = world(POOL, other, (GATEWAY % TLS).replace("gatewayClassName: weir", "gatewayClassName: other"), ROUTE % ("edge", "web"))
    assert (gateways(found), routes(found)) == ([], [])


def test_a_route_at_a_gateway_that_does_not_exist_is_shown() -> None:
    (route,) = routes(world(POOL, CLASS, GATEWAY % TLS, ROUTE % ("egde", "web")))
    assert (route.name, route.parent, route.state) == ("shop/web", "shop/egde", "NoMatchingParent")
    assert route.message == "spec.parentRefs: got Gateway shop/egde, accepted: shop/edge"


@pytest.mark.parametrize(("parent", "good"), [("edge", False), ("egde", False)])
def test_a_route_that_is_not_served_is_in_the_status(parent: str, good: bool) -> None:
    found = world(POOL, CLASS, GATEWAY % TLS, ROUTE % (parent, "nobody"))
    status = Status(instance="weir", up=True, gateways=tuple(gateways(found)), routes=tuple(routes(found)))
    assert [route.good for route in status.routes] == [good]
    assert not status.gateways_good()
    assert not status.serving()
    assert msgspec.structs.replace(status, gateways=(), routes=()).gateways_good()
