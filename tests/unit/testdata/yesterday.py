"""The reader of an earlier version, as it was.  Made by tests/unit/event_examples.py."""

import msgspec


class AppliedThrough(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="applied_through"):
    node: "str"
    seq: "int"
    rejected: "tuple[Rejection, ...]" = msgspec.UNSET
    writes: "int" = msgspec.UNSET


class Backend(msgspec.Struct, frozen=True, kw_only=True):
    address: "str"
    port: "int"
    state: "str" = msgspec.UNSET
    node: "str" = msgspec.UNSET
    down_on: "tuple[str, ...]" = msgspec.UNSET


class BackendRef(msgspec.Struct, frozen=True, kw_only=True):
    name: "str"
    namespace: "str"
    kind: "str" = msgspec.UNSET
    group: "str" = msgspec.UNSET
    port: "int" = msgspec.UNSET
    weight: "int" = msgspec.UNSET
    filters: "tuple[Filter, ...]" = msgspec.UNSET


class BackendSet(msgspec.Struct, frozen=True, kw_only=True):
    name: "str"
    chunks: "int"
    weight: "int" = msgspec.UNSET


class BackendTlsPolicyGone(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="backendtlspolicy_gone"):
    root: "Root"


class BackendTlsPolicyObserved(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="backendtlspolicy_observed"):
    root: "Root"
    targets: "tuple[BackendRef, ...]" = msgspec.UNSET
    sections: "tuple[str, ...]" = msgspec.UNSET
    hostname: "str" = msgspec.UNSET
    authorities: "tuple[ObjectRef, ...]" = msgspec.UNSET
    system_authorities: "bool" = msgspec.UNSET
    names: "tuple[SubjectAltName, ...]" = msgspec.UNSET
    unsupported: "tuple[Problem, ...]" = msgspec.UNSET


class BackendsPlanned(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="backends_planned"):
    set: "str"
    chunk: "int"
    chunks: "int"
    protocol: "str"
    backends: "tuple[Backend, ...]"
    root: "Root"


class BackendsWithdrawn(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="backends_withdrawn"):
    root: "Root"
    set: "str"
    chunk: "int"
    chunks: "int"


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    name: "str"
    hostnames: "tuple[str, ...]" = msgspec.UNSET
    tls: "str" = msgspec.UNSET
    certificates: "tuple[str, ...]" = msgspec.UNSET
    digests: "tuple[str, ...]" = msgspec.UNSET
    client_auth: "ClientAuth | None" = msgspec.UNSET
    http: "bool" = msgspec.UNSET
    shares: "tuple[UpstreamShare, ...]" = msgspec.UNSET


class ClaimSettled(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="claim_settled"):
    owner: "str"
    family: "str"
    root: "Root"


class ClassStatusPlanned(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="class_status_planned"):
    owner: "str"
    root: "Root"
    conditions: "tuple[Condition, ...]" = msgspec.UNSET
    features: "tuple[str, ...]" = msgspec.UNSET


class ClientAuth(msgspec.Struct, frozen=True, kw_only=True):
    authorities: "tuple[str, ...]"
    pem: "str"
    required: "bool" = msgspec.UNSET


class ClientValidation(msgspec.Struct, frozen=True, kw_only=True):
    port: "int" = msgspec.UNSET
    authorities: "tuple[ObjectRef, ...]" = msgspec.UNSET
    mode: "str" = msgspec.UNSET


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    type: "str"
    status: "bool"
    reason: "str"
    message: "str" = msgspec.UNSET
    unknown: "bool" = msgspec.UNSET


class ConfigMapGone(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="configmap_gone"):
    root: "Root"


class ConfigMapObserved(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="configmap_observed"):
    root: "Root"
    authorities: "str" = msgspec.UNSET
    problem: "str" = msgspec.UNSET


