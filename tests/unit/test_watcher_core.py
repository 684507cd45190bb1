"""What one document comes to: a fact, or problems that name field, got and accepted.  Each row is a document as a user writes it."""

import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.watcher.kinds.reader import Document, Reading, read
from services.watcher.settings import Settings
from services.watcher.sources.yaml_documents import MOST_DOCUMENT_BYTES, documents
from weir.events import DECODE, ENCODE, ObjectObserved, ServiceObserved
from weir.model import Endpoint, Probe, Problem, Root, ServicePort, SlicePort


def service(spec: str, annotations: str = "") -> str:
    head = f"apiVersion: v1, kind: Service, metadata: {{namespace: shop, name: web, annotations: {{{annotations}}}}}"
    return f"{{{head}, spec: {{type: LoadBalancer, {spec}}}}}"


def asking(annotations: str) -> str:
    return service("ports: [{port: 80}]", annotations)


def endpoints(rest: str, labels: str = "kubernetes.io/service-name: web") -> str:
    head = f"apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{namespace: shop, name: web-1, labels: {{{labels}}}}}"
    return f"{{{head}, {rest}}}"


def pool(spec: str) -> str:
    return f"{{apiVersion: weir.dev/v1alpha1, kind: VIPPool, metadata: {{name: demo}}, spec: {{{spec}}}}}"


def named(metadata: str) -> str:
    return f"{{apiVersion: v1, kind: Service, metadata: {{{metadata}}}}}"


def readings(text: str, name: str = "shop.yaml") -> list[Reading]:
    return [reading for document in documents(name, text.encode()) for reading in read(document, Settings())]


def only(text: str) -> Reading:
    (reading,) = readings(text)
    return reading


def fact(text: str) -> ObjectObserved:
    reading = only(text)
    assert reading.event, reading.problems
    assert reading.problems == ()
    assert DECODE(ENCODE(reading.event)) == reading.event, "a fact comes back from the log as it went in"
    return reading.event


