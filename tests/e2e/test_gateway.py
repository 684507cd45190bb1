"""A Gateway and its routes from a folder of manifests: VIP, packet path, Envoy, status."""

import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.l7.certificates import Authority
from tests.own import own
from weir.demo.network import wait_until
from weir.demo.stage import Stage, stage

VIP = "203.0.113.30"
GATEWAY_API = "gateway.networking.k8s.io/v1"
BACKENDS = {"blue": "10.77.0.11", "green": "10.77.0.12"}


def named(name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "shop", "name": name, **more}}


def service(name: str) -> list[dict[str, Any]]:
    """Not exposed: only routes reach it.  With its slice of one backend."""
    labels = {"kubernetes.io/service-name": name}
    slice_ports = [{"name": "http", "port": 8080}, {"name": "dns", "port": 5353, "protocol": "UDP"}]
    ports = [{"name": "http", "port": 80, "targetPort": 8080}, {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 5353}]
    endpoints = {"ports": slice_ports, "endpoints": [{"addresses": [BACKENDS[name]]}]}
    return [
        {"apiVersion": "v1", "kind": "Service", **named(name), "spec": {"ports": ports}},
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", **named(name, labels=labels), **endpoints},
    ]


def route(name: str, hostname: str, *rules: dict[str, Any]) -> dict[str, Any]:
    spec = {"parentRefs": [{"name": "edge"}], "hostnames": [hostname], "rules": list(rules)}
    return {"apiVersion": GATEWAY_API, "kind": "HTTPRoute", **named(name), "spec": spec}


def to(*weights: tuple[str, int], **more: Any) -> dict[str, Any]:
    return {"backendRefs": [{"name": name, "port": 80, "weight": weight} for name, weight in weights], **more}


def forwarded(kind: str, name: str, section: str, port: int) -> dict[str, Any]:
    spec = {"parentRefs": [{"name": "edge", "sectionName": section}], "rules": [{"backendRefs": [{"name": "blue", "port": port}]}]}
    return {"apiVersion": GATEWAY_API, "kind": kind, **named(name), "spec": spec}


