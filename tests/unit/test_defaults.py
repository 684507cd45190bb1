"""What an API server accepts and defaults, a folder accepts: empty words, empty lists and nulls as charts render them.

The rows follow SetDefaults_Service, the family defaults of the Service's registry and its validation, of Kubernetes 1.36.
"""

import pytest
from test_bad_input_table import Folder
from test_watcher_core import asking, endpoints, fact, named, pool, service

from weir.events import EndpointSliceObserved, ServiceObserved

PLAIN = service("ports: [{port: 80}]")
SLICE = "addressType: IPv4, ports: [{port: 80}], endpoints: [{addresses: [10.0.0.1]}]"
BARE = "{apiVersion: v1, kind: Node, metadata: {name: n1}}"
NODE = "{apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: 10.0.0.1}]}}"

# as written -> what it is the same as
SAME = {
    **{
        f"{word}: {empty}": (service(f"ports: [{{port: 80}}], {word}: {empty}"), PLAIN)
        for empty, words in {
            '""': "externalTrafficPolicy internalTrafficPolicy sessionAffinity ipFamilyPolicy loadBalancerIP loadBalancerClass clusterIP"
            " externalName trafficDistribution",
            "[]": "ipFamilies loadBalancerSourceRanges externalIPs clusterIPs",
            "{}": "sessionAffinityConfig selector",
            "null": "externalTrafficPolicy internalTrafficPolicy sessionAffinity sessionAffinityConfig ipFamilyPolicy ipFamilies"
            " loadBalancerIP loadBalancerClass loadBalancerSourceRanges externalIPs healthCheckNodePort allocateLoadBalancerNodePorts"
            " publishNotReadyAddresses selector",
            "0": "healthCheckNodePort",
        }.items()
        for word in words.split()
    },
    **{
        f"port's {word}": (service(f"ports: [{{port: 80, {word}}}]"), PLAIN)
        for word in (
            *('protocol: ""', "protocol: null", 'name: ""', "name: null", "targetPort: 0", 'targetPort: ""', "targetPort: null"),
            *("nodePort: 0", "nodePort: null", "appProtocol: null", 'appProtocol: ""'),
        )
    },
    "port written 80.0": (service("ports: [{port: 80.0}]"), PLAIN),
    "affinity without its time": (
        service("ports: [{port: 80}], sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: null}}"),
        service("ports: [{port: 80}], sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 10800}}"),
    ),
    "two families without a policy": (
        service("ports: [{port: 80}], ipFamilies: [IPv6, IPv4]"),
        service("ports: [{port: 80}], ipFamilies: [IPv6, IPv4], ipFamilyPolicy: RequireDualStack"),
    ),
    "type of no words": (named("name: web").replace("}}", "}, spec: {type: ''}}"), named("name: web")),
    "namespace of no words": (named("name: web, namespace: ''"), named("name: web")),
    "deletionTimestamp of no words": (PLAIN.replace("name: web,", "name: web, deletionTimestamp: '',"), PLAIN),
    "creationTimestamp null": (PLAIN.replace("name: web,", "name: web, creationTimestamp: null,"), PLAIN),
    "labels null": (named("name: web, labels: null, annotations: null"), named("name: web")),
    "label null": (named("name: web, labels: {a: null}"), named("name: web, labels: {a: ''}")),
    "status empty": (PLAIN[:-1] + ", status: {loadBalancer: {}}}", PLAIN),
    "annotation empty": (asking("weir.dev/lbmode: '', weir.dev/pool: null"), PLAIN),
    "range with blanks": (
        service("ports: [{port: 80}], loadBalancerSourceRanges: [' 10.0.0.0/8 ']"),
        service("ports: [{port: 80}], loadBalancerSourceRanges: [10.0.0.0/8]"),
    ),
    "slice: conditions null": (endpoints(SLICE.replace("0.1]", "0.1], conditions: null, nodeName: null, hints: null")), endpoints(SLICE)),
    "slice: protocol empty": (endpoints(SLICE.replace("port: 80", "port: 80, protocol: '', name: ''")), endpoints(SLICE)),
    "slice: endpoints null": (endpoints("addressType: IPv4, endpoints: null"), endpoints("addressType: IPv4")),
    "slice: ports null": (endpoints("addressType: IPv4, ports: null"), endpoints("addressType: IPv4")),
    "pool: nulls": (
        pool("addresses: [10.0.0.0/24], autoAssign: null, priority: null, share: null, serviceSelector: null"),
        pool("addresses: [10.0.0.0/24]"),
    ),
    "pool: share of no words": (pool("addresses: [10.0.0.0/24], share: ''"), pool("addresses: [10.0.0.0/24]")),
    "node: spec and status empty": (BARE.replace("}}", "}, spec: {}, status: {}}"), BARE),
    "node: an address of no words": (NODE.replace("10.0.0.1}", "10.0.0.1}, {type: InternalIP, address: ''}"), NODE),
    "namespace: empty": (
        "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {}}, spec: {finalizers: []}, status: {}}",
        "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}",
    ),
}


@pytest.mark.parametrize(("written", "same"), SAME.values(), ids=SAME)
def test_what_an_api_server_takes_for_absent_a_folder_does_too(written: str, same: str) -> None:
    assert fact(written) == fact(same)


RANGES = {
    "everyone of IPv4": ("['0.0.0.0/0']", ("0.0.0.0/0",)),
    "everyone of both families": ("['0.0.0.0/0', '::/0']", ("0.0.0.0/0", "::/0")),
    "everyone, with host bits": ("['10.0.0.0/0']", ("0.0.0.0/0",)),
    "everyone beside a range": ("[10.0.0.0/8, '0.0.0.0/0']", ("10.0.0.0/8", "0.0.0.0/0")),
    "what no client has": (
        "[127.0.0.0/8, 169.254.0.0/16, 224.0.0.0/4, 'fe80::/64']",
        ("127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "fe80::/64"),
    ),
}


@pytest.mark.parametrize(("written", "ranges"), RANGES.values(), ids=RANGES)
def test_source_ranges_that_an_api_server_accepts_are_accepted(written: str, ranges: tuple[str, ...]) -> None:
    observed = fact(service(f"ports: [{{port: 80}}], loadBalancerSourceRanges: {written}"))
    assert isinstance(observed, ServiceObserved)
    assert observed.source_ranges == ranges


def test_a_service_is_opened_to_everyone_by_an_edit_of_its_ranges() -> None:
    folder = Folder()
    folder.write(service("ports: [{port: 80}], loadBalancerSourceRanges: [10.0.0.0/8]"))
    (event,) = folder.write(service("ports: [{port: 80}], loadBalancerSourceRanges: ['0.0.0.0/0', '::/0']"))
    assert isinstance(event, ServiceObserved)
    assert event.source_ranges == ("0.0.0.0/0", "::/0")


def test_a_slice_keeps_its_meaning_where_all_that_may_be_absent_is() -> None:
    observed = fact(endpoints("addressType: IPv4, endpoints: [{addresses: [10.0.0.1], conditions: {}}]"))
    assert isinstance(observed, EndpointSliceObserved)
    assert observed.endpoints[0].ready
