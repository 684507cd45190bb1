"""Annotations of other load balancers are honoured by name or reported; a word that nobody knows is reported with the nearest."""

import pytest
from test_watcher_core import asking, fact, service

from weir.events import ServiceObserved
from weir.model import Problem


def read(text: str) -> ServiceObserved:
    observed = fact(text)
    assert isinstance(observed, ServiceObserved)
    return observed


METALLB = {
    "addresses": ('metallb.io/loadBalancerIPs: "203.0.113.88,2001:db8::1"', {"requested": ("203.0.113.88", "2001:db8::1")}),
    "addresses, by the older prefix": ("metallb.universe.tf/loadBalancerIPs: 203.0.113.88", {"requested": ("203.0.113.88",)}),
    "pool": ("metallb.io/address-pool: gold", {"pools": ("gold",)}),
    "pool, by the older prefix": ("metallb.universe.tf/address-pool: gold", {"pools": ("gold",)}),
    "sharing": ("metallb.io/allow-shared-ip: web", {"share_key": "web"}),
    "both prefixes": ("metallb.universe.tf/address-pool: old, metallb.io/address-pool: new", {"pools": ("new",)}),
    "ours beside it": ("weir.dev/pool: ours, metallb.io/address-pool: theirs, loxilb.io/poolSelect: kube", {"pools": ("ours",)}),
    "kube-loxilb's beside it": ("metallb.io/address-pool: theirs, loxilb.io/poolSelect: kube", {"pools": ("kube",)}),
    "what MetalLB writes": ("metallb.io/ip-allocated-from-pool: gold", {"pools": (), "annotations": {}}),
}


@pytest.mark.parametrize(("annotations", "fields"), METALLB.values(), ids=METALLB)
def test_metallbs_annotations_are_honoured(annotations: str, fields: dict[str, object]) -> None:
    observed = read(asking(annotations))
    assert {name: getattr(observed, name) for name in fields} == fields
    assert observed.unsupported == ()


UNKNOWN = {
    "ours": ("weir.dev/lbmod", "weir.dev/lbmode"),
    "kube-loxilb's": ("loxilb.io/liveliness", "loxilb.io/liveness"),
    "MetalLB's": ("metallb.io/loadBalancerIP", "metallb.io/loadBalancerIPs"),
    "MetalLB's older": ("metallb.universe.tf/address-pools", "metallb.universe.tf/address-pool"),
    "nothing like it, ours": ("weir.dev/xyzzy", "one of ips, staticIP, more-ips,"),
    "nothing like it, kube-loxilb's": ("loxilb.io/xyzzy", "one of ips, staticIP, more-ips,"),
    "nothing like it, MetalLB's": ("metallb.io/xyzzy", "one of address-pool, loadBalancerIPs, allow-shared-ip after metallb.io/"),
}


@pytest.mark.parametrize(("key", "accepted"), UNKNOWN.values(), ids=UNKNOWN)
def test_a_word_that_nobody_knows_is_reported_with_the_nearest(key: str, accepted: str) -> None:
    (problem,) = read(asking(f"{key}: 203.0.113.9")).unsupported
    assert (problem.field, problem.got) == (f"metadata.annotations[{key}]", "'203.0.113.9'")
    assert problem.accepted.startswith(accepted)


def test_annotations_of_others_and_empty_ones_are_ignored() -> None:
    others = 'cloud.example/lb: x, metallb.io/unknown: "", loxilb.io/unknown: null, service.beta.kubernetes.io/x: y'
    assert read(asking(others)).unsupported == ()


def test_a_service_that_is_not_ours_is_not_judged() -> None:
    assert read(service("ports: [{port: 80}], loadBalancerClass: metallb.io/metallb", "metallb.io/xyzzy: a")).unsupported == ()


def test_an_address_that_is_none_is_a_fault_at_metallbs_annotation() -> None:
    from test_watcher_core import only

    (problem,) = only(asking("metallb.io/loadBalancerIPs: nonsense")).problems
    assert isinstance(problem, Problem)
    assert problem.field == "metadata.annotations[metallb.io/loadBalancerIPs]"
