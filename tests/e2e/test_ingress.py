"""Ingresses from a folder of manifests: one VIP for a class, hosts, paths and TLS by Envoy, status."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.test_gateway import POOL, VIP, Edge, named, secret, service
from tests.l7.certificates import Authority
from tests.own import own
from weir.demo.network import wait_until
from weir.demo.stage import stage

API = "networking.k8s.io/v1"
CLASS = {"apiVersion": API, "kind": "IngressClass", "metadata": {"name": "weir"}, "spec": {"controller": "weir.dev/weir"}}


def backend(name: str, port: int | str = 80) -> dict[str, Any]:
    return {"service": {"name": name, "port": {"number" if isinstance(port, int) else "name": port}}}


def rule(host: str, *paths: tuple[str, str, dict[str, Any]]) -> dict[str, Any]:
    return {"host": host, "http": {"paths": [{"pathType": kind, "path": path, "backend": to} for kind, path, to in paths]}}


def ingress(name: str, *rules: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"apiVersion": API, "kind": "Ingress", **named(name), "spec": {"ingressClassName": "weir", "rules": list(rules), **spec}}


SHOP = ingress(
    "shop",
    rule(
        "shop.example.com",
        ("Prefix", "/", backend("blue")),
        ("Prefix", "/cart", backend("green", "http")),
        ("Exact", "/cart/total", backend("blue")),
    ),
    rule("*.wild.example.com", ("Prefix", "/", backend("green"))),
    tls=[{"hosts": ["shop.example.com"], "secretName": "shop"}],
)
OTHERS = [
    ingress("rest", defaultBackend=backend("blue")),
    ingress("lost", rule("lost.example.com", ("Prefix", "/", backend("nobody")))),
]


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    if os.geteuid():
        pytest.skip("namespaces and BPF need root")
    with stage(own("weirin"), fast=True) as found:
        for file in (found.folder / "shop").iterdir():
            file.unlink()
        made = Edge(found)
        made.authority = Authority(tmp_path_factory.mktemp("ca"))
        made.write("secret.yaml", [secret("shop", *made.authority.sign("shop", "DNS:shop.example.com"))])
        made.write("shop.yaml", [POOL, CLASS, SHOP, *service("blue"), *service("green")])
        found.up()
        assert wait_until(lambda: made.get("shop.example.com")[0] == 200, 60), made.get("shop.example.com")
        yield made


def served_by(edge: Edge, hostname: str, path: str = "/") -> tuple[int, str]:
    """Status, and the backend that answered."""
    code, body = edge.get(hostname, path)
    return code, body.split()[0] if body else ""


def states(edge: Edge) -> dict[str, str]:
    return {row["name"]: row["state"] for row in edge.stage.ask("get ingress")}


def test_hosts_and_paths_choose_the_backend(edge: Edge) -> None:
    assert served_by(edge, "shop.example.com") == (200, "b1")
    assert served_by(edge, "shop.example.com", "/cart") == (200, "b2")
    assert served_by(edge, "shop.example.com", "/cart/items") == (200, "b2")
    assert served_by(edge, "shop.example.com", "/cartoon") == (200, "b1")
    assert served_by(edge, "shop.example.com", "/cart/total") == (200, "b1")
    assert served_by(edge, "unknown.example.com")[0] == 404


def test_a_wildcard_stands_for_one_label(edge: Edge) -> None:
    assert served_by(edge, "a.wild.example.com") == (200, "b2")
    assert served_by(edge, "A.Wild.Example.com:80") == (200, "b2")
    assert served_by(edge, "a.b.wild.example.com")[0] == 404
    assert served_by(edge, "wild.example.com")[0] == 404


def test_tls_hosts_are_served_with_their_certificate(edge: Edge) -> None:
    authority = str(edge.authority.path)
    assert wait_until(lambda: edge.get_tls("shop.example.com", authority)[0] == 200, 20), edge.get_tls("shop.example.com", authority)


def test_status_has_the_address_and_what_is_wrong(edge: Edge) -> None:
    edge.write("others.yaml", OTHERS)
    assert wait_until(lambda: served_by(edge, "unknown.example.com") == (200, "b1"), 20), served_by(edge, "unknown.example.com")
    expected = {"shop/shop": "Serving", "shop/rest": "Serving", "shop/lost": "BackendNotFound"}
    assert wait_until(lambda: states(edge) == expected, 20), states(edge)
    assert served_by(edge, "lost.example.com")[0] == 500
    assert {tuple(row["vips"]) for row in edge.stage.ask("get ingress")} == {(VIP,)}
    (row,) = edge.stage.ask("get gateways")
    assert (row["name"], row["kind"], row["vips"], row["routes"]) == ("weir", "IngressClass", [VIP], 3)
    (edge.stage.folder / "shop" / "others.yaml").unlink()
    assert wait_until(lambda: served_by(edge, "unknown.example.com")[0] == 404, 20)


def test_route_says_where_a_request_goes(edge: Edge) -> None:
    (told,) = edge.stage.ask("route weir GET https://shop.example.com/cart/items")
    assert (told["route"], told["rule"], told["upstreams"]) == ("Ingress/shop/shop", "rules[0].paths[1]", ["shop/green:80 100%"])
    (told,) = edge.stage.ask("route weir GET http://a.b.wild.example.com/")
    assert (told["route"], told["status"]) == ("", 404)
