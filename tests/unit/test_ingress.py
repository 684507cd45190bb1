"""Ingresses: what is read, which class serves them, what they are shown as, and their status in a cluster."""

from pathlib import Path
from typing import Any

import pytest
from ipam_log import Log, pool
from test_gateway_views import world
from test_lint import POOL, WEB, of
from test_watcher_core import fact, only

from services.watcher.core import Watcher
from services.watcher.kinds.seen import Meta, Seen
from services.watcher.writer.ingress import STATUS
from services.watcher.writer.status import Note, View, Wanted
from weir.decider import Fact, World
from weir.events import GatewayStatusPlanned, IngressClassGone, IngressClassObserved, IngressObserved, VipAllocated, VipDenied
from weir.ingresses import class_of
from weir.model import BackendRef, Condition, IngressPath, IngressRule, IngressTls, ObjectRef, PathMatch, Root
from weir.view.ingresses import ingresses
from weir.view.requests import decide, request_of

BACKEND = "{service: {name: web, port: {number: 80}}}"
VIP = "203.0.113.7"


def ingress(spec: str, annotations: str = "") -> str:
    metadata = f"{{namespace: shop, name: web, annotations: {{{annotations}}}}}"
    return f"{{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {metadata}, spec: {{{spec}}}}}"


def with_path(path: str) -> str:
    return ingress(f"rules: [{{http: {{paths: [{{{path}}}]}}}}]")


def ingress_class(name: str = "weir", controller: str = "weir.dev/weir", annotations: str = "") -> str:
    metadata = f"{{name: {name}, annotations: {{{annotations}}}}}"
    return f"{{apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {metadata}, spec: {{controller: {controller}}}}}"


DEFAULT = 'ingressclass.kubernetes.io/is-default-class: "true"'


# ── reading ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "match"),
    [
        ("path: /a, pathType: Exact", PathMatch(kind="Exact", value="/a")),
        ("path: /a/, pathType: Exact", PathMatch(kind="Exact", value="/a/")),
        ("path: /a/, pathType: Prefix", PathMatch(value="/a")),
        ("path: /, pathType: Prefix", PathMatch()),
        ("path: /a//b, pathType: ImplementationSpecific", PathMatch(value="/a//b")),
        ("pathType: ImplementationSpecific", PathMatch()),
    ],
)
def test_types_of_paths_are_those_of_routes(path: str, match: PathMatch) -> None:
    event = fact(with_path(f"{path}, backend: {BACKEND}"))
    assert isinstance(event, IngressObserved)
    assert event.rules[0].paths == (IngressPath(path=match, backend=BackendRef(name="web", namespace="shop", port=80)),)


def test_everything_of_an_ingress_is_read() -> None:
    backend = "{resource: {apiGroup: example.com, kind: Bucket, name: files}}"
    tls = "tls: [{hosts: [Shop.example.com, shop.example.com], secretName: cert}, {secretName: all}]"
    event = fact(ingress(f"ingressClassName: weir, defaultBackend: {backend}, rules: [{{host: '*.example.com'}}], {tls}"))
    assert isinstance(event, IngressObserved)
    assert event.default_backend == BackendRef(group="example.com", kind="Bucket", name="files", namespace="shop")
    assert event.rules == (IngressRule(host="*.example.com"),)
    assert event.tls == (IngressTls(hosts=("shop.example.com",), secret="cert"), IngressTls(secret="all"))


@pytest.mark.parametrize(
    ("spec", "annotations", "name"),
    [
        ("ingressClassName: weir, ", "", "weir"),
        ("", "kubernetes.io/ingress.class: weir", "weir"),
        ("ingressClassName: weir, ", "kubernetes.io/ingress.class: nginx", "weir"),
        ("", "", ""),
    ],
)
def test_the_field_counts_before_the_older_annotation(spec: str, annotations: str, name: str) -> None:
    event = fact(ingress(f"{spec}defaultBackend: {BACKEND}", annotations))
    assert isinstance(event, IngressObserved)
    assert event.class_name == name


