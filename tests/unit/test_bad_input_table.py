"""Bad input in a folder of manifests, one row each: what is told of it, by field, got and accepted, while its neighbours stay.

Beside it stand the tables of malformed text (test_watcher_core), of addresses that cannot be given (test_ipam) and of pools and
nodes that meet one another (test_watcher_differences).
"""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_watcher_core import asking, endpoints, named, only, pool, readings, service

from services.watcher.core import Watcher, differences
from services.watcher.inventory import Observation
from services.watcher.kinds.annotations import READ
from services.watcher.sources.yaml_documents import documents
from weir.cli.output import harmless
from weir.decider import Fact, World
from weir.events import DECODE, ENCODE, AnyEvent, EndpointSliceObserved, ServiceGone, ServiceObserved
from weir.model import Endpoint, SlicePort

UNICAST = "a unicast address (this is {})"
NAME = "a DNS subdomain: at most 253 of a-z, 0-9, - and ., each part beginning and ending with a letter or digit"
LABEL = "a DNS label: at most 63 of a-z, 0-9 and -, beginning and ending with a letter or digit"
TARGET = "1-65535, or a port's name (at most 15 of a-z, 0-9 and -, with a letter)"
RANGE = "a CIDR (203.0.113.0/28) or first-last (203.0.113.10-203.0.113.29) of one family, first before last"
TEXT = "text (in YAML, quotes make it text)"

