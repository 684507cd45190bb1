"""Words misspelt in a folder: a field or a kind that nobody has is a fault with the nearest right word, and what was valid still serves."""

import pytest
from test_bad_input_table import Folder
from test_watcher_core import asking, endpoints, named, only, pool, readings, service

from services.watcher.kinds.reader import Document, read
from services.watcher.settings import Settings
from services.watcher.sources.yaml_documents import documents
from weir.events import EndpointSliceGone, EndpointSliceObserved, ManifestAccepted, ManifestRejected, ServiceGone, ServiceObserved

NAMED = "metadata: {namespace: shop, name: web}"
FIELDS = {
    "an s is missing": (
        service("ports: [{port: 80}], loadBalancerSourceRange: [192.0.2.77/32]"),
        "spec.loadBalancerSourceRange",
        "loadBalancerSourceRanges",
    ),
    "capitals": (service("ports: [{port: 80}], loadbalancerIP: 203.0.113.9"), "spec.loadbalancerIP", "loadBalancerIP"),
    "a letter is missing": (service("ports: [{port: 80}], sessionAfinity: ClientIP"), "spec.sessionAfinity", "sessionAffinity"),
    "in a list": (service("ports: [{port: 80, targetport: 8080}]"), "spec.ports[0].targetport", "targetPort"),
    "far below": (
        service("ports: [{port: 80}], sessionAffinityConfig: {clientIP: {timeoutSecond: 1}}"),
        "spec.sessionAffinityConfig.clientIP.timeoutSecond",
        "timeoutSeconds",
    ),
    "the type": (f"{{apiVersion: v1, kind: Service, {NAMED}, spec: {{typ: LoadBalancer, ports: [{{port: 80}}]}}}}", "spec.typ", "type"),
    "the spec": (f"{{apiVersion: v1, kind: Service, {NAMED}, spce: {{}}}}", "spce", "spec"),
    "at another level": (
        f"{{apiVersion: v1, kind: Service, {NAMED}, type: LoadBalancer, spec: {{ports: [{{port: 80}}]}}}}",
        "type",
        "one of apiVersion, kind, metadata, spec, status",
    ),
    "an endpoint's": (
        endpoints("addressType: IPv4, endpoints: [{addresses: [10.0.0.1], condition: {ready: false}}]"),
        "endpoints[0].condition",
        "conditions",
    ),
    "a pool's": (pool("addresses: [10.0.0.0/24], autoassign: false"), "spec.autoassign", "autoAssign"),
    "a node's": ("{apiVersion: v1, kind: Node, metadata: {name: n}, status: {adresses: []}}", "status.adresses", "addresses"),
    "a namespace's": ("{apiVersion: v1, kind: Namespace, metadata: {name: n, label: {a: b}}}", "metadata.label", "labels"),
    "with no value": (service("ports: [{port: 80}], loadBalancerIPs: null"), "spec.loadBalancerIPs", "loadBalancerIP"),
}


@pytest.mark.parametrize(("text", "field", "accepted"), FIELDS.values(), ids=FIELDS)
def test_an_unknown_field_is_a_fault_with_the_nearest_right_word(text: str, field: str, accepted: str) -> None:
    reading = only(text)
    assert reading.event is None
    assert [(problem.field, problem.got, problem.accepted) for problem in reading.problems] == [(field, "an unknown field", accepted)]


KINDS = {
    "Servce": (f"{{apiVersion: v1, kind: Servce, {NAMED}}}", ("kind", "'Servce'", "Service")),
    "service": (f"{{apiVersion: v1, kind: service, {NAMED}}}", ("kind", "'service'", "Service")),
    "Services": (f"{{apiVersion: v1, kind: Services, {NAMED}}}", ("kind", "'Services'", "Service")),
    "EndpointSlize": ("{apiVersion: discovery.k8s.io/v1, kind: EndpointSlize}", ("kind", "'EndpointSlize'", "EndpointSlice")),
    "VipPool": ("{apiVersion: weir.dev/v1alpha1, kind: VipPool}", ("kind", "'VipPool'", "VIPPool")),
    "Sercet, not quoted further": ("{apiVersion: v1, kind: Sercet, data: {a: b}}", ("kind", "'Sercet'", "Secret")),
    "a kind of another group": ("{apiVersion: v1, kind: Deployment}", ("kind", "another kind", "a kind of the core group")),
    "a slice in the core group": ("{apiVersion: v1, kind: EndpointSlice}", ("apiVersion", "'v1'", "discovery.k8s.io/v1")),
    "a misspelt group": (
        "{apiVersion: discovry.k8s.io/v1, kind: EndpointSlice}",
        ("apiVersion", "'discovry.k8s.io'", "discovery.k8s.io/v1"),
    ),
    "an unknown version": (f"{{apiVersion: v2, kind: Service, {NAMED}}}", ("apiVersion", "'v2'", "v1")),
}


@pytest.mark.parametrize(("text", "problem"), KINDS.values(), ids=KINDS)
def test_a_kind_that_its_group_does_not_have_is_a_fault(text: str, problem: tuple[str, str, str]) -> None:
    (found,) = only(text).problems
    assert (found.field, found.got, found.accepted) == problem


FOREIGN = (
    *("v1 SecretList", "v1 Pod", "v1 Event", "apps/v1 Deployment", "weir.dev/v1alpha1 LBNode"),
    *("serving.knative.dev/v1 Service", "metallb.io/v1beta1 IPAddressPool", "kustomize.config.k8s.io/v1beta1 Kustomization"),
    *("policy/v1 PodDisruptionBudget", "example.com/v1 Servce", "acme.dev/v1 VIPPool"),
)