@pytest.mark.parametrize(
    ("manifest", "problem"),
    [
        (ingress("ingressClassName: weir"), "spec: got neither, accepted: rules, or a defaultBackend"),
        (ingress("rules: [{http: {}}]"), "spec.rules[0].http.paths: got nothing, accepted: at least one path"),
        (ingress("rules: [{hosts: [a.example.com]}]"), "spec.rules[0].hosts: got an unknown field, accepted: host"),
        (ingress("rules: [{host: 10.0.0.1}]"), "spec.rules[0].host: got '10.0.0.1', accepted: a hostname, not an address"),
        (ingress("rules: [{host: 'a.*.com'}]"), "spec.rules[0].host: got 'a.*.com', accepted: a hostname"),
        (with_path(f"path: /a, backend: {BACKEND}"), "spec.rules[0].http.paths[0].pathType: got nothing, accepted: Exact, Prefix"),
        (with_path(f"pathType: Prefix, backend: {BACKEND}"), "spec.rules[0].http.paths[0].path: got nothing, accepted: a path that"),
        (with_path(f"path: a, pathType: ImplementationSpecific, backend: {BACKEND}"), "spec.rules[0].http.paths[0].path: got 'a'"),
        (with_path(f"path: /a/../b, pathType: Prefix, backend: {BACKEND}"), "spec.rules[0].http.paths[0].path: got '/a/../b'"),
        (with_path(f"path: /a%2Fb, pathType: Exact, backend: {BACKEND}"), "spec.rules[0].http.paths[0].path: got '/a%2Fb'"),
        (with_path("path: /, pathType: Prefix"), "spec.rules[0].http.paths[0].backend: got neither, accepted: a service or a resource"),
        (ingress("defaultBackend: {service: {name: web}}"), "spec.defaultBackend.service.port: got nothing, accepted: a name or a number"),
        (
            ingress("defaultBackend: {service: {name: web, port: {name: http, number: 80}}}"),
            "spec.defaultBackend.service.port: got a mapping, accepted: a name or a number",
        ),
        (ingress_class(controller="''"), "spec.controller: got '', accepted: the name of a controller"),
        (ingress_class(annotations="weir.dev/ips: 203.0.113"), "metadata.annotations[weir.dev/ips]: got '203.0.113', accepted: an IPv4"),
    ],
)
def test_what_an_api_server_refuses_a_folder_refuses(manifest: str, problem: str) -> None:
    assert any(str(found).startswith(problem) for found in only(manifest).problems), only(manifest).problems


# ── classes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def observed_class(name: str, source: str = "", created: str = "", *, default: bool = True) -> IngressClassObserved:
    root = Root(kind="IngressClass", name=name, source=source, created=created)
    return IngressClassObserved(root=root, controller="weir.dev/weir", ours=True, default=default)


@pytest.mark.parametrize(
    ("classes", "named", "found"),
    [
        ([observed_class("a"), observed_class("b")], "b", "b"),
        ([observed_class("a")], "b", None),
        ([observed_class("a", default=False)], "", None),
        ([observed_class("b"), observed_class("a")], "", "a"),
        ([observed_class("a", created="2026-01-01T00:00:00Z"), observed_class("b", created="2026-02-01T00:00:00Z")], "", "b"),
        ([observed_class("a", source="east")], "", None),
        ([observed_class("a", source="east")], "a", None),
    ],
)
def test_the_class_is_the_one_named_or_the_default_of_the_source(
    classes: list[IngressClassObserved], named: str, found: str | None
) -> None:
    log = World()
    for seq, each in enumerate(classes, 1):
        log.evolve(Fact(seq, each))
    event = IngressObserved(root=Root(kind="Ingress", namespace="shop", name="web"), class_name=named)
    served = class_of(log, event)
    assert (served.root.name if served else None) == found


def test_a_class_holds_one_address_and_no_other_controllers_does() -> None:
    ours = observed_class("weir")
    theirs = IngressClassObserved(root=Root(kind="IngressClass", name="nginx"), controller="k8s.io/ingress-nginx")
    refused = IngressClassObserved(
        root=Root(kind="IngressClass", name="odd"), controller="w", ours=True, parameters=ObjectRef(kind="X", name="x")
    )
    log = Log(pool("lan", "192.0.2.0/29"), ours, theirs, refused)
    assert {vip.vip: vip.holders for vip in log.fold.world.of(VipAllocated)} == {"192.0.2.0": ("IngressClass/weir",)}
    assert log.restart() == []
    log.say(IngressClassGone(root=ours.root))
    assert log.fold.world.of(VipAllocated) == []


@pytest.mark.parametrize(
    ("requested", "vips"),
    [
        ({"weir.dev/staticIP": "192.0.2.5"}, ["192.0.2.5"]),
        ({"weir.dev/ips": "192.0.2.5, 198.51.100.1"}, ["192.0.2.5", "198.51.100.1"]),
        ({"weir.dev/pool": "Edge"}, ["198.51.100.0"]),
        ({"weir.dev/staticIP": "203.0.113.1"}, []),
    ],
)
def test_annotations_of_a_class_choose_its_addresses(requested: dict[str, str], vips: list[str]) -> None:
    asking = IngressClassObserved(root=Root(kind="IngressClass", name="weir"), controller="w", ours=True, requested=requested)
    log = Log(pool("lan", "192.0.2.0/29"), pool("edge", "198.51.100.0/30"), asking)
    assert sorted(vip.vip for vip in log.fold.world.of(VipAllocated)) == vips
    assert bool(log.fold.world.of(VipDenied)) == (not vips)