REJECTED = {
    "port 0": (service("ports: [{port: 0}]"), [("spec.ports[0].port", "0", "1-65535")]),
    "port 65536": (service("ports: [{port: 65536}]"), [("spec.ports[0].port", "65536", "1-65535")]),
    "port as text": (service('ports: [{port: "80"}]'), [("spec.ports[0].port", "'80'", "1-65535")]),
    "port true": (service("ports: [{port: true}]"), [("spec.ports[0].port", "true", "1-65535")]),
    "port with a fraction": (service("ports: [{port: 80.5}]"), [("spec.ports[0].port", "80.5", "1-65535")]),
    "port absent": (service("ports: [{name: http}]"), [("spec.ports[0].port", "nothing", "1-65535")]),
    "two bad ports are not the same port": (
        service("ports: [{name: a, port: 0}, {name: b, port: -1}]"),
        [("spec.ports[0].port", "0", "1-65535"), ("spec.ports[1].port", "-1", "1-65535")],
    ),
    "no ports": (service("ports: []"), [("spec.ports", "a list of 0", "at least one port")]),
    "ports no list": (service("ports: 80"), [("spec.ports", "80", "a list")]),
    "port twice": (
        service("ports: [{name: a, port: 80}, {name: b, port: 80}]"),
        [("spec.ports[1].port", "80/TCP", "each port and protocol once; spec.ports[0] has it")],
    ),
    "name twice": (
        service("ports: [{name: a, port: 80}, {name: a, port: 81}]"),
        [("spec.ports[1].name", "'a'", "each name once; spec.ports[0] has it")],
    ),
    "several ports, one unnamed": (
        service("ports: [{name: a, port: 80}, {port: 81}]"),
        [("spec.ports[1].name", "nothing", "a name, since there are several ports")],
    ),
    "ICMP": (service("ports: [{port: 80, protocol: ICMP}]"), [("spec.ports[0].protocol", "'ICMP'", "TCP, UDP")]),
    "target port 65536": (service("ports: [{port: 80, targetPort: 65536}]"), [("spec.ports[0].targetPort", "65536", "0-65535")]),
    "target port in quotes": (service('ports: [{port: 80, targetPort: "8080"}]'), [("spec.ports[0].targetPort", "'8080'", TARGET)]),
    "unknown type": (
        "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {type: LoadBalancr}}",
        [("spec.type", "'LoadBalancr'", "ClusterIP, NodePort, LoadBalancer, ExternalName")],
    ),
    "spec no mapping": ("{apiVersion: v1, kind: Service, metadata: {name: web}, spec: 3}", [("spec", "3", "a mapping")]),
    "every fault, not the first": (
        service("ports: [{port: 0, protocol: ICMP}], loadBalancerIP: nonsense", "weir.dev/timeout: never"),
        [
            ("spec.ports[0].port", "0", "1-65535"),
            ("spec.ports[0].protocol", "'ICMP'", "TCP, UDP"),
            ("spec.loadBalancerIP", "'nonsense'", "an IPv4 or IPv6 address, without a zone and not IPv4-mapped"),
            ("metadata.annotations[weir.dev/timeout]", "'never'", '"0"-"604800"'),
        ],
    ),
    "address of another family": (
        service("ports: [{port: 80}], ipFamilies: [IPv6], loadBalancerIP: 203.0.113.9"),
        [("spec.loadBalancerIP", "'203.0.113.9'", "an address of IPv6, as ipFamilies says")],
    ),
    "address with a zone": (
        asking('weir.dev/ips: "fe80::1%eth0"'),
        [
            (
                "metadata.annotations[weir.dev/ips]",
                "'fe80::1%eth0'",
                "an IPv4 or IPv6 address, without a zone and not IPv4-mapped",
            )
        ],
    ),
    "loopback asked for": (
        service("ports: [{port: 80}], loadBalancerIP: 127.0.0.1"),
        [("spec.loadBalancerIP", "'127.0.0.1'", UNICAST.format("loopback, 127.0.0.0/8"))],
    ),
    "unknown family": (
        service("ports: [{port: 80}], ipFamilies: [IPv5]"),
        [("spec.ipFamilies[0]", "'IPv5'", "IPv4, IPv6")],
    ),
    "annotation not quoted": (asking("weir.dev/liveness: yes"), [("metadata.annotations[weir.dev/liveness]", "true", TEXT)]),
    "unknown mode": (
        asking("loxilb.io/lbmode: fullnt"),
        [("metadata.annotations[loxilb.io/lbmode]", "'fullnt'", "default, onearm, fullnat, dsr, fullproxy, hostonearm")],
    ),
    "terminal escapes": (
        service('ports: [{port: "\\e[31m80"}]', '"weir.dev/lbmode": "\\e]0;x\\a"'),
        [
            ("spec.ports[0].port", "'\\x1b[31m80'", "1-65535"),
            ("metadata.annotations[weir.dev/lbmode]", "'\\x1b]0;x\\x07'", "printable text"),
        ],
    ),
    "no name": (named("namespace: shop"), [("metadata.name", "nothing", "a name")]),
    "no metadata": ("{apiVersion: v1, kind: Service}", [("metadata.name", "nothing", "a name")]),
    "name in capitals": (named("name: Web"), [("metadata.name", "'Web'", NAME)]),
    "name of 254": (named(f"name: {'a' * 254}"), [("metadata.name", f"'{'a' * 80}' and 174 characters more", NAME)]),
    "namespace of 64": (
        named(f"name: web, namespace: {'a' * 64}"),
        [("metadata.namespace", f"'{'a' * 64}'", LABEL)],
    ),
    "name a number": (named("name: 80"), [("metadata.name", "80", TEXT)]),
    "name of escapes": (named('name: "\\e[2J"'), [("metadata.name", "'\\x1b[2J'", "printable text")]),
    "name empty": (named("name: ''"), [("metadata.name", "''", NAME)]),
    "metadata no mapping": ("{apiVersion: v1, kind: Service, metadata: 3}", [("metadata", "3", "a mapping")]),
    "port no mapping": (service("ports: [80, 81]"), [(f"spec.ports[{i}]", f"{80 + i}", "a mapping") for i in (0, 1)]),
    "port's name no text": (service("ports: [{port: 80, name: [http]}]"), [("spec.ports[0].name", "a list of 1", TEXT)]),
    "one of several names no text": (
        service("ports: [{port: 80, name: 1}, {port: 81, name: b}]"),
        [("spec.ports[0].name", "1", TEXT)],
    ),
    "address no text": (service("ports: [{port: 80}], loadBalancerIP: 3"), [("spec.loadBalancerIP", "3", TEXT)]),
    "apiVersion no text": ("{apiVersion: 1, kind: Service}", [("apiVersion", "a number", "text, as in every manifest")]),
    "pool no list": (pool("addresses: 10.0.0.0/24"), [("spec.addresses", "'10.0.0.0/24'", "a list")]),
    "label a number": (
        named("name: web, labels: {tier: 1}"),
        [("metadata.labels.tier", "1", TEXT)],
    ),
    "generation negative": (
        named("name: web, generation: -1"),
        [("metadata.generation", "-1", "0-9223372036854775807")],
    ),
    "no apiVersion": ("{kind: Service}", [("apiVersion", "nothing", "text, as in every manifest")]),
    "a list at the top": ("[1, 2]", [("document", "a list of 2", "a mapping with apiVersion, kind and metadata")]),
    "unknown version": (
        "{apiVersion: discovery.k8s.io/v1beta1, kind: EndpointSlice, metadata: {name: x}}",
        [("apiVersion", "'discovery.k8s.io/v1beta1'", "discovery.k8s.io/v1")],
    ),
    "unknown kind of ours": (
        "{apiVersion: weir.dev/v1alpha1, kind: VipPool, metadata: {name: x}}",
        [("kind", "'VipPool'", "VIPPool")],
    ),
    "slice of no Service": (
        endpoints("addressType: IPv4", labels="a: b"),
        [("metadata.labels[kubernetes.io/service-name]", "nothing", "the name of a Service")],
    ),
    "slice of names": (endpoints("addressType: FQDN"), [("addressType", "'FQDN'", "IPv4, IPv6")]),
    "slice without a type": (endpoints("endpoints: []"), [("addressType", "nothing", "IPv4, IPv6")]),
    "slice of 1001": (
        endpoints(f"addressType: IPv4, endpoints: [{'{addresses: [10.0.0.1]},' * 1001}]"),
        [("endpoints", "a list of 1001", "at most 1000")],
    ),
    "pool of nothing": (pool("addresses: []"), [("spec.addresses", "a list of 0", "at least one CIDR or first-last")]),
    "pool without addresses": (pool(""), [("spec.addresses", "nothing", "at least one CIDR or first-last")]),
    "pool of everything": (
        pool("addresses: [0.0.0.0/0, '::/0']"),
        [
            ("spec.addresses[0]", "'0.0.0.0/0'", "unicast addresses only (this holds unspecified, 0.0.0.0/8)"),
            ("spec.addresses[1]", "'::/0'", "unicast addresses only (this holds unspecified, ::)"),
        ],
    ),
    "pool of loopback": (
        pool("addresses: [127.0.0.0/30]"),
        [("spec.addresses[0]", "'127.0.0.0/30'", "unicast addresses only (this holds loopback, 127.0.0.0/8)")],
    ),
    "pool of link-local": (
        pool("addresses: [169.254.1.1-169.254.1.9]"),
        [("spec.addresses[0]", "'169.254.1.1-169.254.1.9'", "unicast addresses only (this holds link-local, 169.254.0.0/16)")],
    ),
    "pool into multicast": (
        pool("addresses: [223.255.255.0-224.0.0.1]"),
        [("spec.addresses[0]", "'223.255.255.0-224.0.0.1'", "unicast addresses only (this holds multicast, 224.0.0.0/4)")],
    ),
    "pool backwards": (pool("addresses: [10.0.0.9-10.0.0.1]"), [("spec.addresses[0]", "'10.0.0.9-10.0.0.1'", RANGE)]),
    "pool of two families": (pool("addresses: ['10.0.0.1-fd00::1']"), [("spec.addresses[0]", "'10.0.0.1-fd00::1'", RANGE)]),
    "pool of words": (pool("addresses: [some, 7]"), [("spec.addresses[0]", "'some'", RANGE), ("spec.addresses[1]", "7", RANGE)]),
    "pool that overlaps itself": (
        pool("addresses: [10.0.0.0/24, 10.0.0.255-10.0.1.3]"),
        [("spec.addresses[1]", "'10.0.0.255-10.0.1.3'", "each address once; 10.0.0.0/24 is in this pool already")],
    ),
    "flag as text": (pool('addresses: [10.0.0.0/24], autoAssign: "no"'), [("spec.autoAssign", "'no'", "true, false")]),
    "node address": (
        "{apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: n1}]}}",
        [("status.addresses[0].address", "'n1'", "an address")],
    ),
    "dual stack with one policy too few": (
        service("ports: [{port: 80}], ipFamilies: [IPv6, IPv4], ipFamilyPolicy: SingleStack"),
        [("spec.ipFamilies", "IPv6, IPv4", "one family; for two ipFamilyPolicy must be PreferDualStack or RequireDualStack")],
    ),
    "family twice": (
        service("ports: [{port: 80}], ipFamilies: [IPv4, IPv4], ipFamilyPolicy: RequireDualStack"),
        [("spec.ipFamilies", "a list of 2", "each family once")],
    ),
    "unknown family policy": (
        service("ports: [{port: 80}], ipFamilyPolicy: DualStack"),
        [("spec.ipFamilyPolicy", "'DualStack'", "SingleStack, PreferDualStack, RequireDualStack")],
    ),
    "IPv4-mapped address": (
        service("ports: [{port: 80}], loadBalancerIP: '::ffff:203.0.113.9'"),
        [("spec.loadBalancerIP", "'::ffff:203.0.113.9'", "an IPv4 or IPv6 address, without a zone and not IPv4-mapped")],
    ),
    **{
        f"source range {cidr}": (
            service(f"ports: [{{port: 80}}], loadBalancerSourceRanges: [10.0.0.0/8, '{cidr}']"),
            [("spec.loadBalancerSourceRanges[1]", repr(cidr), accepted)],
        )
        for cidr, accepted in {
            "10.0.0.1": "a CIDR (203.0.113.0/24)",
            "10.0.0.0/33": "a CIDR (203.0.113.0/24)",
            "10.0.0.0-10.0.0.9": "a CIDR (203.0.113.0/24)",
            "::ffff:10.0.0.0/104": "a CIDR (203.0.113.0/24)",
            "fe80::1%eth0/64": "a CIDR (203.0.113.0/24)",
        }.items()
    },
    "source range no text": (
        service("ports: [{port: 80}], loadBalancerSourceRanges: [10]"),
        [("spec.loadBalancerSourceRanges[0]", "10", TEXT)],
    ),
    "source ranges by the API's annotation": (
        service("ports: [{port: 80}]", "service.beta.kubernetes.io/load-balancer-source-ranges: office"),
        [("metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]", "'office'", "a CIDR (203.0.113.0/24)")],
    ),
    "source ranges in two places": (
        service("ports: [{port: 80}], loadBalancerSourceRanges: [10.0.0.0/8]", "weir.dev/source-ranges: 0.0.0.0/1"),
        [("metadata.annotations[weir.dev/source-ranges]", "'0.0.0.0/1'", "nothing, since spec.loadBalancerSourceRanges is given")],
    ),
    "no-backend": (asking("weir.dev/no-backend: ignore"), [("metadata.annotations[weir.dev/no-backend]", "'ignore'", "drop, reject")]),
    "drain for ever": (
        asking('weir.dev/drain-timeout: "604801"'),
        [("metadata.annotations[weir.dev/drain-timeout]", "'604801'", '"0"-"604800"')],
    ),
    "pool named badly": (asking('weir.dev/pool: "gold, sil_ver"'), [("metadata.annotations[weir.dev/pool]", "'sil_ver'", NAME)]),
    "share key too long": (
        asking(f"weir.dev/share-key: {'k' * 254}"),
        [("metadata.annotations[weir.dev/share-key]", f"'{'k' * 80}' and 174 characters more", "at most 253 characters")],
    ),
    "exclusive or not": (asking("weir.dev/exclusive: maybe"), [("metadata.annotations[weir.dev/exclusive]", "'maybe'", "yes, no")]),
    "probe port 65536": (
        asking('weir.dev/probeport: "65536"'),
        [("metadata.annotations[weir.dev/probeport]", "'65536'", '"0"-"65535"')],
    ),
    "probe request that ends its line": (
        asking('weir.dev/probereq: "/a HTTP/1.1\\r\\nX: y"'),
        [("metadata.annotations[weir.dev/probereq]", "'/a HTTP/1.1\\r\\nX: y'", "printable text")],
    ),
    "probe request of two words": (
        asking('weir.dev/probereq: "/a b"'),
        [("metadata.annotations[weir.dev/probereq]", "'/a b'", "a path of ASCII characters without spaces")],
    ),
    "probe host": (asking('weir.dev/probehost: "a b"'), [("metadata.annotations[weir.dev/probehost]", "'a b'", NAME)]),
    "HTML for a name": (named("name: '<img src=x onerror=alert(1)>'"), [("metadata.name", "'<img src=x onerror=alert(1)>'", NAME)]),
    "label of escapes": (named('name: web, labels: {a: "\\e[31m"}'), [("metadata.labels.a", "'\\x1b[31m'", "printable text")]),
    "selector misspelt": (
        pool("addresses: [10.0.0.0/24], serviceSelector: {matchLabel: {a: b}}"),
        [("spec.serviceSelector.matchLabel", "an unknown field", "matchLabels")],
    ),
    "selector of a word": (pool("addresses: [10.0.0.0/24], serviceSelector: web"), [("spec.serviceSelector", "'web'", "a mapping")]),
    "selector by number": (
        pool("addresses: [10.0.0.0/24], namespaceSelector: {matchLabels: {a: 1}}"),
        [("spec.namespaceSelector.matchLabels.a", "1", TEXT)],
    ),
    **{
        f"selector {name}": (
            pool(f"addresses: [10.0.0.0/24], serviceSelector: {{matchExpressions: [{expression}]}}"),
            [(f"spec.serviceSelector.matchExpressions[0].{field}", got, accepted)],
        )
        for name, (expression, field, got, accepted) in {
            "without a key": ("{operator: Exists}", "key", "nothing", "a label's key"),
            "without an operator": ("{key: a}", "operator", "nothing", "In, NotIn, Exists, DoesNotExist"),
            "of an unknown operator": ("{key: a, operator: Gt}", "operator", "'Gt'", "In, NotIn, Exists, DoesNotExist"),
            "in nothing": ("{key: a, operator: In}", "values", "nothing", "at least one value"),
            "exists with values": (
                "{key: a, operator: Exists, values: [b]}",
                "values",
                "a list of 1",
                "nothing, as Exists takes no values",
            ),
        }.items()
    },
}


