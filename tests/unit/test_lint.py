"""`weir lint`: what can be said before applying, and its exit code."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from test_watcher_core import endpoints, pool, service

from services.watcher.settings import DEFAULT
from services.watcher.sources.yaml_documents import documents
from weir.cli.lint import Finding, findings, lint

POOL = pool("addresses: [203.0.113.0/28]")
WEB = service("ports: [{name: http, port: 80, targetPort: http}]")
SLICE = endpoints("addressType: IPv4, ports: [{name: http, port: 8080}], endpoints: [{addresses: [10.0.0.1]}]")
SERVICE = ("shop.yaml#2", "Service shop/web")
BRACKET = "did not find expected ',' or ']'"
OVERLAP = "each address in one pool; pool demo has 203.0.113.0/28"
GOOD = (POOL, WEB, SLICE)


def of(*texts: str) -> list[Finding]:
    return findings({"shop.yaml": documents("shop.yaml", "\n---\n".join(texts).encode())}, DEFAULT)


FOUND = {
    "an unknown field": (
        (POOL, WEB.replace("ports", "loadBalancerSourceRange: [10.0.0.0/8], ports"), SLICE),
        [
            (
                *SERVICE,
                "Invalid",
                "spec.loadBalancerSourceRange: got an unknown field, accepted: loadBalancerSourceRanges",
            )
        ],
    ),
    "a kind misspelt": (
        (POOL, WEB.replace("kind: Service", "kind: Servce"), SLICE),
        [("shop.yaml#2", "", "Invalid", "kind: got 'Servce', accepted: Service")],
    ),
    "malformed text": (
        (*GOOD, "a: [1"),
        [
            (
                "shop.yaml#4",
                "",
                "Invalid",
                "line 8, column 1: got malformed text, accepted: well-formed text (did not find expected ',' or ']')",
            )
        ],
    ),
    "an object twice": (
        (*GOOD, WEB),
        [("shop.yaml#4", "Service shop/web", "Invalid", "metadata.name: got shop/web, accepted: each Service once; shop.yaml#2 has it")],
    ),
    "pools that overlap": (
        (*GOOD, POOL.replace("demo", "more").replace("/28", "/30")),
        [
            (
                "shop.yaml#4",
                "VIPPool more",
                "Invalid",
                "spec.addresses: got 203.0.113.0/30, accepted: each address in one pool; pool demo has 203.0.113.0/28",
            )
        ],
    ),
    "an address outside the pools": (
        (POOL, WEB.replace("ports", "loadBalancerIP: 198.51.100.1, ports"), SLICE),
        [
            (
                *SERVICE,
                "AddressOutsidePools",
                "198.51.100.1 is in no pool; pools offer 203.0.113.0/28",
            )
        ],
    ),
    "no pool": ((WEB, SLICE), [("shop.yaml#1", "Service shop/web", "NoPool", "no pool offers IPv4 addresses")]),
    "a Service without a slice": (
        (POOL, WEB),
        [(*SERVICE, "NoEndpoints", "this Service has no EndpointSlice")],
    ),
    "a slice without a Service": (
        (POOL, SLICE),
        [("shop.yaml#2", "EndpointSlice shop/web-1", "NoService", "no manifest has Service shop/web, which it names")],
    ),
    "a port that no slice has": (
        (POOL, WEB, SLICE.replace("name: http", "name: web")),
        [
            (
                *SERVICE,
                "NoEndpoints",
                "no ready endpoint of this Service is of the VIP's family and has its ports: 80/TCP (targetPort http)",
            )
        ],
    ),
    "an annotation that is not served": (
        (POOL, WEB.replace("annotations: {}", "annotations: {weir.dev/lbmode: dsr}"), SLICE),
        [
            (
                *SERVICE,
                "Unsupported",
                "metadata.annotations[weir.dev/lbmode]: got 'dsr' (not served yet), accepted: default, onearm, fullnat",
            )
        ],
    ),
}


@pytest.mark.parametrize(("texts", "expected"), FOUND.values(), ids=FOUND)
def test_what_is_wrong_is_found_with_its_place(texts: tuple[str, ...], expected: list[tuple[str, ...]]) -> None:
    assert [tuple(finding) for finding in of(*texts)] == expected


def test_what_is_well_has_no_findings() -> None:
    local = WEB.replace("ports", "externalTrafficPolicy: Local, healthCheckNodePort: 31000, ports")
    others = ("{apiVersion: v1, kind: Secret, metadata: {name: s}, data: {a: b}}", "{apiVersion: apps/v1, kind: Deployment}")
    nodes = "{apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: 10.9.0.1}]}}"
    assert of(*GOOD, *others) == []
    assert of(POOL, local, SLICE, nodes) == []


def test_the_exit_code_tells_clean_from_findings_from_what_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text("\n---\n".join(GOOD))
    assert lint([tmp_path], DEFAULT, "table") == 0
    assert capsys.readouterr().out == "✓ 3 documents, 0 findings\n"
    file.write_text("\n---\n".join([POOL, SLICE]))
    assert lint([file], DEFAULT, "json") == 1
    assert [row["source"] for row in json.loads(capsys.readouterr().out)] == ["shop.yaml#2"]
    (tmp_path / "empty.yaml").write_text("")
    assert lint([tmp_path], DEFAULT, "table") == 1
    assert f"✗ {tmp_path.name}/empty.yaml: file: got an empty file" in capsys.readouterr().out
    for path in (tmp_path / "typo", tmp_path / "typo.yaml"):
        assert lint([path], DEFAULT, "table") == 2
        assert capsys.readouterr().err == f"weir: {path}: no such file or directory\n"
    (tmp_path / "none").mkdir()
    assert lint([tmp_path / "none"], DEFAULT, "table") == 2


def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n---\n".join(GOOD).encode())))
    assert lint([Path("-")], DEFAULT, "table") == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize("words", [("lint",), ("up", "--dry-run")])
@pytest.mark.parametrize("example", ["examples/shop", "examples/gateway.yaml", "examples/bgp"])
def test_examples_are_clean_by_both_commands_without_a_machine_to_run_on(words: tuple[str, ...], example: str) -> None:
    argv = [sys.executable, "-m", "weir.cli", *words, "-f", example]
    done = subprocess.run(argv, text=True, capture_output=True, check=False, cwd=Path(__file__).parents[2])
    assert (done.returncode, done.stderr) == (0, ""), done
    assert done.stdout.endswith(" documents, 0 findings\n")


def test_an_installations_own_settings_count() -> None:
    argv = [sys.executable, "-m", "weir.cli", "lint", "-f", "-", "--no-default-class"]
    done = subprocess.run(argv, text=True, capture_output=True, check=False, input="\n---\n".join([WEB, SLICE]))
    assert (done.returncode, done.stdout) == (0, "✓ 2 documents, 0 findings\n"), done


CLASS = "{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: weir}, spec: {controllerName: weir.dev/weir}}"
GATEWAY = (
    "{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: edge, namespace: shop}, spec: {gatewayClassName: weir,"
    " listeners: [{name: http, port: 80, protocol: HTTP}, {name: https, port: 443, protocol: HTTPS%s}]}}"
)
TLS = ", tls: {certificateRefs: [{name: missing}]}"
ROUTE = (
    "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: web, namespace: shop}, spec: {parentRefs: [{name: %s}],"
    " rules: [{backendRefs: [{name: %s, port: 80}]}]}}"
)


def test_what_is_wrong_with_gateways_and_routes_is_found() -> None:
    found = of(POOL, CLASS, GATEWAY % TLS, ROUTE % ("edge", "nobody"))
    assert [(each.object, each.reason) for each in found] == [
        ("Gateway shop/edge listener https", "InvalidCertificateRef"),
        ("HTTPRoute shop/web", "BackendNotFound"),
    ]


def test_a_route_that_attaches_nowhere_is_found() -> None:
    (found,) = of(POOL, ROUTE % ("edge", "web"))
    assert (found.object, found.reason) == ("HTTPRoute shop/web", "NoMatchingParent")
    assert found.message == "spec.parentRefs: got Gateway shop/edge, accepted: a Gateway that Weir serves"


def test_a_misspelt_gateway_is_found_beside_the_one_that_is_meant() -> None:
    found = [each for each in of(POOL, CLASS, GATEWAY % TLS, ROUTE % ("egde", "web")) if each.object.startswith("HTTPRoute")]
    assert [each.message for each in found] == ["spec.parentRefs: got Gateway shop/egde, accepted: shop/edge"]


def test_a_misspelt_class_is_found_at_the_gateway() -> None:
    found = of(POOL, CLASS, (GATEWAY % TLS).replace("gatewayClassName: weir", "gatewayClassName: wier"))
    assert [(each.object, each.reason, each.message) for each in found] == [
        ("Gateway shop/edge", "NoGatewayClass", "spec.gatewayClassName: got wier, accepted: weir")
    ]


def test_a_gateway_without_a_pool_is_found() -> None:
    found = of(CLASS, GATEWAY % TLS)
    assert ("Gateway shop/edge", "AddressNotAssigned") in [(each.object, each.reason) for each in found]


def backing(protocol: str = "TCP") -> str:
    """Of shop/web, which is not exposed: only routes reach it."""
    return WEB.replace("type: LoadBalancer", "type: ClusterIP").replace("port: 80,", f"port: 80, protocol: {protocol},")


EDGE = (GATEWAY % "").replace("{name: https, port: 443, protocol: HTTPS}", "%s")
LISTENERS = {"HTTPRoute": "HTTP", "GRPCRoute": "HTTP", "TLSRoute": "TLS", "TCPRoute": "TCP", "UDPRoute": "UDP"}
EMPTY = "no ready endpoint of this Service is of the VIP's family and has its ports: 80/{} (targetPort http)"


@pytest.mark.parametrize(("kind", "listener"), LISTENERS.items())
def test_a_service_without_an_endpoint_that_a_route_forwards_to_is_found(kind: str, listener: str) -> None:
    protocol = "UDP" if listener == "UDP" else "TCP"
    tls = ", tls: {mode: Passthrough}" if listener == "TLS" else ""
    names = "hostnames: [a.example.com], rules" if listener == "TLS" else "rules"
    listening = EDGE % f"{{name: own, port: 4000, protocol: {listener}{tls}}}"
    route = (ROUTE % ("edge, sectionName: own", "web")).replace("HTTPRoute", kind).replace("rules", names)
    gateway, here = (POOL, CLASS, listening, route), ("shop.yaml#5", "Service shop/web", "NoEndpoints")
    ready = SLICE.replace("port: 8080", f"port: 8080, protocol: {protocol}")
    assert of(*gateway, backing(protocol), ready) == []
    assert of(*gateway, backing(protocol)) == [(*here, "this Service has no EndpointSlice")]
    assert of(*gateway, backing(protocol), ready.replace("name: http", "name: web")) == [(*here, EMPTY.format(protocol))]


def test_of_a_service_only_what_a_route_uses_counts() -> None:
    gateway = (POOL, CLASS, EDGE % "")
    more = backing().replace("ports: [", "ports: [{name: dns, port: 53, protocol: UDP}, ")
    assert of(*gateway, ROUTE % ("edge", "web"), more, SLICE) == [], "no route has the other port"
    assert of(*gateway, backing()) == [], "no route has it"
    spare = (ROUTE % ("edge", "web")).replace("port: 80}", "port: 80, weight: 0}")
    assert of(*gateway, spare, backing()) == [], "it gets no request"
    twice = [each.object for each in of(*gateway, ROUTE % ("edge", "web"), WEB)]
    assert twice == ["Service shop/web"], "it has a VIP of its own, and its own finding"
