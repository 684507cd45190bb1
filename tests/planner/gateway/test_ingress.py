"""Which Ingress takes a request: the plan against a few lines that say it as the API does."""

from collections.abc import Iterator, Sequence

from hypothesis import given
from hypothesis import strategies as st

from services.planner.core import Planner
from services.planner.gateway.hostnames import closest
from tests.planner.gateway.test_touched import Log
from weir.decider import Fact, World
from weir.events import (
    AnyEvent,
    AppliedThrough,
    GatewayStatusPlanned,
    IngressClassObserved,
    IngressObserved,
    ListenerPlanned,
    NodeAddressesObserved,
    NodeSeen,
    SecretGone,
    SecretObserved,
    VipAllocated,
)
from weir.model import BackendRef, IngressPath, IngressRule, IngressTls, PathMatch, Root
from weir.view.requests import Request, decide, request_of

CLASS = Root(kind="IngressClass", name="weir")
HOSTS = ("", "example.com", "a.example.com", "b.example.com", "*.example.com", "a.b.example.com", "*.b.example.com")
ASKED = (*(host for host in HOSTS if host and "*" not in host), "c.example.com", "c.b.example.com", "nowhere.org")
PATHS = ("/", "/a", "/a/b", "/ab", "/a/b/c")
BACKEND = BackendRef(name="web", namespace="shop", port=80)

paths = st.builds(
    lambda value, kind: IngressPath(path=PathMatch(kind=kind, value=value), backend=BACKEND),
    st.sampled_from(PATHS),
    st.sampled_from(("Exact", "PathPrefix")),
)
rules = st.builds(IngressRule, host=st.sampled_from(HOSTS), paths=st.lists(paths, max_size=3).map(tuple))
tls = st.builds(IngressTls, hosts=st.lists(st.sampled_from(HOSTS[1:]), max_size=2, unique=True).map(tuple), secret=st.just("cert"))