@pytest.mark.parametrize(("text", "problems"), REJECTED.values(), ids=REJECTED)
def test_a_fault_is_told_with_field_got_and_accepted_and_neighbours_stay(text: str, problems: list[tuple[str, str, str]]) -> None:
    before, after = service("ports: [{port: 80}]"), pool("addresses: [198.51.100.0/24]")
    first, reading, last = readings(f"{before}\n---\n{text}\n---\n{after}\n")
    assert sorted((problem.field, problem.got, problem.accepted) for problem in reading.problems) == sorted(problems)
    assert reading.event is None
    assert reading.place == "shop.yaml#2"
    assert all(harmless(str(problem)) == str(problem) for problem in reading.problems)
    assert (type(first.event).__name__, type(last.event).__name__) == ("ServiceObserved", "PoolObserved")


ENDPOINTS = {
    "IPv6 among IPv4": ("fd00::1", "an IPv4 address, as addressType says"),
    "loopback": ("127.0.0.1", UNICAST.format("loopback, 127.0.0.0/8")),
    "link-local": ("169.254.7.7", UNICAST.format("link-local, 169.254.0.0/16")),
    "metadata": ("169.254.169.254", UNICAST.format("link-local, 169.254.0.0/16")),
    "another cloud's metadata": ("100.100.100.200", "an endpoint's own address (this is a cloud's metadata service)"),
    "multicast": ("224.0.0.1", UNICAST.format("multicast, 224.0.0.0/4")),
    "unspecified": ("0.0.0.0", UNICAST.format("unspecified, 0.0.0.0/8")),
    "broadcast": ("255.255.255.255", UNICAST.format("broadcast")),
    "IPv6 loopback": ("::1", UNICAST.format("loopback, ::1")),
    "IPv6 link-local": ("fe80::1", UNICAST.format("link-local, fe80::/10")),
    "IPv6 multicast": ("ff02::1", UNICAST.format("multicast, ff00::/8")),
    "IPv6 unspecified": ("::", UNICAST.format("unspecified, ::")),
    "IPv4-mapped": ("::ffff:10.0.0.1", "an IPv4 or IPv6 address, without a zone and not IPv4-mapped"),
    "octal": ("010.0.0.1", "an IPv4 or IPv6 address, without a zone and not IPv4-mapped"),
    "a name": ("web.shop", "an IPv4 or IPv6 address, without a zone and not IPv4-mapped"),
}


