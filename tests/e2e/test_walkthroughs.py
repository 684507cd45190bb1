"""Guides that others wrote for their load balancers, but for addresses as they are: every manifest, every request, what they print."""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from services.dataplane.l7.judge import envoy_binary
from tests.l7.certificates import Authority
from tests.own import own
from weir.demo.network import wait_until
from weir.demo.stage import Stage, stage

MANIFESTS = Path(__file__).with_name("testdata") / "walkthroughs"
ADDRESS, FIRST_PORT = "10.77.0.11", 20000  # where every backend listens
SPEAKING_GRPC = ("grpc-service", "user-service-v2", "auth-service", "default-grpc")
KEPT = {
    "apiVersion": "weir.dev/v1alpha1",
    "kind": "VIPPool",
    "metadata": {"name": "kept"},
    "spec": {"addresses": ["203.0.113.200/32"], "autoAssign": False},
}
PATIENCE_S = 40
GRPC = ("--http2-prior-knowledge", "-X", "POST", "-H", "content-type: application/grpc")


class Answer(NamedTuple):
    """code: 0 for none.   seen: what the backend saw of the request; {} where none did."""

    code: int
    headers: dict[str, str]
    seen: dict[str, Any]

    @property
    def backend(self) -> str:
        """The Service whose backend answered; "" for none."""
        return str(self.seen.get("backend", self.headers.get("backend", "")))

    def sent(self, header: str) -> str | None:
        """A header as the backend saw it."""
        found: str | None = self.seen["headers"].get(header)
        return found


class Walkthrough:
    """Follows one guide on a box: its manifests in the folder, one backend for each of its Services."""

    def __init__(self, found: Stage, tmp_path: Path) -> None:
        self.stage, self.authority, self._tmp = found, Authority(tmp_path), tmp_path
        self._ports: dict[str, int] = {}

    def apply(self, guide: str, *more: dict[str, Any]) -> None:
        """With the endpoints of its Services."""
        objects = [*yaml.safe_load_all((MANIFESTS / f"{guide}.yaml").read_text()), *more]
        services = [each for each in objects if each["kind"] == "Service"]
        self._serve(each["metadata"]["name"] for each in services)
        slices = [self._slice(each) for each in services]
        (self.stage.folder / "shop" / f"{guide}.yaml").write_text(yaml.safe_dump_all([*objects, *slices]))

    def withdraw(self) -> None:
        """Every guide's manifests.  A pool stays: nothing is withdrawn because a folder is empty."""
        folder = self.stage.folder / "shop"
        (folder / "kept.yaml").write_text(yaml.safe_dump(KEPT))
        for file in {*folder.iterdir()} - {folder / "kept.yaml"}:
            file.unlink()

    def edit(self, guide: str, kind: str, name: str, change: Any) -> None:
        """As kubectl patch does."""
        path = self.stage.folder / "shop" / f"{guide}.yaml"
        objects = list(yaml.safe_load_all(path.read_text()))
        for each in objects:
            if (each["kind"], each["metadata"]["name"]) == (kind, name):
                change(each)
        path.write_text(yaml.safe_dump_all(objects))

    def secret(self, namespace: str, name: str, *hostnames: str, fields: tuple[str, str] = ("tls.crt", "tls.key")) -> dict[str, Any]:
        """A certificate for these names, and its key."""
        content = dict(zip(fields, self.authority.sign(name, *(f"DNS:{each}" for each in hostnames)), strict=True))
        return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "stringData": content}

    def ask(self, url: str, *words: str, at: str) -> Answer:
        """curl at a VIP, which the URL's name leads to."""
        named = ("--connect-to", f"::{at}:")
        command = ("curl", "-s", "-m", "5", "-D", "-", "-w", "\n%{http_code}", *named, *words, url)
        head, _, code = self.stage.network.run("client", *command, check=False).stdout.rpartition("\n")
        *_, last, body = head.replace("\r", "").split("\n\n") if "\n\n" in head.replace("\r", "") else ("", "")
        headers = {name.lower(): value for line in last.splitlines() for name, _, value in [line.partition(": ")] if value}
        return Answer(int(code or 0), headers, json.loads(body) if body.startswith("{") else {})

    def backends(self, count: int, url: str, *words: str, at: str) -> Counter[str]:
        """Who answered so many requests."""
        return Counter(self.ask(url, *words, at=at).backend for _ in range(count))

    def expect(self, backend: str, url: str, *words: str, at: str) -> None:
        """Waits until requests get there."""
        assert wait_until(lambda: self.ask(url, *words, at=at).backend == backend, PATIENCE_S), self.ask(url, *words, at=at)

    def _serve(self, services: Iterable[str]) -> None:
        new = [name for name in services if name not in self._ports]
        self._ports.update((name, port) for port, name in enumerate(new, FIRST_PORT + len(self._ports)))
        speaking_grpc = [name for name in new if name in SPEAKING_GRPC]
        words = [f"{name}={self._ports[name]}" for name in new if name not in speaking_grpc]
        serving = self.stage.network.popen("b1", sys.executable, "-m", "tests.l7.backend", ADDRESS, *words, stdout=-1)
        assert serving.stdout
        assert serving.stdout.readline() == "listening\n"
        if speaking_grpc:
            self._serve_grpc(speaking_grpc)

    def _serve_grpc(self, names: list[str]) -> None:
        """By an Envoy, which answers to HTTP/2 with prior knowledge; calls end with its name in a header."""
        config = self._tmp / "grpc.json"
        config.write_text(json.dumps({"static_resources": {"listeners": [_answering(name, self._ports[name]) for name in names]}}))
        self.stage.network.popen("b1", envoy_binary(), "-c", str(config), "--disable-hot-restart", "-l", "error")

    def _slice(self, service: dict[str, Any]) -> dict[str, Any]:
        name, namespace = service["metadata"]["name"], service["metadata"].get("namespace", "default")
        (port,) = service["spec"]["ports"]
        protocol = port.get("protocol", "TCP")
        listening = 5353 if protocol == "UDP" else self._ports[name]
        labels = {"kubernetes.io/service-name": name}
        return {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "addressType": "IPv4",
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "ports": [{"name": port.get("name", ""), "port": listening, "protocol": protocol}],
            "endpoints": [{"addresses": [ADDRESS]}],
        }