class Cors(msgspec.Struct, frozen=True, kw_only=True):
    origins: "tuple[str, ...]" = msgspec.UNSET
    methods: "tuple[str, ...]" = msgspec.UNSET
    headers: "tuple[str, ...]" = msgspec.UNSET
    exposed: "tuple[str, ...]" = msgspec.UNSET
    credentials: "bool" = msgspec.UNSET
    max_age_s: "int" = msgspec.UNSET


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    address: "str"
    ready: "bool" = msgspec.UNSET
    serving: "bool" = msgspec.UNSET
    terminating: "bool" = msgspec.UNSET
    node: "str" = msgspec.UNSET


class EndpointDown(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="endpoint_down"):
    node: "str"
    address: "str"
    port: "int"
    protocol: "str"
    reason: "str"
    failures: "int"
    held_s: "int" = msgspec.UNSET


class EndpointSliceGone(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="endpointslice_gone"):
    root: "Root"


class EndpointSliceObserved(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="endpointslice_observed"):
    root: "Root"
    service: "str"
    family: "str"
    ports: "tuple[SlicePort, ...]" = msgspec.UNSET
    endpoints: "tuple[Endpoint, ...]" = msgspec.UNSET


class EndpointUp(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="endpoint_up"):
    node: "str"
    address: "str"
    port: "int"
    protocol: "str"
    reason: "str"


class EpochStarted(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="epoch_started"):
    writer: "str"
    host: "str"
    pid: "int"


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    type: "str"
    headers: "HeaderChange | None" = msgspec.UNSET
    redirect: "Redirect | None" = msgspec.UNSET
    rewrite: "Rewrite | None" = msgspec.UNSET
    mirror: "Mirror | None" = msgspec.UNSET
    cors: "Cors | None" = msgspec.UNSET
    extension: "ObjectRef | None" = msgspec.UNSET


class FrontendPlanned(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="frontend_planned"):
    vip: "str"
    port: "int"
    protocol: "str"
    owner: "str"
    sets: "tuple[BackendSet, ...]"
    mode: "str" = msgspec.UNSET
    algorithm: "str" = msgspec.UNSET
    idle_timeout_s: "int" = msgspec.UNSET
    sources: "tuple[str, ...]" = msgspec.UNSET
    no_backend: "str" = msgspec.UNSET
    drain_timeout_s: "int" = msgspec.UNSET
    affinity_s: "int" = msgspec.UNSET
    local: "bool" = msgspec.UNSET
    health_port: "int" = msgspec.UNSET
    probe: "Probe | None" = msgspec.UNSET
    root: "Root"


class FrontendWithdrawn(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="frontend_withdrawn"):
    root: "Root"
    vip: "str"
    port: "int"
    protocol: "str"


class GatewayAddress(msgspec.Struct, frozen=True, kw_only=True):
    type: "str" = msgspec.UNSET
    value: "str" = msgspec.UNSET


class GatewayClassGone(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="gatewayclass_gone"):
    root: "Root"


class GatewayClassObserved(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="gatewayclass_observed"):
    root: "Root"
    controller: "str"
    ours: "bool" = msgspec.UNSET
    parameters: "ObjectRef | None" = msgspec.UNSET


class GatewayGone(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="gateway_gone"):
    root: "Root"


class GatewayObserved(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="gateway_observed"):
    root: "Root"
    class_name: "str"
    listeners: "tuple[Listener, ...]" = msgspec.UNSET
    addresses: "tuple[GatewayAddress, ...]" = msgspec.UNSET
    labels: "dict[str, str]" = msgspec.UNSET
    annotations: "dict[str, str]" = msgspec.UNSET
    parameters: "ObjectRef | None" = msgspec.UNSET
    listener_sets: "RouteNamespaces" = msgspec.UNSET
    client_validations: "tuple[ClientValidation, ...]" = msgspec.UNSET
    client_certificate: "ObjectRef | None" = msgspec.UNSET
    mode: "str" = msgspec.UNSET
    requested: "dict[str, str]" = msgspec.UNSET
    unsupported: "tuple[Problem, ...]" = msgspec.UNSET


class GatewayStatusPlanned(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="gateway_status_planned"):
    owner: "str"
    root: "Root"
    addresses: "tuple[str, ...]" = msgspec.UNSET
    conditions: "tuple[Condition, ...]" = msgspec.UNSET
    listeners: "tuple[ListenerStatus, ...]" = msgspec.UNSET
    listener_sets: "int" = msgspec.UNSET