@pytest.mark.parametrize(("address", "accepted"), ENDPOINTS.values(), ids=ENDPOINTS)
def test_a_bad_endpoint_does_not_take_the_good_ones_away(address: str, accepted: str) -> None:
    reading = only(endpoints(f"addressType: IPv4, endpoints: [{{addresses: ['{address}']}}, {{addresses: [10.0.0.2]}}]"))
    assert reading.event
    assert reading.event.endpoints == (Endpoint(address="10.0.0.2"),)
    (problem,) = reading.problems
    assert (problem.field, problem.got, problem.accepted) == ("endpoints[0].addresses[0]", repr(address), accepted)


def test_a_bad_port_or_a_doubled_one_does_not_take_the_good_ones_away() -> None:
    ports = "{port: 80}, {port: 0, name: a}, {port: 90}, {port: 1, name: b, protocol: ICMP}, {port: 53, protocol: UDP}"
    two = "{addresses: [10.0.0.1]}, {addresses: []}"
    reading = only(endpoints(f"addressType: IPv4, ports: [{ports}], endpoints: [{two}]"))
    assert reading.event
    assert reading.event.ports == (SlicePort(port=80), SlicePort(port=53, protocol="UDP"))
    assert reading.event.endpoints == (Endpoint(address="10.0.0.1"),)
    assert [problem.field for problem in reading.problems] == [
        "ports[1].port",
        "ports[2]",
        "ports[3].protocol",
        "endpoints[1].addresses",
    ]