SERVICES = {
    "plain": (service("ports: [{port: 80}]"), {"exposed": True, "ports": (ServicePort(port=80),)}),
    "ports": (
        service("ports: [{name: a, port: 80, targetPort: http, nodePort: 30080}, {name: b, port: 53, protocol: UDP, targetPort: 5353}]"),
        {
            "ports": (
                ServicePort(name="a", port=80, target="http", node_port=30080),
                ServicePort(name="b", port=53, protocol="UDP", target=5353),
            )
        },
    ),
    "one number, two protocols": (
        service("ports: [{name: a, port: 53}, {name: b, port: 53, protocol: UDP}]"),
        {"ports": (ServicePort(name="a", port=53), ServicePort(name="b", port=53, protocol="UDP"))},
    ),
    "our class": (service("ports: [{port: 80}], loadBalancerClass: weir.dev/weir"), {"exposed": True}),
    "loxilb's class": (service("ports: [{port: 80}], loadBalancerClass: loxilb.io/loxilb"), {"exposed": True}),
    "another's class": (service("ports: [{port: 80}], loadBalancerClass: metallb.io/metallb"), {"exposed": False}),
    "another's class, faults not ours to tell": (
        service("ports: [{port: 0}, {port: 80, protocol: SCTP}], loadBalancerClass: a/b", "weir.dev/lbmode: nonsense"),
        {"exposed": False, "ports": ()},
    ),
    "headless": (service("ports: [{port: 80}], clusterIP: None"), {"exposed": False}),
    "being deleted": (
        "{apiVersion: v1, kind: Service, metadata: {name: web, deletionTimestamp: 2026-01-01T00:00:00Z},"
        " spec: {type: LoadBalancer, ports: [{port: 80}]}}",
        {"exposed": False},
    ),
    "ClusterIP": (named("name: web"), {"exposed": False}),
    "external name": (
        "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {type: ExternalName, externalName: a.b}}",
        {"exposed": False},
    ),
    "one family by default": (service("ports: [{port: 80}], ipFamilies: [IPv6]"), {"families": ("IPv6",), "family_policy": "SingleStack"}),
    "any family": (service("ports: [{port: 80}]"), {"families": ()}),
    "both families": (
        service("ports: [{port: 80}], ipFamilyPolicy: RequireDualStack"),
        {"families": (), "family_policy": "RequireDualStack"},
    ),
    "both, IPv6 first": (
        service("ports: [{port: 80}], ipFamilies: [IPv6], ipFamilyPolicy: PreferDualStack"),
        {"families": ("IPv6",), "family_policy": "PreferDualStack"},
    ),
    "family by annotation": (asking("loxilb.io/ipam: ipv6"), {"families": ("IPv6",)}),
    "another family by annotation": (
        service("ports: [{port: 80}], ipFamilies: [IPv4]", "loxilb.io/ipam: ipv6"),
        {
            "families": ("IPv4",),
            "unsupported": (
                Problem(
                    field="metadata.annotations[loxilb.io/ipam]",
                    got="'ipv6'",
                    accepted="what spec.ipFamilies says (IPv4): endpoints are of that family",
                ),
            ),
        },
    ),
    "annotations that are empty": (asking('loxilb.io/liveness: "", loxilb.io/lbmode: "", weir.dev/ips: ""'), {"annotations": {}}),
    "address in the spec": (service("ports: [{port: 80}], loadBalancerIP: 203.0.113.9"), {"requested": ("203.0.113.9",)}),
    "addresses by annotation": (
        asking('weir.dev/ips: "203.0.113.9,2001:DB8:0::1"'),
        {"requested": ("203.0.113.9", "2001:db8::1")},
    ),
    "one address said three times": (
        service("ports: [{port: 80}], loadBalancerIP: 203.0.113.9", "weir.dev/ips: 203.0.113.9, loxilb.io/staticIP: 203.0.113.9"),
        {"requested": ("203.0.113.9",)},
    ),
    "several addresses of a family, and further ones": (
        asking('weir.dev/ips: "203.0.113.1, 203.0.113.2", loxilb.io/staticIP: 203.0.113.9, loxilb.io/secondaryIPs: "203.0.113.7"'),
        {"requested": ("203.0.113.9", "203.0.113.1", "203.0.113.2"), "more_requested": ("203.0.113.7",), "unsupported": ()},
    ),
    "pools": (
        asking('weir.dev/pool: "gold, silver", loxilb.io/poolSelectSecondary: "p2,p3"'),
        {"pools": ("gold", "silver"), "more_pools": ("p2", "p3")},
    ),
    "pool under kube-loxilb's name": (
        asking("loxilb.io/poolSelect: gold"),
        {"pools": ("gold",), "annotations": {"weir.dev/pool": "gold"}},
    ),
    "pool in three ways": (
        asking("weir.dev/poolSelect: b, loxilb.io/poolSelect: a, weir.dev/pool: c"),
        {"pools": ("c",), "annotations": {"weir.dev/pool": "c"}},
    ),
    "sharing": (asking('weir.dev/share-key: "web & mail"'), {"share_key": "web & mail", "exclusive": False}),
    "exclusive": (asking('weir.dev/exclusive: "yes"'), {"exclusive": True}),
    "source ranges": (
        service("ports: [{port: 80}], loadBalancerSourceRanges: [10.1.2.3/8, ' 2001:DB8::/32', 10.0.0.0/8]"),
        {"source_ranges": ("10.0.0.0/8", "2001:db8::/32"), "unsupported": ()},
    ),
    "source ranges by annotation": (
        asking('weir.dev/source-ranges: "198.51.100.0/24,203.0.113.7/32"'),
        {"source_ranges": ("198.51.100.0/24", "203.0.113.7/32")},
    ),
    "source ranges by the API's annotation": (
        asking('service.beta.kubernetes.io/load-balancer-source-ranges: " 198.51.100.7/24 , 203.0.113.7/32"'),
        {"source_ranges": ("198.51.100.0/24", "203.0.113.7/32"), "unsupported": ()},
    ),
    "source ranges by the API's annotation, empty": (
        asking('service.beta.kubernetes.io/load-balancer-source-ranges: ""'),
        {"source_ranges": ()},
    ),
    "source ranges of the spec beside it": (
        service(
            "ports: [{port: 80}], loadBalancerSourceRanges: [10.0.0.0/8]",
            "service.beta.kubernetes.io/load-balancer-source-ranges: 198.51.100.0/24",
        ),
        {"source_ranges": ("10.0.0.0/8",)},
    ),
    "source ranges of ours beside it": (
        asking("weir.dev/source-ranges: 10.0.0.0/8, service.beta.kubernetes.io/load-balancer-source-ranges: 198.51.100.0/24"),
        {"source_ranges": ("10.0.0.0/8",)},
    ),
    "no backend": (asking("weir.dev/no-backend: reject"), {"no_backend": "reject"}),
    "drain": (asking('weir.dev/drain-timeout: "90"'), {"drain_timeout_s": 90}),
    "probe over HTTP": (
        asking(
            'loxilb.io/liveness: "yes", loxilb.io/probetype: https, loxilb.io/probeport: "8443", loxilb.io/probereq: health,'
            ' loxilb.io/proberesp: "OK", weir.dev/probehost: web.example'
        ),
        {"probe": Probe(kind="https", port=8443, path="/health", host="web.example", expect="OK"), "unsupported": ()},
    ),
    "alias": (asking("loxilb.io/lbmode: onearm"), {"mode": "onearm", "annotations": {"weir.dev/lbmode": "onearm"}}),
    "ours before the alias": (
        asking("loxilb.io/lbmode: onearm, weir.dev/lbmode: fullnat"),
        {"mode": "fullnat", "annotations": {"weir.dev/lbmode": "fullnat"}},
    ),
    "others' annotations stay out": (asking("kubectl.kubernetes.io/last-applied-configuration: secret"), {"annotations": {}}),
    "round robin": (asking("weir.dev/epselect: roundrobin"), {"algorithm": "rr"}),
    "hash": (asking("weir.dev/epselect: hash"), {"algorithm": "maglev"}),
    "idle timeout": (asking('weir.dev/timeout: "600"'), {"idle_timeout_s": 600}),
    "probe": (asking('weir.dev/liveness: "yes"'), {"probe": Probe(kind="tcp", interval_s=2, retries=2)}),
    "probe in full": (
        asking('weir.dev/liveness: "yes", weir.dev/probetype: tcp, weir.dev/probetimeout: "5", weir.dev/proberetries: "3"'),
        {"probe": Probe(interval_s=5, retries=3)},
    ),
    "probe numbers of 0": (
        asking('weir.dev/liveness: "yes", weir.dev/probetimeout: "0", weir.dev/proberetries: "0"'),
        {"probe": Probe()},
    ),
    "probe none": (asking('weir.dev/liveness: "yes", weir.dev/probetype: none'), {"probe": None}),
    "probe off": (asking('weir.dev/liveness: "no", weir.dev/probetype: tcp'), {"probe": None}),
    "affinity": (service("ports: [{port: 80}], sessionAffinity: ClientIP"), {"affinity_s": 10_800, "unsupported": ()}),
    "affinity for a time": (
        service("ports: [{port: 80}], sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}"),
        {"affinity_s": 60},
    ),
    "no affinity": (
        service("ports: [{port: 80}], sessionAffinity: None, sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}"),
        {"affinity_s": 0},
    ),
    "endpoints of the node alone": (
        service("ports: [{port: 80}], externalTrafficPolicy: Local, healthCheckNodePort: 31000"),
        {"local": True, "health_port": 31000, "unsupported": ()},
    ),
    "endpoints of every node": (
        service("ports: [{port: 80}], externalTrafficPolicy: Cluster, healthCheckNodePort: 31000"),
        {"local": False, "health_port": 0},
    ),
    "what concerns traffic within the cluster is left alone": (
        service("ports: [{port: 80, appProtocol: kubernetes.io/h2c}], internalTrafficPolicy: Local, allocateLoadBalancerNodePorts: false"),
        {"exposed": True, "local": False, "unsupported": ()},
    ),
    "nodes": (
        asking('weir.dev/targets: nodes, loxilb.io/nodelabel: "edge, zone=a"'),
        {"targets": "nodes", "node_labels": ("edge", "zone=a"), "unsupported": ()},
    ),
    "labels": (
        "{apiVersion: v1, kind: Service, metadata: {name: web, labels: {a: b}}, spec: {}}",
        {"labels": {"a": "b"}},
    ),
}