class GrantFrom(msgspec.Struct, frozen=True, kw_only=True):
    group: "str"
    kind: "str"
    namespace: "str"


class GrantTo(msgspec.Struct, frozen=True, kw_only=True):
    group: "str"
    kind: "str"
    name: "str" = msgspec.UNSET


class GrpcRouteGone(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="grpcroute_gone"):
    root: "Root"


class GrpcRouteObserved(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="grpcroute_observed"):
    root: "Root"
    parents: "tuple[ParentRef, ...]" = msgspec.UNSET
    hostnames: "tuple[str, ...]" = msgspec.UNSET
    rules: "tuple[RouteRule, ...]" = msgspec.UNSET


class Header(msgspec.Struct, frozen=True, kw_only=True):
    name: "str"
    value: "str"


class HeaderChange(msgspec.Struct, frozen=True, kw_only=True):
    set: "tuple[Header, ...]" = msgspec.UNSET
    add: "tuple[Header, ...]" = msgspec.UNSET
    remove: "tuple[str, ...]" = msgspec.UNSET


class HomeNamed(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="home_named"):
    cluster: "str"


class HttpRouteGone(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="httproute_gone"):
    root: "Root"


class HttpRouteObserved(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="httproute_observed"):
    root: "Root"
    parents: "tuple[ParentRef, ...]" = msgspec.UNSET
    hostnames: "tuple[str, ...]" = msgspec.UNSET
    rules: "tuple[RouteRule, ...]" = msgspec.UNSET


class L4Rule(msgspec.Struct, frozen=True, kw_only=True):
    name: "str" = msgspec.UNSET
    backends: "tuple[BackendRef, ...]" = msgspec.UNSET


class Listener(msgspec.Struct, frozen=True, kw_only=True):
    name: "str"
    port: "int"
    protocol: "str"
    hostname: "str" = msgspec.UNSET
    tls: "ListenerTls | None" = msgspec.UNSET
    namespaces: "RouteNamespaces" = msgspec.UNSET
    kinds: "tuple[ObjectRef, ...] | None" = msgspec.UNSET


class ListenerPlanned(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="listener_planned"):
    owner: "str"
    root: "Root"
    port: "int"
    vips: "tuple[str, ...]"
    chains: "tuple[Chain, ...]"


class ListenerSetGone(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="listenerset_gone"):
    root: "Root"


class ListenerSetObserved(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="listenerset_observed"):
    root: "Root"
    parent: "ParentRef"
    listeners: "tuple[Listener, ...]" = msgspec.UNSET


class ListenerStatus(msgspec.Struct, frozen=True, kw_only=True):
    name: "str"
    attached: "int" = msgspec.UNSET
    kinds: "tuple[ObjectRef, ...]" = msgspec.UNSET
    port: "int" = msgspec.UNSET
    conditions: "tuple[Condition, ...]" = msgspec.UNSET


class ListenerTls(msgspec.Struct, frozen=True, kw_only=True):
    mode: "str" = msgspec.UNSET
    certificates: "tuple[ObjectRef, ...]" = msgspec.UNSET


class ListenerWithdrawn(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="listener_withdrawn"):
    root: "Root"
    port: "int"


class ManifestAccepted(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="manifest_accepted"):
    source: "str"


class ManifestRejected(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="manifest_rejected"):
    source: "str"
    problems: "tuple[Problem, ...]"
    root: "Root | None" = msgspec.UNSET
    owner: "str" = msgspec.UNSET


class MapPressure(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="map_pressure"):
    node: "str"
    map: "str"
    used_percent: "int"


class Match(msgspec.Struct, frozen=True, kw_only=True):
    path: "PathMatch" = msgspec.UNSET
    method: "str" = msgspec.UNSET
    headers: "tuple[ValueMatch, ...]" = msgspec.UNSET
    queries: "tuple[ValueMatch, ...]" = msgspec.UNSET