def test_ports_of_sctp_are_their_services_to_tell() -> None:
    reading = only(endpoints("addressType: IPv4, ports: [{port: 80}, {port: 80, name: s, protocol: SCTP}]"))
    assert reading.event
    assert (reading.event.ports, reading.problems) == ((SlicePort(port=80),), ())


HTML = "<script>alert(1)</script>"


def test_html_in_labels_and_annotations_is_text_like_any_other() -> None:
    text = service("ports: [{port: 80}]", f"weir.dev/share-key: '{HTML}'").replace("name: web,", f"name: web, labels: {{a: '{HTML}'}},")
    observed = only(text).event
    assert isinstance(observed, ServiceObserved)
    assert (observed.labels, observed.share_key) == ({"a": HTML}, HTML)


# ── one after the other ────────────────────────────────────────────────────────────────────────────────────────────


class Folder:
    """A folder and the log that was told of it."""

    def __init__(self) -> None:
        self.watcher, self.world, self.seq = Watcher(), World(Watcher.indexes), 0

    def write(self, text: str, name: str = "shop.yaml") -> list[AnyEvent]:
        """What the log is told when the file says `text`."""
        said = self.watcher.inventory
        events = differences(self.world, said, said.take(said.read(Observation({name: documents(name, text.encode())}, complete=True))))
        for event in events:
            self.seq += 1
            self.world.evolve(Fact(self.seq, event))
        return events