@pytest.mark.parametrize(("text", "fields"), SERVICES.values(), ids=SERVICES)
def test_a_service_is_read_as_written(text: str, fields: dict[str, object]) -> None:
    assert {name: getattr(fact(text), name) for name in fields} == fields


LATER = {
    "lbmode": (asking("weir.dev/lbmode: dsr"), "metadata.annotations[weir.dev/lbmode]", "default, onearm, fullnat"),
    "epselect": (
        asking("loxilb.io/epselect: lc"),
        "metadata.annotations[loxilb.io/epselect]",
        "rr, roundrobin, hash, maglev, persist",
    ),
    "probetype": (
        asking('weir.dev/liveness: "yes", weir.dev/probetype: udp'),
        "metadata.annotations[weir.dev/probetype]",
        "tcp, http, https, ping, none",
    ),
    "SCTP": (service("ports: [{port: 80, protocol: SCTP}]"), "spec.ports[0].protocol", "TCP, UDP"),
    "SCTP beside UDP": (
        service("ports: [{name: a, port: 53, protocol: UDP}, {name: b, port: 53, protocol: SCTP}]"),
        "spec.ports[1].protocol",
        "TCP, UDP",
    ),
    "annotation": (asking("loxilb.io/multus-nets: edge"), "metadata.annotations[loxilb.io/multus-nets]", "nothing"),
    "labels of nodes that are no targets": (
        asking("loxilb.io/nodelabel: edge"),
        "metadata.annotations[loxilb.io/nodelabel]",
        "labels of nodes where these are the targets (targets: nodes)",
    ),
    "external addresses": (
        service("ports: [{port: 80}], externalIPs: [1.2.3.4]"),
        "spec.externalIPs",
        "nothing: whoever may write a Service could take any address (CVE-2020-8554); ask for loadBalancerIP of a pool",
    ),
}


