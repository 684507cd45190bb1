"""`weir route` against reality: what it says of random requests over random routes is what a real Envoy does.

WEIR_REQUESTS and WEIR_ROUTES ask for more than the few of a run of the suite.
"""

import asyncio
import os
import random
from pathlib import Path

import pytest

from tests.l7.backend import Backend, ask
from tests.l7.proxy import proxy
from tests.planner.gateway.test_refused import Log, root
from weir.events import (
    AnyEvent,
    BackendsPlanned,
    EndpointSliceObserved,
    GatewayClassObserved,
    GatewayObserved,
    HttpRouteObserved,
    ListenerPlanned,
    NodeSeen,
    ServiceObserved,
    UpstreamPlanned,
    VipAllocated,
    VirtualHostPlanned,
)
from weir.model import (
    BackendRef,
    Endpoint,
    Filter,
    Header,
    HeaderChange,
    Listener,
    Match,
    ParentRef,
    PathMatch,
    RouteRule,
    ServicePort,
    SlicePort,
    ValueMatch,
)
from weir.view.requests import decide, request_of

pytestmark = pytest.mark.usefixtures("loopback")
REQUESTS, ROUTES = int(os.environ.get("WEIR_REQUESTS", "300")), int(os.environ.get("WEIR_ROUTES", "40"))
VIP = "192.0.2.10"
HOSTS = ("a.example.com", "b.example.com", "x.a.example.com", "other.org", "")
PATTERNS = ("", "*.example.com", "*.a.example.com", "a.example.com", "b.example.com", "other.org")
PATHS = ("/", "/cart", "/cart/3", "/cartoon", "/v1", "/v2/x", "/cart/")
METHODS = ("GET", "POST", "PUT")


def listeners() -> tuple[Listener, ...]:
    names = {"any": "", "wild": "*.example.com", "a": "a.example.com"}
    return tuple(Listener(name=name, port=80, protocol="HTTP", hostname=hostname) for name, hostname in names.items())


def some_match(dice: random.Random) -> Match:
    kind = dice.choice(("Exact", "PathPrefix", "PathPrefix", "RegularExpression"))
    value = "/v[0-9]+(/.*)?" if kind == "RegularExpression" else dice.choice(PATHS[:-1])
    headers = (ValueMatch(name="x-user", value=dice.choice("12")),) if dice.random() < 0.3 else ()
    queries = (ValueMatch(name="q", value=dice.choice("12")),) if dice.random() < 0.3 else ()
    method = dice.choice(METHODS) if dice.random() < 0.3 else ""
    return Match(path=PathMatch(kind=kind, value=value), method=method, headers=headers, queries=queries)


def some_route(dice: random.Random, number: int) -> HttpRouteObserved:
    """Each rule names itself in its answers."""
    rules = []
    for place in range(dice.randint(1, 3)):
        named = Filter(type="ResponseHeaderModifier", headers=HeaderChange(set=(Header(name="x-rule", value=f"r{number}/{place}"),)))
        backends = (BackendRef(name="web" if dice.random() < 0.9 else "nobody", namespace="shop", port=80),)
        rules.append(RouteRule(matches=(some_match(dice),), filters=(named,), backends=backends))
    section = dice.choice(("", "any", "wild", "a"))
    hostnames = tuple(sorted({name for _ in range(dice.randint(0, 2)) if (name := dice.choice(PATTERNS))}))
    parents = (ParentRef(name="edge", namespace="shop", section=section),)
    return HttpRouteObserved(root=root("HTTPRoute", f"r{number}"), parents=parents, hostnames=hostnames, rules=tuple(rules))


def planned(dice: random.Random) -> Log:
    edge, of_web = root("Gateway", "edge"), root("EndpointSlice", "web-1")
    endpoints = (Endpoint(address="127.0.0.1"),)
    return Log(
        NodeSeen(node="n1", hook="tc", layout=1, interfaces=("eth0",)),
        GatewayClassObserved(root=root("GatewayClass", "weir"), controller="weir.dev/weir", ours=True),
        GatewayObserved(root=edge, class_name="weir", listeners=listeners()),
        ServiceObserved(root=root("Service", "web"), exposed=False, ports=(ServicePort(port=80),)),
        EndpointSliceObserved(root=of_web, service="web", family="IPv4", ports=(SlicePort(port=8080),), endpoints=endpoints),
        *(some_route(dice, number) for number in range(ROUTES)),
        VipAllocated(vip=VIP, pool="p", holders=(edge.owner,), root=edge),
    )


def plan_of(log: Log) -> list[AnyEvent]:
    kinds = (ListenerPlanned, UpstreamPlanned, BackendsPlanned, VirtualHostPlanned)
    return [event for kind in kinds for event in log.fold.world.of(kind)]


def test_the_prediction_is_what_the_proxy_does(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    log = planned(dice)

    async def whole() -> None:
        async with proxy(tmp_path) as found, Backend("web", "127.0.0.1", 8080):
            await found.applied(found.tell(*plan_of(log)))
            for number in range(REQUESTS):
                host, path, method = dice.choice(HOSTS) or VIP, dice.choice(PATHS), dice.choice(METHODS)
                query = f"?q={dice.choice('123')}" if dice.random() < 0.5 else ""
                headers = {"x-user": dice.choice("123")} if dice.random() < 0.5 else {}
                words = [f"{name}: {value}" for name, value in headers.items()]
                told = decide(log.fold.world, "shop/edge", request_of(method, f"http://{host}{path}{query}", words))
                answer = await ask(VIP, 80, f"{path}{query}", host, tuple(headers.items()), method)
                rule = f"{told.route.rpartition('/')[2]}/{told.rule}" if told.upstreams else ""
                expected = (told.status or 200, rule)
                got = (answer.status, answer.headers.get("x-rule", "") if answer.status == 200 else "")
                assert got == expected, f"seed {seed}, request {number}: {method} {host}{path}{query} {headers}"

    asyncio.run(whole())