def _answering(name: str, port: int) -> dict[str, Any]:
    """A listener of Envoy's."""
    types = "type.googleapis.com/envoy.extensions.filters"
    header = {"header": {"key": "backend", "value": name}}
    routes = [{"match": {"prefix": "/"}, "direct_response": {"status": 200}, "response_headers_to_add": [header]}]
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{types}.http.router.v3.Router"}}
    manager = {
        "@type": f"{types}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "http_filters": [router],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    address = {"socket_address": {"address": ADDRESS, "port_value": port}}
    return {"name": name, "address": address, "filter_chains": [chain]}


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walkthrough]:
    if os.geteuid():
        pytest.skip("namespaces and BPF need root")
    with stage(own("weirwalk"), fast=True) as found:
        made = Walkthrough(found, tmp_path_factory.mktemp("walk"))
        made.withdraw()
        found.up()
        yield made


@pytest.fixture
def withdrawn(walk: Walkthrough) -> Walkthrough:
    """Without what the guide before has left: two of them have a Gateway of one name."""
    walk.withdraw()
    assert wait_until(lambda: not walk.stage.ask("get gateways"), PATIENCE_S), walk.stage.ask("get gateways")
    return walk


def test_loxilbs_guide(withdrawn: Walkthrough) -> None:
    walk, vip = withdrawn, "203.0.113.90"
    walk.apply("loxilb", walk.secret("kube-system", "loxilb-ssl", "test.loxilb.gateway.https", fields=("server.crt", "server.key")))
    walk.expect("tcproute-lb-service", f"http://{vip}:21818", at=vip)
    assert wait_until(lambda: datagram(walk.stage, vip, 21819) == "b1 Hello", PATIENCE_S)
    walk.expect("my-nginx", f"http://{vip}:80", "-H", "HOST: test.loxilb.gateway.http", at=vip)
    walk.expect("my-nginx", f"https://{vip}:443", "-H", "HOST: test.loxilb.gateway.https", "--insecure", at=vip)
    (row,) = walk.stage.ask("get gateways")
    assert (row["name"], row["vips"], row["routes"]) == ("kube-system/test-gateway", [vip], 4)
    assert wait_until(lambda: [each["state"] for each in walk.stage.ask("get gateways")] == ["Serving"], PATIENCE_S)


def datagram(found: Stage, vip: str, port: int) -> str:
    """The answer to "Hello"; "" for none."""
    program = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(2)\n"
        f"s.connect(('{vip}', {port})); s.send(b'Hello'); print(s.recv(99).decode(), end='')"
    )
    return found.network.run("client", sys.executable, "-c", program, check=False).stdout