@pytest.mark.parametrize(("text", "field", "accepted"), LATER.values(), ids=LATER)
def test_what_is_valid_and_not_served_yet_is_told_and_the_rest_served(text: str, field: str, accepted: str) -> None:
    observed = fact(text)
    (problem,) = observed.unsupported
    assert (problem.field, problem.accepted) == (field, accepted)
    assert problem.got.endswith(" (not served yet)") == (not accepted.startswith(("labels of nodes", "nothing:")))
    assert observed.exposed
    assert (observed.mode, observed.algorithm) == ("default", "maglev")


def test_a_misspelt_annotation_of_ours_is_told_with_those_there_are() -> None:
    (problem,) = fact(asking("weir.dev/lbmod: fullnat")).unsupported
    assert (problem.field, problem.got) == ("metadata.annotations[weir.dev/lbmod]", "'fullnat'")
    assert "lbmode" in problem.accepted


@pytest.mark.parametrize("asked", ["loxilb.io/useproxyprotov2: 'no'", "loxilb.io/usepodnetwork: 'yes'", "loxilb.io/egress: ''"])
def test_an_annotation_that_asks_for_nothing_is_passed_over(asked: str) -> None:
    assert fact(asking(asked)).unsupported == ()


SETTINGS = {
    "its classes": (Settings(classes=("a/b",)), service("ports: [{port: 80}], loadBalancerClass: a/b"), {"exposed": True}),
    "its classes alone": (Settings(classes=("a/b",)), service("ports: [{port: 80}], loadBalancerClass: weir.dev/weir"), {"exposed": False}),
    "no class": (Settings(default_class=False), asking(""), {"exposed": False}),
    "our class where none is another's": (
        Settings(default_class=False),
        service("ports: [{port: 80}], loadBalancerClass: weir.dev/weir"),
        {"exposed": True},
    ),
    "external addresses, which pools may give": (
        Settings(external_ips=True),
        service("ports: [{port: 80}], externalIPs: [203.0.113.9, 203.0.113.8], loadBalancerIP: 203.0.113.7"),
        {"requested": ("203.0.113.7",), "more_requested": ("203.0.113.9", "203.0.113.8"), "unsupported": ()},
    ),
    "mode": (Settings(mode="onearm"), asking(""), {"mode": "onearm"}),
    "mode the Service names": (Settings(mode="onearm"), asking("weir.dev/lbmode: default"), {"mode": "default"}),
    "targets": (Settings(targets="nodes"), asking(""), {"targets": "nodes"}),
    "targets the Service names": (Settings(targets="nodes"), asking("weir.dev/targets: endpoints"), {"targets": "endpoints"}),
    "targets in kube-loxilb's words": (
        Settings(targets="nodes"),
        asking('loxilb.io/usepodnetwork: "yes"'),
        {"targets": "endpoints"},
    ),
}