class Mirror(msgspec.Struct, frozen=True, kw_only=True):
    backend: "BackendRef"
    numerator: "int" = msgspec.UNSET
    denominator: "int" = msgspec.UNSET


class NamespaceGone(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="namespace_gone"):
    root: "Root"


class NamespaceObserved(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="namespace_observed"):
    root: "Root"
    labels: "dict[str, str]" = msgspec.UNSET


class NodeAddressesObserved(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="node_addresses_observed"):
    node: "str"
    addresses: "tuple[str, ...]" = msgspec.UNSET
    gateways: "tuple[str, ...]" = msgspec.UNSET


class NodeGone(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="node_gone"):
    root: "Root"


class NodeHeard(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="node_heard"):
    lbnode: "str"


class NodeLeft(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="node_left"):
    lbnode: "str"


class NodeObserved(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="node_observed"):
    root: "Root"
    addresses: "tuple[str, ...]" = msgspec.UNSET
    internal: "tuple[str, ...]" = msgspec.UNSET
    ready: "bool" = msgspec.UNSET
    silent: "bool" = msgspec.UNSET
    labels: "dict[str, str]" = msgspec.UNSET


class NodeRetired(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="node_retired"):
    lbnode: "str"
    reason: "str" = msgspec.UNSET


class NodeSeen(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="node_seen"):
    node: "str"
    hook: "str"
    layout: "int"
    interfaces: "tuple[str, ...]"
    hooks: "tuple[str, ...]" = msgspec.UNSET
    local_backends: "bool" = msgspec.UNSET


class NodeSilent(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="node_silent"):
    lbnode: "str"


class ObjectRef(msgspec.Struct, frozen=True, kw_only=True):
    kind: "str"
    name: "str"
    group: "str" = msgspec.UNSET
    namespace: "str" = msgspec.UNSET


class ParentRef(msgspec.Struct, frozen=True, kw_only=True):
    name: "str"
    namespace: "str"
    kind: "str" = msgspec.UNSET
    group: "str" = msgspec.UNSET
    section: "str" = msgspec.UNSET
    port: "int" = msgspec.UNSET
    explicit_namespace: "bool" = msgspec.UNSET


class ParentStatus(msgspec.Struct, frozen=True, kw_only=True):
    parent: "ParentRef"
    controller: "str" = msgspec.UNSET
    conditions: "tuple[Condition, ...]" = msgspec.UNSET


class PathChange(msgspec.Struct, frozen=True, kw_only=True):
    kind: "str"
    value: "str"


class PathMatch(msgspec.Struct, frozen=True, kw_only=True):
    kind: "str" = msgspec.UNSET
    value: "str" = msgspec.UNSET


class Persistence(msgspec.Struct, frozen=True, kw_only=True):
    kind: "str" = msgspec.UNSET
    name: "str" = msgspec.UNSET
    lifetime: "str" = msgspec.UNSET
    absolute_ms: "int" = msgspec.UNSET
    idle_ms: "int" = msgspec.UNSET


class PoolGone(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="pool_gone"):
    root: "Root"


class PoolObserved(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="pool_observed"):
    root: "Root"
    addresses: "tuple[str, ...]"
    auto_assign: "bool" = msgspec.UNSET
    priority: "int" = msgspec.UNSET
    avoid_buggy_ips: "bool" = msgspec.UNSET
    share: "str" = msgspec.UNSET
    share_with_nodes: "bool" = msgspec.UNSET
    service_selector: "Selector | None" = msgspec.UNSET
    namespace_selector: "Selector | None" = msgspec.UNSET


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    kind: "str" = msgspec.UNSET
    interval_s: "int" = msgspec.UNSET
    timeout_s: "int" = msgspec.UNSET
    retries: "int" = msgspec.UNSET
    port: "int" = msgspec.UNSET
    path: "str" = msgspec.UNSET
    host: "str" = msgspec.UNSET
    expect: "str" = msgspec.UNSET


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    field: "str"
    got: "str"
    accepted: "str"