def test_ciliums_guide(withdrawn: Walkthrough) -> None:
    walk, vip = withdrawn, "203.0.113.100"
    walk.apply("cilium", walk.secret("default", "demo-cert", "*.sadadco.ir"))
    walk.expect("details", f"http://{vip}/details/1", at=vip)
    walk.expect("productpage", f"http://{vip}/?great=example", "-H", "magic: foo", at=vip)
    for words in (("/?great=example",), ("/?great=other", "-H", "magic: foo"), ("/?great=example", "-H", "magic: foo", "-X", "POST")):
        assert walk.ask(f"http://{vip}{words[0]}", *words[1:], at=vip).code == 404, words
    trusting = ("--cacert", str(walk.authority.path))
    walk.expect("details", "https://bookinfo.sadadco.ir/details/1", *trusting, at=vip)
    walk.expect("productpage", "https://hipstershop.sadadco.ir/", *trusting, at=vip)
    assert walk.ask("https://bookinfo.sadadco.ir/", *trusting, at=vip).code == 404
    walk.expect("echo-1", f"http://{vip}:8080/echo", at=vip)
    assert walk.backends(100, f"http://{vip}:8080/echo", at=vip)["echo-1"] >= 90
    walk.expect("echo-1", f"http://{vip}:8081/cilium-add-a-request-header", at=vip)
    added = walk.ask(f"http://{vip}:8081/cilium-add-a-request-header", at=vip)
    assert added.sent("my-cilium-header-name") == "my-cilium-header-value"
    removed = walk.ask(f"http://{vip}:8081/remove-a-request-header", "-H", "x-request-id: 7", at=vip)
    assert removed.sent("x-request-id") is None
    walk.expect("echo-1", f"http://{vip}:8081/multiple", at=vip)
    headers = walk.ask(f"http://{vip}:8081/multiple", at=vip).headers
    assert [headers[f"x-header-add-{number}"] for number in (1, 2, 3)] == [f"header-add-{number}" for number in (1, 2, 3)]
    vips = [row["vips"] for row in walk.stage.ask("get gateways")]
    assert vips == [[vip]] * 4, "all of them on one address, as there"


HOST = "reverse-words.apps.gateway-api.test.lab"
BLUE, GREEN = "reverse-words-blue", "reverse-words-green"


def weighted(blue: int, green: int) -> Any:
    """An edit of a route."""
    references = [{"group": "", "kind": "Service", "name": name, "port": 8080, "weight": to} for name, to in ((BLUE, blue), (GREEN, green))]
    rule = {"backendRefs": references, "matches": [{"path": {"type": "PathPrefix", "value": "/"}}]}
    return lambda route: route["spec"].update(rules=[rule])


def test_the_post_on_blue_and_green_with_nginx(withdrawn: Walkthrough) -> None:
    walk, vip = withdrawn, "203.0.113.240"
    walk.apply("nginx")
    walk.expect(BLUE, f"http://{HOST}/", at=vip)
    walk.edit("nginx", "HTTPRoute", "reversewords", weighted(90, 10))
    walk.expect(GREEN, f"http://{HOST}/", at=vip)
    assert 70 <= walk.backends(100, f"http://{HOST}/", at=vip)[BLUE] <= 99
    walk.edit("nginx", "HTTPRoute", "reversewords", weighted(50, 50))
    assert wait_until(lambda: 30 <= walk.backends(100, f"http://{HOST}/", at=vip)[BLUE] <= 70, PATIENCE_S)
    walk.edit("nginx", "HTTPRoute", "reversewords", weighted(0, 100))
    assert wait_until(lambda: walk.backends(20, f"http://{HOST}/", at=vip) == {GREEN: 20}, PATIENCE_S)

    (walk.stage.folder / "shop" / "nginx.yaml").write_text(without("nginx", "Gateway", "HTTPRoute", walk=walk))
    walk.apply("nginx-https", walk.secret("reverse-words", "reversewords-gateway-tls", "*.apps.gateway-api.test.lab"))
    walk.expect(GREEN, f"https://{HOST}/", "-k", at=vip)
    assert wait_until(lambda: walk.ask(f"http://{HOST}/", at=vip).code == 302, PATIENCE_S)
    assert walk.ask(f"http://{HOST}/", at=vip).headers["location"].rstrip("/") in (f"https://{HOST}:443", f"https://{HOST}")
    assert walk.ask(f"http://{HOST}/", "-Lk", at=vip).backend == GREEN
    (walk.stage.folder / "shop" / "nginx-https.yaml").write_text(without("nginx-https", "reversewords-tls-redirect", walk=walk))
    assert wait_until(lambda: walk.ask(f"http://{HOST}/", at=vip).code == 404, PATIENCE_S), "not exposed over HTTP"