AFTERWARDS = {
    "class changed away": (service("ports: [{port: 80}], loadBalancerClass: a/b"), {"exposed": False}),
    "type changed away": ("{apiVersion: v1, kind: Service, metadata: {namespace: shop, name: web}}", {"exposed": False}),
    "external name": (
        named("name: web, namespace: shop").replace("}}", "}, spec: {type: ExternalName, externalName: a}}"),
        {"exposed": False},
    ),
    "headless": (service("ports: [{port: 80}], clusterIP: None"), {"exposed": False}),
    "being deleted, held by finalizers": (
        service("ports: [{port: 80}]").replace("name: web,", "name: web, deletionTimestamp: 2026-01-01T00:00:00Z, finalizers: [a/b],"),
        {"exposed": False},
    ),
}


@pytest.mark.parametrize(("text", "fields"), AFTERWARDS.values(), ids=AFTERWARDS)
def test_a_service_that_changes_is_stated_as_it_is_now(text: str, fields: dict[str, object]) -> None:
    folder = Folder()
    folder.write(service("ports: [{port: 80}]"))
    (observed,) = folder.write(text)
    assert isinstance(observed, ServiceObserved)
    assert {name: getattr(observed, name) for name in fields} == fields
    assert folder.write(text) == []


def test_a_generation_that_goes_backwards_is_a_change_like_any_other() -> None:
    folder = Folder()
    folder.write(service("ports: [{port: 80}]").replace("name: web,", "name: web, generation: 7,"))
    (observed,) = folder.write(service("ports: [{port: 81}]").replace("name: web,", "name: web, generation: 2,"))
    assert isinstance(observed, ServiceObserved)
    assert (observed.root.generation, observed.ports[0].port) == (2, 81)