class ProxyRule(msgspec.Struct, frozen=True, kw_only=True):
    route: "str"
    rule: "str"
    match: "Match"
    filters: "tuple[Filter, ...]" = msgspec.UNSET
    shares: "tuple[UpstreamShare, ...]" = msgspec.UNSET
    mirrors: "tuple[UpstreamShare, ...]" = msgspec.UNSET
    status: "int" = msgspec.UNSET
    request_ms: "int | None" = msgspec.UNSET
    backend_request_ms: "int | None" = msgspec.UNSET
    retry: "Retry | None" = msgspec.UNSET
    persistence: "Persistence | None" = msgspec.UNSET


class RecordGone(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="record_gone"):
    root: "Root"


class RecordObserved(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="record_observed"):
    root: "Root"
    vips: "tuple[str, ...]"


class Redirect(msgspec.Struct, frozen=True, kw_only=True):
    scheme: "str" = msgspec.UNSET
    hostname: "str" = msgspec.UNSET
    path: "PathChange | None" = msgspec.UNSET
    port: "int" = msgspec.UNSET
    status: "int" = msgspec.UNSET


class ReferenceGrantGone(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="referencegrant_gone"):
    root: "Root"


class ReferenceGrantObserved(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="referencegrant_observed"):
    root: "Root"
    referrers: "tuple[GrantFrom, ...]"
    targets: "tuple[GrantTo, ...]"


class Rejection(msgspec.Struct, frozen=True, kw_only=True):
    entity: "str"
    reason: "str"
    owner: "str" = msgspec.UNSET


class Requirement(msgspec.Struct, frozen=True, kw_only=True):
    key: "str"
    operator: "str"
    values: "tuple[str, ...]" = msgspec.UNSET


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    codes: "tuple[int, ...]" = msgspec.UNSET
    attempts: "int" = msgspec.UNSET
    backoff_ms: "int" = msgspec.UNSET


class Rewrite(msgspec.Struct, frozen=True, kw_only=True):
    hostname: "str" = msgspec.UNSET
    path: "PathChange | None" = msgspec.UNSET


class Root(msgspec.Struct, frozen=True, kw_only=True):
    kind: "str"
    name: "str"
    namespace: "str" = msgspec.UNSET
    source: "str" = msgspec.UNSET
    uid: "str" = msgspec.UNSET
    generation: "int" = msgspec.UNSET
    resource_version: "str" = msgspec.UNSET
    created: "str" = msgspec.UNSET
    place: "str" = msgspec.UNSET


class RouteNamespaces(msgspec.Struct, frozen=True, kw_only=True):
    choice: "str" = msgspec.UNSET
    selector: "Selector | None" = msgspec.UNSET


class RouteRule(msgspec.Struct, frozen=True, kw_only=True):
    name: "str" = msgspec.UNSET
    matches: "tuple[Match, ...]" = msgspec.UNSET
    filters: "tuple[Filter, ...]" = msgspec.UNSET
    backends: "tuple[BackendRef, ...]" = msgspec.UNSET
    request_ms: "int | None" = msgspec.UNSET
    backend_request_ms: "int | None" = msgspec.UNSET
    retry: "Retry | None" = msgspec.UNSET
    persistence: "Persistence | None" = msgspec.UNSET


class RouteStatusPlanned(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="route_status_planned"):
    owner: "str"
    root: "Root"
    parents: "tuple[ParentStatus, ...]" = msgspec.UNSET


class SecretGone(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="secret_gone"):
    root: "Root"


class SecretObserved(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="secret_observed"):
    root: "Root"
    digest: "str"
    names: "tuple[str, ...]" = msgspec.UNSET
    not_after: "str" = msgspec.UNSET
    problem: "str" = msgspec.UNSET


class Selector(msgspec.Struct, frozen=True, kw_only=True):
    labels: "dict[str, str]" = msgspec.UNSET
    expressions: "tuple[Requirement, ...]" = msgspec.UNSET


class ServiceGone(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="service_gone"):
    root: "Root"