@pytest.mark.parametrize("words", FOREIGN)
def test_kinds_that_weir_does_not_use_pass(words: str) -> None:
    api, _, kind = words.partition(" ")
    assert readings(f"{{apiVersion: {api}, kind: {kind}, anything: {{goes: here}}}}") == []


def test_every_field_that_a_real_object_carries_is_known() -> None:
    managed = (
        "managedFields: [{manager: kubectl, operation: Apply, apiVersion: v1, time: now, fieldsType: FieldsV1, fieldsV1: {'f:spec': {}}}]"
    )
    metadata = f"metadata: {{name: web, namespace: shop, uid: a, resourceVersion: '7', generation: 3, finalizers: [a/b], {managed}}}"
    text = f"{{apiVersion: v1, kind: Service, {metadata}, spec: {{ports: [{{port: 80}}], clusterIPs: [10.0.0.1], trafficDistribution: a}},"
    text += " status: {loadBalancer: {ingress: [{ip: 203.0.113.9, ipMode: VIP}]}, conditions: []}}"
    assert only(text).problems == ()
    ref = "targetRef: {kind: Pod, namespace: shop, name: a, uid: b}, hints: {forZones: [{name: a}]}, deprecatedTopology: {a: b}, zone: a"
    assert only(endpoints(f"addressType: IPv4, endpoints: [{{addresses: [10.0.0.1], hostname: a, {ref}}}]")).problems == ()


def test_an_api_servers_objects_are_not_refused_for_fields_of_a_newer_version() -> None:
    (document,) = documents("x.yaml", service("ports: [{port: 80, weight: 3}], newField: 1").encode())
    (reading,) = read(Document("@local/Service/shop/web", document.content), Settings())
    assert reading.problems == ()


def test_lists_as_an_api_server_writes_them_are_read() -> None:
    item = "{metadata: {name: web, namespace: shop}, spec: {type: LoadBalancer, ports: [{port: 80}]}}"
    (reading,) = readings(f"{{apiVersion: v1, kind: ServiceList, metadata: {{}}, items: [{item}]}}")
    assert isinstance(reading.event, ServiceObserved)


# ── what was valid before still serves ─────────────────────────────────────────────────────────────────────────────

GOOD = service("ports: [{port: 80}]")
SLICE = endpoints("addressType: IPv4, ports: [{port: 80}], endpoints: [{addresses: [10.0.0.1]}]")
TYPOS = {
    "kind of the Service": (GOOD.replace("kind: Service", "kind: Servce"), SLICE),
    "kind of the slice": (GOOD, SLICE.replace("EndpointSlice", "EndpointSlize")),
    "apiVersion": (GOOD.replace("v1", "v11"), SLICE),
    "group": (GOOD, SLICE.replace("discovery", "discover")),
    "name of the name": (GOOD.replace("name: web", "nam: web"), SLICE),
    "name of the namespace": (GOOD.replace("namespace: shop", "namespce: shop"), SLICE),
    "name of the metadata": (GOOD, SLICE.replace("metadata", "metdata")),
    "type": (GOOD.replace("type: LoadBalancer", "typ: LoadBalancer"), SLICE),
    "label of the slice": (GOOD, SLICE.replace("kubernetes.io/service-name", "kubernetes.io/servicename")),
    "field": (GOOD.replace("ports: [{port: 80}]", "ports: [{port: 81, nodeport: 1}]"), SLICE),
}


@pytest.mark.parametrize("texts", TYPOS.values(), ids=TYPOS)
def test_a_word_misspelt_withdraws_nothing_and_says_so(texts: tuple[str, str]) -> None:
    folder = Folder()
    folder.write("\n---\n".join([GOOD, SLICE]))
    events = folder.write("\n---\n".join(texts))
    assert [type(event) for event in events] == [ManifestRejected]
    (rejected,) = events
    assert isinstance(rejected, ManifestRejected)
    assert (
        "Service/shop/web" in (rejected.owner, rejected.root and rejected.root.owner)
        or "names" in str(texts)
        or "name" in str(rejected.problems)
    )
    assert [type(event) for event in folder.write("\n---\n".join([GOOD, SLICE]))] == [ManifestAccepted]


def test_legacy_endpoints_are_reported_and_disturb_no_neighbour() -> None:
    legacy = "{apiVersion: v1, kind: Endpoints, metadata: {name: web, namespace: shop}, subsets: []}"
    (reading,) = readings(legacy)
    (problem,) = reading.problems
    assert str(problem) == "kind: got 'Endpoints', accepted: EndpointSlice (discovery.k8s.io/v1): backends are read from these alone"
    folder = Folder()
    folder.write("\n---\n".join([GOOD, legacy, SLICE]))
    kinds = [type(event) for event in folder.write(legacy)]
    assert ServiceGone in kinds
    assert EndpointSliceGone in kinds


def test_what_is_named_in_a_misspelt_kind_is_the_service_that_is_reported() -> None:
    (event,) = Folder().write(asking("").replace("kind: Service", "kind: Servise"))
    assert isinstance(event, ManifestRejected)
    assert (event.root, event.owner) == (None, "Service/shop/web")
    (event,) = Folder().write(endpoints("addressType: IPv4").replace("EndpointSlice", "EndpointSlise"))
    assert isinstance(event, ManifestRejected)
    assert event.owner == "Service/shop/web"


def test_a_service_that_is_not_ours_is_checked_too() -> None:
    assert only(named("name: web, anotations: {a: b}")).problems
    assert isinstance(only(endpoints("addressType: IPv4")).event, EndpointSliceObserved)