@pytest.mark.parametrize(("settings", "text", "fields"), SETTINGS.values(), ids=SETTINGS)
def test_what_a_service_does_not_say_the_installation_does(settings: Settings, text: str, fields: dict[str, object]) -> None:
    (reading,) = (reading for document in documents("web.yaml", text.encode()) for reading in read(document, settings))
    assert reading.problems == ()
    assert {name: getattr(reading.event, name) for name in fields} == fields


NODES = {
    "by its addresses": ("addresses: [{type: InternalIP, address: 10.0.0.1}, {type: ExternalIP, address: 203.0.113.1}]", True),
    "unready": ("conditions: [{type: MemoryPressure, status: 'True'}, {type: Ready, status: 'False'}]", False),
    "not heard of": ("conditions: [{type: Ready, status: Unknown}]", True),
}


@pytest.mark.parametrize(("status", "ready"), NODES.values(), ids=NODES)
def test_a_node_is_read_as_written(status: str, ready: bool) -> None:
    node = fact(f"{{apiVersion: v1, kind: Node, metadata: {{name: n1}}, status: {{{status}}}}}")
    assert node.ready == ready
    listed = "addresses" in status
    assert node.addresses == (("10.0.0.1", "203.0.113.1") if listed else ())
    assert node.internal == (("10.0.0.1",) if listed else ())


def test_conditions_that_are_null_have_the_meaning_of_the_api() -> None:
    def endpoint(address: str, conditions: str) -> str:
        return f"{{addresses: [{address}], conditions: {conditions}}}"

    states = ["", "{ready: null}", "{ready: false}", "{ready: false, serving: true, terminating: true}"]
    listed = ", ".join(endpoint(f"10.0.0.{4 - i}", state or "null") for i, state in enumerate(states))
    observed = fact(endpoints(f"addressType: IPv4, ports: [{{port: null, name: a}}], endpoints: [{listed}]"))
    assert observed.endpoints == (  # by address
        Endpoint(address="10.0.0.1", ready=False, serving=True, terminating=True),
        Endpoint(address="10.0.0.2", ready=False, serving=False),
        Endpoint(address="10.0.0.3"),
        Endpoint(address="10.0.0.4"),
    )
    assert observed.ports == (SlicePort(port=0, name="a"),)


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("123.123.123.1/24", "123.123.123.0/24"),
        ("203.0.113.7", "203.0.113.7/32"),
        ("2001:DB8:0::1/64", "2001:db8::/64"),
        ("203.0.113.10 - 203.0.113.12", "203.0.113.10-203.0.113.12"),
        ("2001:DB8::A-2001:DB8::F", "2001:db8::a-2001:db8::f"),
    ],
)
def test_the_addresses_of_a_pool_are_canonical(written: str, canonical: str) -> None:
    observed = fact(pool(f"addresses: ['{written}'], priority: 5, autoAssign: false, avoidBuggyIPs: true, shareWithNodes: true"))
    assert (observed.addresses, observed.priority, observed.auto_assign, observed.avoid_buggy_ips) == ((canonical,), 5, False, True)
    assert observed.share_with_nodes