def secret(name: str, certificate: str, key: str) -> dict[str, Any]:
    content = {"tls.crt": certificate, "tls.key": key}
    return {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", **named(name), "stringData": content}


def https(name: str, hostname: str) -> dict[str, Any]:
    tls = {"certificateRefs": [{"name": name}]}
    return {"name": f"https-{name}", "port": 443, "protocol": "HTTPS", "hostname": hostname, "tls": tls}


GATEWAY = {
    "apiVersion": GATEWAY_API,
    "kind": "Gateway",
    **named("edge"),
    "spec": {
        "gatewayClassName": "weir",
        "addresses": [{"type": "IPAddress", "value": VIP}],
        "listeners": [
            {"name": "http", "port": 80, "protocol": "HTTP"},
            {"name": "tcp", "port": 9000, "protocol": "TCP"},
            {"name": "udp", "port": 5300, "protocol": "UDP"},
            https("one", "one.example.com"),
            https("many", "*.many.example.com"),
        ],
    },
}
CLASS = {"apiVersion": GATEWAY_API, "kind": "GatewayClass", "metadata": {"name": "weir"}, "spec": {"controllerName": "weir.dev/weir"}}
POOL = {"apiVersion": "weir.dev/v1alpha1", "kind": "VIPPool", "metadata": {"name": "edge"}, "spec": {"addresses": [f"{VIP}/32"]}}
PREFIX = {
    "matches": [{"path": {"type": "PathPrefix", "value": "/app"}}],
    "filters": [{"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}}],
}
GRANT = {
    "apiVersion": "gateway.networking.k8s.io/v1beta1",
    "kind": "ReferenceGrant",
    "metadata": {"namespace": "other", "name": "shop"},
    "spec": {
        "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "shop"}],
        "to": [{"group": "", "kind": "Service"}],
    },
}
GONE = ("late", "sick")  # routes that tests write and take away
REDIRECT = {"filters": [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "statusCode": 301}}]}
ROUTES = [
    route("split", "split.example.com", to(("blue", 50), ("green", 50))),
    route("moved", "moved.example.com", REDIRECT),
    route("lost", "lost.example.com", {"backendRefs": [{"name": "nobody", "port": 80}]}),
    route("stripped", "stripped.example.com", to(("blue", 1), **PREFIX)),
    route("foreign", "foreign.example.com", {"backendRefs": [{"name": "green", "namespace": "other", "port": 80}]}),
    route("one", "one.example.com", to(("blue", 1))),
    route("many", "a.many.example.com", to(("green", 1))),
    forwarded("TCPRoute", "raw", "tcp", 80),
    forwarded("UDPRoute", "datagrams", "udp", 53),
]


class Edge:
    """A box with one Gateway."""

    def __init__(self, found: Stage) -> None:
        self.stage = found
        self.authority: Authority

    def write(self, name: str, objects: list[dict[str, Any]]) -> None:
        (self.stage.folder / "shop" / name).write_text(yaml.safe_dump_all(objects))

    def state(self) -> str:
        """The Gateway's, as listed; Pending while the node applies a change of it or of a route."""
        return next((row["state"] for row in self.stage.ask("get gateways")), "")

    def get_tls(self, hostname: str, authority: str) -> tuple[int, str]:
        """The same over TLS, with the server name, trusting `authority`."""
        words = (
            "-s",
            "-m",
            "3",
            "-w",
            "\n%{http_code}",
            "--cacert",
            authority,
            "--resolve",
            f"{hostname}:443:{VIP}",
            f"https://{hostname}/",
        )
        body, _, code = self.stage.network.run("client", "curl", *words, check=False).stdout.rpartition("\n")
        return int(code or 0), body

    def datagram(self) -> str:
        """The answer to one datagram; "" for none."""
        program = (
            "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(2)\n"
            f"s.connect(('{VIP}', 5300)); s.send(b'hello'); print(s.recv(99).decode())"
        )
        return self.stage.network.run("client", sys.executable, "-c", program, check=False).stdout

    def get(self, hostname: str, path: str = "/", port: int = 80) -> tuple[int, str]:
        """Status (0: no answer) and body of a request to the VIP."""
        words = ("-s", "-m", "3", "-w", "\n%{http_code}", "-H", f"Host: {hostname}", f"http://{VIP}:{port}{path}")
        body, _, code = self.stage.network.run("client", "curl", *words, check=False).stdout.rpartition("\n")
        return int(code or 0), body


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    if os.geteuid():
        pytest.skip("namespaces and BPF need root")
    with stage(own("weirgw"), fast=True) as found:
        for file in (found.folder / "shop").iterdir():
            file.unlink()
        made = Edge(found)
        made.authority = Authority(tmp_path_factory.mktemp("ca"))
        secrets = [
            secret("one", *made.authority.sign("one", "DNS:one.example.com")),
            secret("many", *made.authority.sign("many", "DNS:*.many.example.com")),
        ]
        other = [each | {"metadata": each["metadata"] | {"namespace": "other"}} for each in service("green")]
        made.write("secrets.yaml", secrets)
        made.write("other.yaml", other)
        made.write("gateway.yaml", [POOL, CLASS, GATEWAY, *service("blue"), *service("green"), *ROUTES])
        found.up()
        assert wait_until(lambda: made.get("split.example.com")[0] == 200, 60), made.get("split.example.com")
        assert wait_until(lambda: made.state() == "Serving", 20), made.state()
        yield made


def test_requests_are_split_between_backends(edge: Edge) -> None:
    answers = [edge.get("split.example.com") for _ in range(40)]
    assert {code for code, _ in answers} == {200}
    assert len({body for _, body in answers}) == 2


def test_a_redirect_is_answered_by_the_proxy(edge: Edge) -> None:
    assert edge.get("moved.example.com")[0] == 301


def test_a_route_without_a_backend_is_answered_500_and_an_unknown_name_404(edge: Edge) -> None:
    assert edge.get("lost.example.com")[0] == 500
    assert edge.get("unknown.example.com")[0] == 404


def test_a_tcp_listener_is_forwarded_by_the_kernel(edge: Edge) -> None:
    assert edge.get("anything", port=9000)[0] == 200


def test_a_udp_listener_is_forwarded_by_the_kernel(edge: Edge) -> None:
    assert edge.datagram().startswith("b1 ")


def test_a_prefix_is_replaced(edge: Edge) -> None:
    code, body = edge.get("stripped.example.com", "/app/cart")
    assert (code, body.split()[-1]) == (200, "/cart")
    assert edge.get("stripped.example.com", "/app")[1].split()[-1] == "/"
    assert edge.get("stripped.example.com", "/apple")[0] == 404


@pytest.mark.parametrize(("hostname", "backend"), [("one.example.com", "b1"), ("a.many.example.com", "b2")])
def test_the_server_name_chooses_certificate_and_route(edge: Edge, hostname: str, backend: str) -> None:
    assert wait_until(lambda: edge.get_tls(hostname, str(edge.authority.path))[0] == 200, 20), edge.get_tls(
        hostname, str(edge.authority.path)
    )
    assert edge.get_tls(hostname, str(edge.authority.path))[1].split()[0] == backend


def test_a_backend_of_another_namespace_is_served_only_while_it_is_granted(edge: Edge) -> None:
    assert edge.get("foreign.example.com")[0] == 500
    edge.write("grant.yaml", [GRANT])
    assert wait_until(lambda: edge.get("foreign.example.com")[0] == 200, 20)
    (edge.stage.folder / "shop" / "grant.yaml").unlink()
    assert wait_until(lambda: edge.get("foreign.example.com")[0] == 500, 20)


def test_no_key_is_in_the_log(edge: Edge) -> None:
    rows = edge.stage.ask("log tail -n 2000")
    assert rows
    assert "PRIVATE KEY" not in str(rows)
    assert "BEGIN CERTIFICATE" not in str(rows)


def test_the_node_has_no_other_port_open_on_the_vip(edge: Edge) -> None:
    assert edge.get("split.example.com", port=22)[0] == 0


def test_a_change_of_the_manifest_is_served(edge: Edge) -> None:
    edge.write("more.yaml", [route("late", "late.example.com", to(("green", 1)))])
    assert wait_until(lambda: edge.get("late.example.com")[0] == 200, 20)
    (edge.stage.folder / "shop" / "more.yaml").unlink()
    assert wait_until(lambda: edge.get("late.example.com")[0] == 404, 20)


def test_a_backend_that_answers_no_probe_gets_no_request(edge: Edge) -> None:
    """Its packets vanish: without probes each request that is sent there waits for 5 s."""
    sick, slices = service("green")
    asked = {"weir.dev/liveness": "yes", "weir.dev/probetimeout": "1"}
    sick["metadata"] = {"namespace": "shop", "name": "sick", "annotations": asked}
    slices["metadata"] = {"namespace": "shop", "name": "sick", "labels": {"kubernetes.io/service-name": "sick"}}
    slices["endpoints"] = [{"addresses": [address]} for address in (BACKENDS["green"], "10.77.0.13")]
    edge.write("sick.yaml", [sick, slices, route("sick", "sick.example.com", to(("sick", 1)))])

    def served_by(count: int = 10) -> set[str]:
        return {f"{code} {body.split()[0] if body else ''}".strip() for code, body in (edge.get("sick.example.com") for _ in range(count))}

    assert wait_until(lambda: served_by() == {"200 b2", "200 b3"}, 20), served_by()
    edge.stage.network.set_link("b3", up=False)
    try:
        assert wait_until(lambda: "10.77.0.13:8080/TCP is down" in str(edge.stage.ask("status")), 20), edge.stage.ask("status")
        assert "nok" in {row["state"] for row in edge.stage.ask("get ep") if row["name"] == "10.77.0.13:8080/TCP"}
        assert wait_until(lambda: served_by() == {"200 b2"}, 20), served_by()
        assert served_by(30) == {"200 b2"}
    finally:
        edge.stage.network.set_link("b3", up=True)
    assert wait_until(lambda: served_by() == {"200 b2", "200 b3"}, 40), served_by()
    (edge.stage.folder / "shop" / "sick.yaml").unlink()
    assert wait_until(lambda: edge.get("sick.example.com")[0] == 404, 20)


def conditions(edge: Edge, tag: str) -> dict[str, list[Any]]:
    """Name of the object -> its conditions that do not hold, as last planned."""
    rows = edge.stage.ask("log tail --kind status -n 200")
    found = {row["event"]["root"]["name"]: row["event"] for row in rows if row["event"]["type"] == tag}
    parts = {name: [event, *event.get("parents", ()), *event.get("listeners", ())] for name, event in found.items()}
    held = {name: [each for part in of_name for each in part.get("conditions", ())] for name, of_name in parts.items()}
    return {name: [(each["type"], each["reason"]) for each in of_name if not each["status"]] for name, of_name in held.items()}


def test_status_says_what_is_served_and_what_is_not(edge: Edge) -> None:
    """Waited for: a Gateway is Pending while the node applies the last change of a route."""
    served = {"edge": [("Conflicted", "NoConflicts")] * 5}
    assert wait_until(lambda: conditions(edge, "gateway_status_planned") == served, 20), conditions(edge, "gateway_status_planned")

    def broken() -> dict[str, list[Any]]:
        routes = conditions(edge, "route_status_planned")
        return {name: found for name, found in routes.items() if found and name not in GONE}

    expected = {"lost": [("ResolvedRefs", "BackendNotFound")], "foreign": [("ResolvedRefs", "RefNotPermitted")]}
    assert wait_until(lambda: broken() == expected, 20), broken()


def test_route_says_where_a_request_goes(edge: Edge) -> None:
    (told,) = edge.stage.ask("route shop/edge GET http://stripped.example.com/app/cart")
    assert (told["route"], told["filters"], told["upstreams"]) == ("HTTPRoute/shop/stripped", ["URLRewrite"], ["shop/blue:80 100%"])
    (told,) = edge.stage.ask("route shop/edge GET https://a.many.example.com/")
    assert (told["route"], told["listener"]) == ("HTTPRoute/shop/many", "443/https-many")


def test_why_tells_how_a_route_and_its_gateway_came_to_be(edge: Edge) -> None:
    for name in ("HTTPRoute/shop/split", "Gateway/shop/edge", "TCPRoute/shop/raw"):
        types = {row["event"]["type"] for row in edge.stage.ask(f"log why {name}")}
        kind = name.partition("/")[0].lower()
        assert {f"{kind}_observed", f"{'gateway' if kind == 'gateway' else 'route'}_status_planned"} <= types, types


def test_describe_has_the_latest_events_of_a_gateway_and_of_a_route(edge: Edge) -> None:
    (gateway,) = edge.stage.ask("describe gateways edge")
    assert "gateway_status_planned" in {row["event"]["type"] for row in gateway["events"]}
    (told,) = edge.stage.ask("describe routes split")
    assert {"httproute_observed", "route_status_planned"} <= {row["event"]["type"] for row in told["events"]}


def test_get_lists_gateways_and_routes(edge: Edge) -> None:
    assert wait_until(lambda: edge.state() == "Serving", 20), edge.state()
    (row,) = edge.stage.ask("get gateways")
    assert (row["name"], row["vips"], row["routes"], row["state"]) == ("shop/edge", [VIP], 7 + 1 + 1 + 1 + 1, "Serving")
    assert row["listeners"][:2] == ["http:80/HTTP", "tcp:9000/TCP"]
    found = {row["name"]: (row["kind"], row["hostnames"], row["state"]) for row in edge.stage.ask("get routes")}
    assert found["shop/lost"] == ("HTTPRoute", ["lost.example.com"], "BackendNotFound")
    assert found["shop/raw"] == ("TCPRoute", [], "Serving")
