"""Which rule takes a request, from the plan."""

import pytest

from tests.planner.gateway.test_refused import Log, root
from weir.events import GatewayClassObserved, GatewayObserved, HttpRouteObserved, NodeSeen, ServiceObserved, VipAllocated
from weir.model import (
    BackendRef,
    Filter,
    Listener,
    Match,
    ParentRef,
    PathMatch,
    Redirect,
    RouteRule,
    ServicePort,
    ValueMatch,
)
from weir.view.errors import NotFound, Unanswerable
from weir.view.requests import Decision, decide, request_of


def to(name: str, weight: int = 1) -> BackendRef:
    return BackendRef(name=name, namespace="shop", port=80, weight=weight)


def path(value: str, kind: str = "PathPrefix", **more: object) -> Match:
    return Match(path=PathMatch(kind=kind, value=value), **more)  # type: ignore[arg-type]


RULES = (
    RouteRule(matches=(path("/"),), backends=(to("web", 90), to("api", 10))),
    RouteRule(matches=(path("/cart", "Exact"),), backends=(to("api"),)),
    RouteRule(matches=(path("/cart"),), backends=(to("web"),)),
    RouteRule(matches=(path("/", headers=(ValueMatch(name="X-User", value="7"),)),), backends=(to("api"),)),
    RouteRule(matches=(path("/only", method="POST"),), backends=(to("api"),)),
    RouteRule(matches=(path("/old"),), filters=(Filter(type="RequestRedirect", redirect=Redirect(scheme="https", status=301)),)),
    RouteRule(matches=(path("/gone"),), backends=(to("nobody"),)),
    RouteRule(matches=(path(r"/v[0-9]+", "RegularExpression", queries=(ValueMatch(name="q", value="1"),)),), backends=(to("api"),)),
    RouteRule(matches=(path("/half"),), backends=(to("web"), to("nobody"))),
)


@pytest.fixture(scope="module")
def log() -> Log:
    edge = root("Gateway", "edge")
    parents = (ParentRef(name="edge", namespace="shop"),)
    return Log(
        NodeSeen(node="n1", hook="tc", layout=1, interfaces=("eth0",)),
        GatewayClassObserved(root=root("GatewayClass", "weir"), controller="weir.dev/weir", ours=True),
        GatewayObserved(root=edge, class_name="weir", listeners=(Listener(name="http", port=80, protocol="HTTP"),)),
        *(ServiceObserved(root=root("Service", name), exposed=False, ports=(ServicePort(port=80),)) for name in ("web", "api")),
        VipAllocated(vip="192.0.2.1", pool="p", holders=(edge.owner,), root=edge),
        HttpRouteObserved(root=root("HTTPRoute", "shop"), parents=parents, hostnames=("shop.example.com",), rules=RULES),
        HttpRouteObserved(root=root("HTTPRoute", "wild"), parents=parents, hostnames=("*.example.com",), rules=RULES[:1]),
    )


def decided(log: Log, words: str, *headers: str) -> Decision:
    method, _, url = words.partition(" ")
    return decide(log.fold.world, "shop/edge", request_of(method, url, headers))


@pytest.mark.parametrize(
    ("words", "headers", "rule", "upstreams", "status"),
    [
        ("GET http://shop.example.com/", (), "0", ("shop/web:80 90%", "shop/api:80 10%"), 0),
        ("GET http://shop.example.com/cart", (), "1", ("shop/api:80 100%",), 0),
        ("GET http://shop.example.com/cart/3", (), "2", ("shop/web:80 100%",), 0),
        ("GET http://shop.example.com/cartoon", (), "0", ("shop/web:80 90%", "shop/api:80 10%"), 0),
        ("GET http://shop.example.com/", ("x-user: 7",), "3", ("shop/api:80 100%",), 0),
        ("POST http://shop.example.com/only", (), "4", ("shop/api:80 100%",), 0),
        ("GET http://shop.example.com/old/thing", (), "5", (), 301),
        ("GET http://shop.example.com/gone", (), "6", (), 500),
        ("GET http://shop.example.com/half", (), "8", ("shop/web:80 50%", "answered 500 50%"), 0),
        ("GET http://shop.example.com/v2?q=1&q=2", (), "7", ("shop/api:80 100%",), 0),
        ("GET http://other.example.com/cart", (), "0", ("shop/web:80 90%", "shop/api:80 10%"), 0),
        ("GET http://192.0.2.1/", ("Host: shop.example.com",), "0", ("shop/web:80 90%", "shop/api:80 10%"), 0),
    ],
)
def test_the_first_rule_in_the_apis_order_takes_it(
    log: Log, words: str, headers: tuple[str, ...], rule: str, upstreams: tuple[str, ...], status: int
) -> None:
    found = decided(log, words, *headers)
    assert (found.rule, found.upstreams, found.status) == (rule, upstreams, status)
    assert [each.why for each in found.considered][-1] == ""


def test_what_does_not_match_says_why(log: Log) -> None:
    found = decided(log, "GET http://shop.example.com/only")
    whys = {each.rule: each.why for each in found.considered}
    assert (whys["1"], whys["4"], found.rule) == ("path /only", "method GET", "0")


def test_an_unknown_host_is_answered_404_and_an_unknown_port_is_named(log: Log) -> None:
    assert (decided(log, "GET http://nowhere.org/").status, decided(log, "GET http://nowhere.org/").route) == (404, "")
    with pytest.raises(NotFound, match="does not listen on port 8080: 80"):
        decided(log, "GET http://shop.example.com:8080/")
    with pytest.raises(NotFound, match="gateway 'shop/none' not found"):
        decide(log.fold.world, "shop/none", request_of("GET", "http://a/"))


@pytest.mark.parametrize("url", ["shop.example.com/", "ftp://shop/", "http:///x"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(Unanswerable, match="invalid URL"):
        request_of("GET", url)