def test_a_name_of_253_characters_is_fine() -> None:
    assert only(named(f"name: {'a' * 253}")).root == Root(kind="Service", namespace="default", name="a" * 253, place="shop.yaml#1")


def test_nodes_and_namespaces_are_read() -> None:
    node = (
        "status: {addresses: [{type: InternalIP, address: FD00::1}, {type: Hostname, address: n1}, {type: InternalIP, address: 10.1.0.1}]}"
    )
    assert fact(f"{{apiVersion: v1, kind: Node, metadata: {{name: n1}}, {node}}}").addresses == ("10.1.0.1", "fd00::1")
    assert fact("{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {a: b}}}").labels == {"a": "b"}


def test_kinds_of_others_are_skipped() -> None:
    assert readings("{apiVersion: apps/v1, kind: Deployment}\n---\n{apiVersion: v1, kind: Pod, data: {a: b}}") == []
    assert readings("{apiVersion: serving.knative.dev/v1, kind: Service, spec: 3}") == []


def test_the_items_of_a_list_are_objects_of_their_own() -> None:
    first, second = readings(f"{{apiVersion: v1, kind: List, items: [{asking('')}, {service('ports: [{port: 0}]')}]}}")
    assert (first.place, first.problems) == ("shop.yaml#1.items[0]", ())
    assert (second.place, second.event) == ("shop.yaml#1.items[1]", None)
    assert only("{apiVersion: v1, kind: List, items: 3}").problems


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(), inner, max_size=4),
)
NEAR = st.sampled_from([service("ports: [{port: 80}]", "weir.dev/ips: 10.0.0.1"), pool("addresses: [10.0.0.0/24], priority: 1")]) | st.just(
    endpoints("addressType: IPv4, ports: [{port: 1}], endpoints: [{addresses: [10.0.0.1], conditions: {ready: true}}]")
)