def test_overlapping_slices_are_two_facts_and_what_is_half_ready_is_kept_as_it_is() -> None:
    first = endpoints("addressType: IPv4, ports: [{port: null}], endpoints: [{addresses: [10.0.0.1], conditions: {ready: null}}]")
    second = first.replace("web-1", "web-2").replace("{ready: null}", "{ready: false, serving: true, terminating: true}")
    stated = Folder().write(f"{first}\n---\n{second}")
    assert [event.endpoints for event in stated if isinstance(event, EndpointSliceObserved)] == [
        (Endpoint(address="10.0.0.1"),),
        (Endpoint(address="10.0.0.1", ready=False, serving=True, terminating=True),),
    ]


UNREADABLE = {
    "1.5 MB": b"apiVersion: v1\nkind: Service\nmetadata: {name: a, annotations: {a: " + b"x" * 1_500_000 + b"}}\n",
    "invalid UTF-8": b"apiVersion: v1\nkind: Service\nmetadata: {name: \xff}\n",
    "truncated": b'{"apiVersion": "v1", "kind": "Service", "metadata": {"name": ',
}


@pytest.mark.parametrize("name", ["other.yaml", "other.json"])
@pytest.mark.parametrize("data", UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_is_told_by_file_and_takes_nothing_away(data: bytes, name: str) -> None:
    folder = Folder()
    folder.write(service("ports: [{port: 80}]"))
    said = folder.watcher.inventory
    events = differences(folder.world, said, said.take(said.read(Observation({name: documents(name, data)}))))
    assert [type(event).__name__ for event in events] == ["ManifestRejected"]
    assert not any(isinstance(event, ServiceGone) for event in events)
    assert all(len(ENCODE(event)) < 4096 for event in events)


# ── manifests nobody thought of ────────────────────────────────────────────────────────────────────────────────────

ADDRESSES = st.sampled_from(["10.0.0.1", "::1", "fe80::1%eth0", "::ffff:1.2.3.4", "0.0.0.0/0", "203.0.113.0/24", "1.2.3.4-1.2.3.9", "x"])
WORDS = st.sampled_from(
    ["", "yes", "no", "tcp", "http", "In", "Exists", "IPv4", "IPv6", "SCTP", "LoadBalancer", "RequireDualStack", "None"]
)
ODD = st.text(max_size=8) | st.sampled_from(["\x1b[2J", HTML, "a" * 300, "9" * 30, "\u202e", "a,b,,c", " "])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 70000) | st.integers() | st.floats() | ADDRESSES | WORDS | ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ODD, inner, max_size=3),
    max_leaves=4,
)
FIELDS = {
    "metadata": ("name", "namespace", "labels", "annotations", "generation", "deletionTimestamp"),
    "spec": (
        *("type", "ports", "loadBalancerClass", "loadBalancerIP", "loadBalancerSourceRanges", "ipFamilies", "ipFamilyPolicy"),
        *("clusterIP", "externalIPs", "addresses", "autoAssign", "priority", "avoidBuggyIPs", "share", "shareWithNodes"),
        *("serviceSelector", "namespaceSelector"),
    ),
    "ports[]": ("name", "port", "targetPort", "nodePort", "protocol"),
    "endpoints[]": ("addresses", "conditions", "nodeName"),
    "conditions": ("ready", "serving", "terminating"),
    "serviceSelector": ("matchLabels", "matchExpressions"),
    "matchExpressions[]": ("key", "operator", "values"),
    "status": ("addresses",),
    "annotations": tuple(f"{prefix}{name}" for prefix in ("weir.dev/", "loxilb.io/") for name in (*READ, "poolSelect", "egress", "what")),
}