@st.composite
def several(draw: st.DrawFn) -> list[IngressObserved]:
    """Of any age; some are of one age, as manifests in a folder are."""
    ages = draw(st.lists(st.sampled_from(("", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z")), min_size=1, max_size=4))
    return [
        IngressObserved(
            root=Root(kind="Ingress", namespace="shop", name=f"i{number}", created=age),
            class_name="weir",
            rules=tuple(draw(st.lists(rules, max_size=3))),
            default_backend=draw(st.sampled_from((None, BACKEND))),
            tls=tuple(draw(st.lists(tls, max_size=1))),
        )
        for number, age in enumerate(ages)
    ]


def planned(ingresses: Sequence[IngressObserved]) -> World:
    planner = Planner()
    world = World(planner.indexes)
    secret = SecretObserved(root=Root(kind="Secret", namespace="shop", name="cert"), digest="d")
    vip = VipAllocated(vip="192.0.2.1", pool="lan", holders=(CLASS.owner,), root=CLASS)
    found = (IngressClassObserved(root=CLASS, controller="weir.dev/weir", ours=True), secret, vip, *ingresses)
    for seq, event in enumerate(found, 1):
        world.evolve(Fact(seq, event))
    for decided in planner.reconcile(world):
        world.evolve(Fact(len(world.facts) + 1, decided.event))
    return world


# ── as the API says it ─────────────────────────────────────────────────────────────────────────────────────────────


def stands_for(host: str, name: str) -> bool:
    """A wildcard is one label."""
    return host in ("", name) or (host.startswith("*.") and name.split(".")[1:] == host.split(".")[1:])


def takes(match: PathMatch, path: str) -> bool:
    if match.kind == "Exact":
        return path == match.value
    wanted = [part for part in match.value.split("/") if part]
    return [part for part in path.split("/") if part][: len(wanted)] == wanted


def expected(ingresses: Sequence[IngressObserved], name: str, path: str) -> str:
    """The Ingress and its rule; "" for none."""
    by_age = sorted(ingresses, key=lambda each: (each.root.created, each.root.name))
    for host in (name, f"*.{name.partition('.')[2]}", ""):
        found = [
            ((each.path.kind != "Exact", -len(each.path.value)), f"{ingress.root.owner} rules[{i}].paths[{j}]")
            for ingress in by_age
            for i, rule in enumerate(ingress.rules)
            if rule.host == host
            for j, each in enumerate(rule.paths)
            if takes(each.path, path)
        ]
        if found:
            return min(found, key=lambda each: each[0])[1]  # the first of several
        own = [each for each in by_age if each.default_backend and (not host or host in {rule.host for rule in each.rules})]
        if own:
            return f"{own[0].root.owner} defaultBackend"
    return ""


def requests(ingresses: Sequence[IngressObserved]) -> Iterator[tuple[str, str, Request]]:
    """Plain ones, and over TLS those for names that have a certificate.

    A proxy takes connections to a.b.example.com for those of a wildcard certificate, which is not valid there.
    """
    covered = {host for ingress in ingresses for each in ingress.tls for host in each.hosts or ("",)}
    for name in ASKED:
        pattern = closest(covered, name)
        schemes = ["http", *(["https"] if pattern is not None and stands_for(pattern, name) else [])]
        for path in (*PATHS, "/a/", "/a/b/x", "/other"):
            for scheme in schemes:
                yield name, path, request_of("GET", f"{scheme}://{name}{path}")


@given(several())
def test_a_request_goes_where_the_api_says(ingresses: list[IngressObserved]) -> None:
    world = planned(ingresses)
    for name, path, request in requests(ingresses):
        found = decide(world, "weir", request)
        assert f"{found.route} {found.rule}".strip() == expected(ingresses, name, path), (name, path, request.tls)


def test_classes_of_one_name_in_two_clusters_are_planned_apart() -> None:
    planner = Planner()
    world = World(planner.indexes)
    found: list[AnyEvent] = []
    for source in ("", "east"):
        root = Root(kind="IngressClass", name="weir", source=source)
        ingress = Root(kind="Ingress", name="web", namespace="shop", source=source)
        found.append(IngressClassObserved(root=root, controller="weir.dev/weir", ours=True))
        found.append(VipAllocated(vip=f"192.0.2.{len(found)}", pool="lan", holders=(root.owner,), root=root))
        found.append(IngressObserved(root=ingress, class_name="weir", default_backend=BACKEND))
    for seq, event in enumerate(found, 1):
        world.evolve(Fact(seq, event))
    for decided in planner.reconcile(world):
        world.evolve(Fact(len(world.facts) + 1, decided.event))
    assert [decided.event for decided in planner.reconcile(world)] == []
    vips = {status.owner: status.addresses for status in world.of(GatewayStatusPlanned)}
    assert (vips["Ingress/shop/web"], vips["Ingress/east:shop/web"]) == (("192.0.2.1",), ("192.0.2.4",))
    assert [(each.owner, each.vips) for each in world.of(ListenerPlanned)] == [
        ("IngressClass/east:weir", ("192.0.2.4",)),
        ("IngressClass/weir", ("192.0.2.1",)),
    ]


def test_a_secret_that_comes_and_goes_is_served_while_it_is_there() -> None:
    log = Log()
    ingress = IngressObserved(
        root=Root(kind="Ingress", name="web", namespace="shop"),
        class_name="weir",
        default_backend=BACKEND,
        tls=(IngressTls(hosts=("a.example.com",), secret="cert"),),
    )
    secret = Root(kind="Secret", namespace="shop", name="cert")

    def ports() -> list[int]:
        assert log.not_planned() == []
        return [each.port for each in log.world.of(ListenerPlanned)]

    log.take(VipAllocated(vip="192.0.2.1", pool="lan", holders=(CLASS.owner,), root=CLASS))
    for event in (IngressClassObserved(root=CLASS, controller="weir.dev/weir", ours=True), ingress):
        log.take(event)
    assert ports() == [80]
    log.take(SecretObserved(root=secret, digest="d"))
    assert ports() == [443, 80]
    log.take(SecretObserved(root=secret, digest="", problem="the certificate has expired"))
    assert ports() == [80]
    (status,) = (each for each in log.world.of(GatewayStatusPlanned) if each.root.kind == "Ingress")
    assert [each.message for each in status.conditions if each.type == "ResolvedRefs"] == [
        "Service shop/web not found; Secret shop/cert: the certificate has expired"
    ]
    log.take(SecretGone(root=secret))
    assert ports() == [80]


def statuses(log: Log) -> dict[str, str]:
    """Ingress -> the reason of its condition Programmed."""
    found = (each for each in log.world.of(GatewayStatusPlanned) if each.root.kind == "Ingress")
    return {each.root.name: next(c.reason for c in each.conditions if c.type == "Programmed") for each in found}


def with_rule(name: str, host: str, path: str) -> IngressObserved:
    rule = IngressRule(host=host, paths=(IngressPath(path=PathMatch(value=path), backend=BACKEND),))
    return IngressObserved(root=Root(kind="Ingress", namespace="shop", name=name), class_name="weir", rules=(rule,))


def test_an_ingress_waits_for_nodes_where_another_changes_its_host() -> None:
    log = Log()
    log.take(NodeSeen(node="n1", hook="tc", layout=1, interfaces=("eth0",)))
    log.take(NodeAddressesObserved(node="n1"))
    log.take(VipAllocated(vip="192.0.2.1", pool="lan", holders=(CLASS.owner,), root=CLASS))
    log.take(IngressClassObserved(root=CLASS, controller="weir.dev/weir", ours=True))
    for name, host in {"a": "example.com", "b": "example.com", "c": "c.example.com"}.items():
        log.take(with_rule(name, host, f"/{name}"))
    log.take(AppliedThrough(node="n1", seq=log.head))
    assert statuses(log) == dict.fromkeys("abc", "Programmed")
    log.take(with_rule("a", "example.com", "/other"))
    assert statuses(log) == {"a": "Pending", "b": "Pending", "c": "Programmed"}
    assert log.not_planned() == []


def test_an_ingress_of_a_class_that_is_gone_has_no_status() -> None:
    log = Log()
    log.take(IngressClassObserved(root=CLASS, controller="weir.dev/weir", ours=True, default=True))
    log.take(IngressObserved(root=Root(kind="Ingress", namespace="shop", name="web"), default_backend=BACKEND))
    assert statuses(log) == {"web": "AddressNotAssigned"}
    log.take(IngressClassObserved(root=CLASS, controller="weir.dev/weir", ours=True))
    assert statuses(log) == {}
    assert log.not_planned() == []