def without(guide: str, *words: str, walk: Walkthrough) -> str:
    """The file of a guide without objects of these kinds and names."""
    objects = yaml.safe_load_all((walk.stage.folder / "shop" / f"{guide}.yaml").read_text())
    return yaml.safe_dump_all([each for each in objects if not {each["kind"], each["metadata"]["name"]} & {*words}])


CALLS = [  # backend, hostname, method
    ("grpc-service", "grpc.example.com", "my.service.v1.MyService/MyMethod"),
    ("user-service-v2", "other.example.com", "my.service.v1.UserService/Any"),
    ("auth-service", "other.example.com", "my.service.v1.AuthService/Login"),
    ("default-grpc", "other.example.com", "my.service.v1.AuthService/Logout"),
]


def test_kubelbs_page(withdrawn: Walkthrough) -> None:
    walk, vip = withdrawn, "203.0.113.10"
    walk.apply("kubelb")
    walk.expect("api-backend", f"http://{vip}", "-H", "Host: basic.example.com", at=vip)
    expected = [
        ("api-backend", "example.com/api/x", ()),
        ("web-backend", "example.com/web/x", ()),
        ("default-backend", "example.com/other", ()),
        ("api-v2", "headers.example.com/", ("-H", "X-Version: v2")),
        ("api-v1", "headers.example.com/", ("-H", "X-Version: v3")),
        ("beta-backend", "query.example.com/?version=beta", ()),
        ("stable-backend", "query.example.com/", ()),
        *(("write-service", "method.example.com/", ("-X", method)) for method in ("POST", "PUT", "DELETE")),
        ("read-service", "method.example.com/", ()),
        ("slow-backend", "timeout.example.com/delay/1500", ()),
    ]
    for backend, url, words in expected:
        walk.expect(backend, f"http://{url}", *words, at=vip)
    assert walk.ask("http://method.example.com/", "-X", "PATCH", at=vip).code == 404
    walk.expect("api-backend", "http://retry.example.com/", at=vip)
    failing = [walk.ask(f"http://retry.example.com/fail/{times}/{times}", at=vip).code for times in (3, 4)]
    assert failing == [200, 503], "three retries"
    assert wait_until(lambda: walk.backends(50, "http://api.example.com/", at=vip).keys() == {"api-stable", "api-canary"}, PATIENCE_S)
    assert walk.backends(100, "http://api.example.com/", at=vip)["api-stable"] >= 70

    walk.expect("api-backend", "http://add.example.com/", at=vip)
    assert walk.ask("http://add.example.com/", at=vip).sent("x-custom-header") == "custom-value"
    walk.expect("api-backend", "http://modify.example.com/", at=vip)
    modified = walk.ask("http://modify.example.com/", "-H", "X-Internal-Header: 1", at=vip)
    assert (modified.sent("x-forwarded-proto"), modified.sent("x-internal-header")) == ("https", None)
    assert modified.headers["x-response-time"].isdecimal()
    walk.expect("api-v2", "http://rewrite.example.com/api/v1/users", at=vip)
    assert walk.ask("http://rewrite.example.com/api/v1/users", at=vip).seen["target"] == "/api/v2/users"

    for backend, hostname, call in CALLS:
        walk.expect(backend, f"http://{hostname}:8080/{call}", *GRPC, at=vip)


def test_a_backend_of_another_namespace_is_refused_without_a_grant(withdrawn: Walkthrough) -> None:
    """KubeLB's page routes to one as if the Gateway's allowedRoutes permitted that."""
    walk, vip = withdrawn, "203.0.113.10"
    walk.apply("kubelb")
    assert wait_until(lambda: walk.ask("http://cross.example.com/", at=vip).code == 500, PATIENCE_S)
    grant = {
        "apiVersion": "gateway.networking.k8s.io/v1beta1",
        "kind": "ReferenceGrant",
        "metadata": {"name": "frontend", "namespace": "backend"},
        "spec": {
            "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "frontend"}],
            "to": [{"group": "", "kind": "Service"}],
        },
    }
    (walk.stage.folder / "shop" / "grant.yaml").write_text(yaml.safe_dump(grant))
    walk.expect("api-service", "http://cross.example.com/", at=vip)