# ── what is shown ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_ingress_of_no_class_is_shown_with_what_is_accepted() -> None:
    named = ingress(f"ingressClassName: wier, defaultBackend: {BACKEND}")
    (found,) = ingresses(world(POOL, ingress_class(), named))
    assert (found.state, found.message) == ("NoIngressClass", "spec.ingressClassName: got wier, accepted: weir")
    assert [(each.object, each.reason, each.message) for each in of(POOL, ingress_class(), named)] == [
        ("Ingress shop/web", "NoIngressClass", found.message)
    ]
    (found,) = ingresses(world(ingress(f"defaultBackend: {BACKEND}")))
    assert found.message == (
        "spec.ingressClassName: got nothing, and no class is the default, accepted: an IngressClass, of which there is none"
    )


def test_an_ingress_of_another_controller_is_not_shown() -> None:
    other = ingress_class("nginx", "k8s.io/ingress-nginx", DEFAULT)
    texts = (POOL, other, ingress(f"defaultBackend: {BACKEND}"))
    assert (ingresses(world(*texts)), of(*texts)) == ([], [])


def test_lint_finds_what_is_wrong_with_an_ingress() -> None:
    taken = "tls: [{hosts: [a.example.com]}, {hosts: [b.example.com], secretName: missing}]"
    texts = (
        POOL,
        ingress_class(annotations=DEFAULT),
        WEB,
        ingress(f"defaultBackend: {{service: {{name: web, port: {{name: admin}}}}}}, {taken}"),
    )
    assert [(each.object, each.reason, each.message) for each in of(*texts) if each.object.startswith("Ingress")] == [
        (
            "Ingress shop/web",
            "BackendNotFound",
            "Service shop/web has no port admin/TCP; it has 80/TCP; Secret shop/missing not found; tls of a.example.com has no secretName",
        )
    ]


# ── status in a cluster ────────────────────────────────────────────────────────────────────────────────────────────

HOLDS = VipAllocated(vip=VIP, pool="lan", holders=("IngressClass/weir",), root=Root(kind="IngressClass", name="weir"))
ROOT = Root(kind="Ingress", namespace="shop", name="web")
NAMED = IngressObserved(root=ROOT, class_name="weir")


def planned(*reasons: str) -> GatewayStatusPlanned:
    """reasons: why it is not accepted, and why not programmed; "" where it is."""
    wrong = dict(zip(("Accepted", "Programmed"), reasons, strict=True))
    conditions = tuple(Condition(type=kind, status=not why, reason=why or kind, message=why) for kind, why in wrong.items())
    return GatewayStatusPlanned(owner=ROOT.owner, addresses=(VIP,), conditions=conditions, root=ROOT)


def wanted(before: list[dict[str, Any]], *events: Any, host: str = "") -> Wanted | None:
    log = World(Watcher(scopes=("@kube",)).indexes)
    for seq, event in enumerate((HOLDS, NAMED, *events), 1):
        log.evolve(Fact(seq, event))
    seen = Seen(metadata=Meta(name="web", namespace="shop"))
    status = {"loadBalancer": {"ingress": before} if before else {}}
    return STATUS.wanted(View(log, lambda _: seen, status, True, "@kube/Ingress/shop/web", "", "shop", "web", True, "now", host))


def addresses(found: Wanted | None) -> list[dict[str, Any]] | None:
    """What is to be written; None for nothing."""
    return found.status["loadBalancer"]["ingress"] if found and found.status is not None else None


@pytest.mark.parametrize(
    ("before", "events", "written"),
    [
        ([], [planned("", "Pending")], None),
        ([], [planned("", "")], [{"ip": VIP}]),
        ([{"ip": VIP}], [planned("", "")], None),
        ([{"ip": VIP}], [planned("", "Pending")], None),
        ([{"ip": "192.0.2.9"}], [planned("", "")], [{"ip": VIP}]),
        ([{"ip": "192.0.2.9"}], [], None),
        ([{"ip": VIP}], [], []),
        ([], [], None),
    ],
)
def test_an_address_is_written_once_nodes_have_confirmed_it_and_only_where_it_is_ours(
    before: list[dict[str, Any]], events: list[GatewayStatusPlanned], written: list[dict[str, Any]] | None
) -> None:
    assert addresses(wanted(before, *events)) == written


def test_addresses_are_written_as_hostnames_where_that_is_configured() -> None:
    assert addresses(wanted([], planned("", ""), host="lb")) == [{"hostname": f"lb-{VIP}"}]


def test_what_is_wrong_is_a_warning_and_waiting_is_none() -> None:
    found = wanted([], planned("Conflicted", "Pending"))
    assert found
    assert list(found.standing) == [Note(True, "Conflicted", "Conflicted")]


def test_the_example_has_no_finding_and_serves_each_host() -> None:
    text = (Path(__file__).parents[2] / "examples" / "ingress.yaml").read_text()
    assert of(text) == []
    found = world(text)
    assert [(each.name, each.vips) for each in ingresses(found)] == [("store/rest", ("203.0.113.31",)), ("store/shop", ("203.0.113.31",))]
    where = {url: decide(found, "weir", request_of("GET", f"http://{url}")).upstreams[0] for url in ("shop.example.com/cart", "other.org/")}
    assert where == {"shop.example.com/cart": "store/cart:80 100%", "other.org/": "store/web:80 100%"}