def places(value: object) -> list[tuple[object, object]]:
    """Every container and key in a document."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]  # type: ignore[index]


@given(JSON)
def test_no_document_raises(content: object) -> None:
    for reading in read(Document("x.yaml#1", content), Settings()):
        assert reading.problems
        msgspec.json.encode(reading.problems)


@given(NEAR, st.data(), JSON)
def test_no_document_with_one_value_replaced_raises(text: str, data: st.DataObject, value: object) -> None:
    (document,) = documents("x.yaml", text.encode())
    container, key = data.draw(st.sampled_from(range(len(places(document.content)))).map(places(document.content).__getitem__))
    container[key] = value  # type: ignore[index]
    for reading in read(document, Settings()):
        assert reading.event or reading.problems
        assert not reading.event or DECODE(ENCODE(reading.event)) == reading.event
        assert all(str(problem).isprintable() for problem in reading.problems)


@given(st.binary() | st.text().map(str.encode))
def test_no_bytes_raise(data: bytes) -> None:
    for name in ("x.yaml", "x.json"):
        for document in documents(name, data):
            assert document.problem is None or str(document.problem).isprintable()


BOMB = "\n".join(
    ["a: &a [x, x, x, x, x, x, x, x, x]"] + [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefg", "bcdefgh", strict=True)]
)
MOST = "at most 100000 values and 1048576 characters"
ONCE = "each key once in its mapping"
MALFORMED = {  # line and column within the document
    "deep by indentation": ("".join(f"{' ' * i}a:\n" for i in range(70)), (65, None), "at most 64 levels and 100000 values"),
    "tab": ("kind: x\nspec:\n\ta: 1", (3, 1), "found character that cannot start any token"),
    "cut short": ("kind: x\nspec: {a: [1,", (3, 1), "did not find expected node content"),
    "key twice": ("a: 1\nb: {c: 1, c: 2}", (2, 11), ONCE),
    "aliases that multiply": (BOMB, (6, None), f"{MOST}, aliases counted as often as they are used"),
    "aliases of long text": (f"a: &a {'x' * 2000}\nb: [{'*a, ' * 999}]", (2, 4), f"{MOST}, aliases counted as often as they are used"),
    "alias in itself": ("a: &a [*a]", (1, 4), "an alias inside what it stands for"),
    "alias of nothing": ("a: *b", (1, 4), "found undefined alias"),
    "deep": ("[" * 200_000, (1, None), "at most 64 levels and 100000 values"),
    "wide": ("[" + "1," * 250_000 + "]", (1, None), "at most 64 levels and 100000 values"),
    "tag that lies": ("a: !!bool maybe", (1, 4), "each value of the type that its tag names"),
    "tag of Python": ("a: !!python/name:os.system x", (1, 4), "it does not parse"),
    "tag without end": (f"a: !{'b' * 100_000} x", (1, 4), "it does not parse"),
    "tag with terminal escapes": ("a: !%1Bc x", (1, 4), "it does not parse"),
    "control character": ("a: 1\nb: \x1b[31m", (2, None), "control characters are not allowed"),
}


@pytest.mark.parametrize(("text", "where", "why"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_document_is_reported_by_line_and_leaves_its_neighbours(text: str, where: tuple[int, int | None], why: str) -> None:
    before, broken, after = documents("shop.yaml", f"---\nkind: a\n---\n{text}\n---\nkind: b\n".encode())
    assert (before.content, after.content) == ({"kind": "a"}, {"kind": "b"})
    assert (broken.place, broken.content) == ("shop.yaml#2", None)
    assert broken.problem
    line, column = where
    assert broken.problem.field.startswith(f"line {line + 3}, column {column or ''}")
    assert (broken.problem.got, broken.problem.accepted) == ("malformed text", f"well-formed text ({why})")


def test_a_number_without_end_is_refused() -> None:
    (document,) = documents("shop.yaml", f"a: {'9' * 5000}".encode())
    assert document.problem is not None
    assert document.problem.field in ("document", "line 1, column 4")


def test_a_document_of_more_than_1_mib_is_refused_by_name_unparsed() -> None:
    text = f"kind: a\n---\nkind: {'b' * 1_500_000}\n"
    first, second = documents("shop.yaml", text.encode())
    assert first.content == {"kind": "a"}
    assert (second.place, str(second.problem)) == (
        "shop.yaml#2",
        f"document: got {len(text) - 8} bytes, accepted: at most {MOST_DOCUMENT_BYTES} bytes",
    )


def test_bytes_that_are_no_text_are_refused_by_file() -> None:
    (document,) = documents("shop.yaml", b"kind: \xff")
    assert (document.place, str(document.problem)) == ("shop.yaml", "file: got byte 0xff at 6, accepted: UTF-8 text")


BIG = "x" * 600_000
TOO_BIG = {
    "labels": f"{{apiVersion: v1, kind: Service, metadata: {{name: web, labels: {{a: {BIG}}}}}, "
    "spec: {type: LoadBalancer, ports: [{port: 80}]}}",
    "annotations": asking(f"weir.dev/lbmode: default, weir.dev/ips: '10.0.0.1{' ' * 600_000}'"),
    "labels of a node": f"{{apiVersion: v1, kind: Node, metadata: {{name: web, labels: {{a: {BIG}}}}}}}",
    "ports": service(f"ports: [{', '.join(f'{{port: {i}, name: p{i:062}}}' for i in range(1, 9000))}]"),
    "names of endpoints": endpoints(f"addressType: IPv4, endpoints: [{{addresses: [10.0.0.1], nodeName: {BIG}}}]"),
    "ranges": pool(f"addresses: [{', '.join(f'10.{i >> 8}.{i & 255}.0/24' for i in range(40_000))}]"),
}


@pytest.mark.parametrize("text", TOO_BIG.values(), ids=TOO_BIG)
def test_an_object_whose_fact_would_be_too_big_is_rejected_by_name(text: str) -> None:
    reading = only(text)
    (problem,) = reading.problems
    assert (problem.field, problem.accepted) == ("document", "at most 524288 bytes of labels, annotations, ports and addresses")
    assert reading.root
    assert reading.event is None


def test_a_service_that_is_let_go_is_let_go_however_big_it_is() -> None:
    metadata = f"{{name: web, deletionTimestamp: now, labels: {{a: {BIG}}}}}"
    reading = only(f"{{apiVersion: v1, kind: Service, metadata: {metadata}, spec: {{type: LoadBalancer, ports: [{{port: 80}}]}}}}")
    assert reading.problems == ()
    assert isinstance(reading.event, ServiceObserved)
    assert (reading.event.exposed, reading.event.labels) == (False, {})


def test_a_slice_of_1000_endpoints_is_fine() -> None:
    listed = ", ".join(f"{{addresses: ['fd00:1234:5678:9abc:def0:1234:5678:{i:x}'], nodeName: {'n' * 253}}}" for i in range(1, 1001))
    assert len(fact(endpoints(f"addressType: IPv6, endpoints: [{listed}]")).endpoints) == 1000


def test_at_most_20_things_not_served_are_told_and_how_many_more() -> None:
    unsupported = fact(asking(", ".join(f"weir.dev/x{i:03}: a" for i in range(500)))).unsupported
    assert len(unsupported) == 21
    assert str(unsupported[-1]) == "document: got 480 more like these, accepted: none of them"


def test_addresses_that_are_no_list_are_told_once() -> None:
    reading = only(endpoints("addressType: IPv4, endpoints: [{addresses: 10.0.0.1}]"))
    assert list(map(str, reading.problems)) == ["endpoints[0].addresses: got '10.0.0.1', accepted: a list"]


def test_names_in_faults_are_shortened() -> None:
    long = "x" * 50_000
    reading = only(endpoints(f"addressType: IPv4, ports: [{{port: 1, name: {long}}}, {{port: 2, name: {long}}}]"))
    assert len(str(reading.problems[0])) < 200


HOSTILE = {
    "bad ports": service(f"ports: [{'{port: 0, name: A, protocol: X, targetPort: -1}, ' * 8000}]"),
    "ranges": pool(f"addresses: [{', '.join(f'10.{i >> 8}.{i & 255}.0/24' for i in range(8000))}]"),
    "ranges that overlap": pool(f"addresses: [{'10.0.0.0/8, ' * 8000}]"),
    "annotations": asking(", ".join(f"weir.dev/x{i}: a" for i in range(8000))),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_eight_thousand_of_anything_are_read_in_well_under_a_second(text: str) -> None:
    (document,) = documents("shop.yaml", text.encode())
    before = time.process_time()
    (reading,) = read(document, Settings())
    assert time.process_time() - before < 1
    assert len(reading.problems) <= 20
    assert len(reading.problems) + reading.untold in (0, 7999, 8000 * 4)


def test_a_json_key_said_twice_after_many_is_found_at_once() -> None:
    text = "{" + ", ".join(f'"{i}": 0' for i in range(50_000)) + ', "49999": 0}'
    before = time.process_time()
    (document,) = documents("a.json", text.encode())
    assert time.process_time() - before < 1
    assert document.problem
    assert str(document.problem) == f"document: got malformed text, accepted: well-formed text ({ONCE})"


def test_a_file_of_comments_beyond_a_documents_size_is_refused_unread() -> None:
    (document,) = documents("a.yaml", b"#\n" * 1_000_000)
    assert str(document.problem) == f"document: got 2000000 bytes, accepted: at most {MOST_DOCUMENT_BYTES} bytes"


def test_documents_that_say_nothing_are_not_counted_and_dates_stay_text() -> None:
    text = "%YAML 1.1\n# a comment\n---\n# another\n---\r\na: 2026-01-01\r\n---\n...\n--- # last\nb: 1\n"
    assert [(document.place, document.content) for document in documents("a.yaml", text.encode())] == [
        ("a.yaml#1", {"a": "2026-01-01"}),
        ("a.yaml#2", {"b": 1}),
    ]


def test_json_is_read_as_json() -> None:
    assert documents("a.json", b'{"a":\t"\\ud83d\\ude00"}') == (Document("a.json#1", {"a": "\U0001f600"}),)
    for bad in (b"{", b'{"a": NaN}', b'{"a": 1, "a": 2}', b"[" * 100_000, b""):
        (document,) = documents("a.json", bad)
        assert document.problem, bad