def mapping(place: str) -> st.SearchStrategy[object]:
    """A mapping as the schema has it at `place`, with values of any kind now and then."""
    names = FIELDS[place]
    return st.lists(st.sampled_from(names), max_size=6, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries({name: below(name) for name in chosen})
    )


def below(name: str) -> st.SearchStrategy[object]:
    if f"{name}[]" in FIELDS:
        return st.lists(mapping(f"{name}[]"), max_size=3) | VALUES
    if name in FIELDS:
        return mapping(name) | VALUES
    return VALUES | st.lists(ADDRESSES, max_size=3)


MANIFESTS = st.fixed_dictionaries(
    {
        "apiVersion": st.sampled_from(["v1", "discovery.k8s.io/v1", "weir.dev/v1alpha1", "v2"]),
        "kind": st.sampled_from(["Service", "EndpointSlice", "VIPPool", "Namespace", "Node", "List"]),
        "metadata": st.fixed_dictionaries({"name": st.just("web") | ODD, "labels": st.just({"kubernetes.io/service-name": "web"}) | VALUES})
        | mapping("metadata"),
        "spec": mapping("spec") | VALUES,
    },
    optional={"endpoints": below("endpoints"), "ports": below("ports"), "addressType": WORDS, "status": below("status"), "items": VALUES},
)


@settings(max_examples=400, deadline=None)
@given(MANIFESTS)
def test_no_manifest_made_after_the_schema_raises(manifest: object) -> None:
    folder = Folder()
    for event in folder.write(json.dumps(manifest), "fuzz.json"):
        assert DECODE(ENCODE(event)) == event
    assert folder.write(json.dumps(manifest), "fuzz.json") == [], "what was told once is not told again"