class ServiceObserved(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="service_observed"):
    root: "Root"
    exposed: "bool"
    ports: "tuple[ServicePort, ...]" = msgspec.UNSET
    families: "tuple[str, ...]" = msgspec.UNSET
    family_policy: "str" = msgspec.UNSET
    requested: "tuple[str, ...]" = msgspec.UNSET
    pools: "tuple[str, ...]" = msgspec.UNSET
    more_requested: "tuple[str, ...]" = msgspec.UNSET
    more_pools: "tuple[str, ...]" = msgspec.UNSET
    share_key: "str" = msgspec.UNSET
    exclusive: "bool" = msgspec.UNSET
    mode: "str" = msgspec.UNSET
    algorithm: "str" = msgspec.UNSET
    idle_timeout_s: "int" = msgspec.UNSET
    source_ranges: "tuple[str, ...]" = msgspec.UNSET
    no_backend: "str" = msgspec.UNSET
    drain_timeout_s: "int" = msgspec.UNSET
    affinity_s: "int" = msgspec.UNSET
    local: "bool" = msgspec.UNSET
    health_port: "int" = msgspec.UNSET
    targets: "str" = msgspec.UNSET
    node_labels: "tuple[str, ...]" = msgspec.UNSET
    probe: "Probe | None" = msgspec.UNSET
    annotations: "dict[str, str]" = msgspec.UNSET
    labels: "dict[str, str]" = msgspec.UNSET
    unsupported: "tuple[Problem, ...]" = msgspec.UNSET


class ServicePort(msgspec.Struct, frozen=True, kw_only=True):
    port: "int"
    protocol: "str" = msgspec.UNSET
    name: "str" = msgspec.UNSET
    target: "int | str" = msgspec.UNSET
    node_port: "int" = msgspec.UNSET
    app_protocol: "str" = msgspec.UNSET


class SlicePort(msgspec.Struct, frozen=True, kw_only=True):
    port: "int"
    protocol: "str" = msgspec.UNSET
    name: "str" = msgspec.UNSET


class StatusPlanned(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="status_planned"):
    owner: "str"
    root: "Root"
    vips: "tuple[str, ...]"
    conditions: "tuple[Condition, ...]"


class StatusWithdrawn(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="status_withdrawn"):
    root: "Root"
    owner: "str"


class SubjectAltName(msgspec.Struct, frozen=True, kw_only=True):
    kind: "str"
    value: "str"


class TcpRouteGone(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="tcproute_gone"):
    root: "Root"


class TcpRouteObserved(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="tcproute_observed"):
    root: "Root"
    parents: "tuple[ParentRef, ...]" = msgspec.UNSET
    rules: "tuple[L4Rule, ...]" = msgspec.UNSET


class TlsRouteGone(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="tlsroute_gone"):
    root: "Root"


class TlsRouteObserved(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="tlsroute_observed"):
    root: "Root"
    parents: "tuple[ParentRef, ...]" = msgspec.UNSET
    rules: "tuple[L4Rule, ...]" = msgspec.UNSET
    hostnames: "tuple[str, ...]" = msgspec.UNSET


class UdpRouteGone(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="udproute_gone"):
    root: "Root"


class UdpRouteObserved(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="udproute_observed"):
    root: "Root"
    parents: "tuple[ParentRef, ...]" = msgspec.UNSET
    rules: "tuple[L4Rule, ...]" = msgspec.UNSET


class UpstreamPlanned(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="upstream_planned"):
    owner: "str"
    root: "Root"
    name: "str"
    sets: "tuple[BackendSet, ...]"
    protocol: "str" = msgspec.UNSET
    tls: "UpstreamTls | None" = msgspec.UNSET


class UpstreamShare(msgspec.Struct, frozen=True, kw_only=True):
    upstream: "str"
    weight: "int" = msgspec.UNSET
    filters: "tuple[Filter, ...]" = msgspec.UNSET
    mirror: "bool" = msgspec.UNSET


class UpstreamTls(msgspec.Struct, frozen=True, kw_only=True):
    server_name: "str"
    pem: "str" = msgspec.UNSET
    names: "tuple[str, ...]" = msgspec.UNSET
    client_certificate: "str" = msgspec.UNSET
    client_digest: "str" = msgspec.UNSET


class UpstreamWithdrawn(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="upstream_withdrawn"):
    root: "Root"
    name: "str"


