"""Ingresses from a folder, the example with a certificate: one VIP for a class, hosts, paths and TLS by Envoy, status."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_gateway import VIP, Edge, secret
from tests.l7.certificates import Authority
from tests.own import own
from weir.demo.network import wait_until
from weir.demo.stage import stage

EXAMPLE = (Path(__file__).parents[2] / "examples" / "ingress.yaml").read_text()
NOBODY = {"service": {"name": "nobody", "port": {"number": 80}}}
LOST = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "Ingress",
    "metadata": {"namespace": "store", "name": "lost", "annotations": {"kubernetes.io/ingress.class": "weir"}},
    "spec": {"rules": [{"host": "lost.example.com", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": NOBODY}]}}]},
}


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    if os.geteuid():
        pytest.skip("namespaces and BPF need root")
    with stage(own("weirin"), fast=True) as found:
        for file in (found.folder / "shop").iterdir():
            file.unlink()
        made = Edge(found)
        made.authority = Authority(tmp_path_factory.mktemp("ca"))
        certificate = secret("shop", *made.authority.sign("shop", "DNS:shop.example.com"))
        made.write("secret.yaml", [certificate | {"metadata": {"namespace": "store", "name": "shop"}}])
        (found.folder / "shop" / "ingress.yaml").write_text(EXAMPLE.replace("203.0.113.31", VIP).replace("# tls:", "tls:"))
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


def test_a_wildcard_stands_for_one_label_and_the_rest_goes_to_the_default_backend(edge: Edge) -> None:
    assert served_by(edge, "a.shop.example.com") == (200, "b2")
    assert served_by(edge, "A.Shop.Example.com:80") == (200, "b2")
    assert served_by(edge, "a.b.shop.example.com") == (200, "b1")
    assert served_by(edge, "unknown.example.com") == (200, "b1")


def test_tls_hosts_are_served_with_their_certificate(edge: Edge) -> None:
    authority = str(edge.authority.path)
    assert wait_until(lambda: edge.get_tls("shop.example.com", authority)[0] == 200, 20), edge.get_tls("shop.example.com", authority)


def test_status_has_the_address_and_what_is_wrong(edge: Edge) -> None:
    edge.write("lost.yaml", [LOST])
    assert wait_until(lambda: served_by(edge, "lost.example.com")[0] == 500, 20), served_by(edge, "lost.example.com")
    expected = {"store/shop": "Serving", "store/rest": "Serving", "store/lost": "BackendNotFound"}
    assert wait_until(lambda: states(edge) == expected, 20), states(edge)
    assert {(row["class_name"], *row["vips"]) for row in edge.stage.ask("get ingress")} == {("weir", VIP)}
    (row,) = edge.stage.ask("get gateways")
    assert (row["name"], row["kind"], row["vips"], row["routes"]) == ("weir", "IngressClass", [VIP], 3)
    assert row["listeners"] == ["https:443/HTTPS", "http:80/HTTP"]
    (told,) = edge.stage.ask("describe ingress lost")
    assert {"ingress_observed", "gateway_status_planned"} <= {row["event"]["type"] for row in told["events"]}
    (edge.stage.folder / "shop" / "lost.yaml").unlink()
    assert wait_until(lambda: served_by(edge, "lost.example.com") == (200, "b1"), 20)


def test_route_says_where_a_request_goes(edge: Edge) -> None:
    (told,) = edge.stage.ask("route weir GET https://shop.example.com/cart/items")
    assert (told["route"], told["rule"], told["upstreams"]) == ("Ingress/store/shop", "rules[0].paths[1]", ["store/cart:80 100%"])
    (told,) = edge.stage.ask("route weir GET http://a.b.shop.example.com/")
    assert (told["route"], told["rule"]) == ("Ingress/store/rest", "defaultBackend")