class ValueMatch(msgspec.Struct, frozen=True, kw_only=True):
    name: "str"
    value: "str"
    kind: "str" = msgspec.UNSET


class VipAllocated(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="vip_allocated"):
    vip: "str"
    pool: "str"
    holders: "tuple[str, ...]"
    root: "Root"
    share_key: "str" = msgspec.UNSET
    orphaned: "bool" = msgspec.UNSET
    share: "str" = msgspec.UNSET
    in_use_by: "str" = msgspec.UNSET
    shared_with_node: "bool" = msgspec.UNSET


class VipDenied(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="vip_denied"):
    owner: "str"
    family: "str"
    reason: "str"
    message: "str"
    holders: "tuple[str, ...]"
    since: "int"
    root: "Root"


class VipFreed(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="vip_freed"):
    vip: "str"
    pool: "str"
    holders: "tuple[str, ...]"
    root: "Root"


class VipPlanned(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="vip_planned"):
    vip: "str"
    shared_with_node: "bool" = msgspec.UNSET
    root: "Root"


class VipReleased(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="vip_released"):
    vip: "str"
    pool: "str"
    holders: "tuple[str, ...]"
    root: "Root"


class VipTaken(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="vip_taken"):
    node: "str"
    vip: "str"
    interfaces: "tuple[str, ...]"


class VipWithdrawn(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="vip_withdrawn"):
    vip: "str"
    release: "int"
    root: "Root"


class VirtualHostPlanned(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="virtualhost_planned"):
    owner: "str"
    root: "Root"
    port: "int"
    chain: "str"
    hostname: "str"
    part: "int" = msgspec.UNSET
    parts: "int" = msgspec.UNSET
    rules: "tuple[ProxyRule, ...]" = msgspec.UNSET
    status: "int" = msgspec.UNSET


class VirtualHostWithdrawn(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="virtualhost_withdrawn"):
    root: "Root"
    port: "int"
    chain: "str"
    hostname: "str"
    part: "int" = msgspec.UNSET


DECODE = msgspec.json.Decoder(
    AppliedThrough
    | BackendsPlanned
    | BackendsWithdrawn
    | BackendTlsPolicyGone
    | BackendTlsPolicyObserved
    | ClaimSettled
    | ClassStatusPlanned
    | ConfigMapGone
    | ConfigMapObserved
    | EndpointDown
    | EndpointUp
    | EndpointSliceGone
    | EndpointSliceObserved
    | EpochStarted
    | FrontendPlanned
    | FrontendWithdrawn
    | GatewayGone
    | GatewayObserved
    | GatewayStatusPlanned
    | GatewayClassGone
    | GatewayClassObserved
    | GrpcRouteGone
    | GrpcRouteObserved
    | HomeNamed
    | HttpRouteGone
    | HttpRouteObserved
    | ListenerPlanned
    | ListenerWithdrawn
    | ListenerSetGone
    | ListenerSetObserved
    | ManifestAccepted
    | ManifestRejected
    | MapPressure
    | NamespaceGone
    | NamespaceObserved
    | NodeAddressesObserved
    | NodeGone
    | NodeHeard
    | NodeLeft
    | NodeObserved
    | NodeRetired
    | NodeSeen
    | NodeSilent
    | PoolGone
    | PoolObserved
    | RecordGone
    | RecordObserved
    | ReferenceGrantGone
    | ReferenceGrantObserved
    | RouteStatusPlanned
    | SecretGone
    | SecretObserved
    | ServiceGone
    | ServiceObserved
    | StatusPlanned
    | StatusWithdrawn
    | TcpRouteGone
    | TcpRouteObserved
    | TlsRouteGone
    | TlsRouteObserved
    | UdpRouteGone
    | UdpRouteObserved
    | UpstreamPlanned
    | UpstreamWithdrawn
    | VipAllocated
    | VipDenied
    | VipFreed
    | VipPlanned
    | VipReleased
    | VipTaken
    | VipWithdrawn
    | VirtualHostPlanned
    | VirtualHostWithdrawn
).decode
