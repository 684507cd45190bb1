"""The facts: what is on disk reads back, tags never change, and every name is one token of a subject."""

import inspect
import re
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir import events
from weir.events import DECODE, ENCODE, AnyEvent, Event, author_of, key, key_of, token, untoken
from weir.model import Backend, Condition, Endpoint, Probe, Problem, Rejection, Requirement, Root, Selector, ServicePort, SlicePort

EVENTS: list[type[Event]] = sorted(get_args(AnyEvent), key=lambda event: event.__name__)
ADDRESSES = ("192.0.2.1", "2001:db8::1")

# Tags are on disk forever.  A line may be added; none may change or go.
TAGS = {
    "applied_through": ("dataplane", "applied"),
    "backends_planned": ("planner", "backends"),
    "backends_withdrawn": ("planner", "backends"),
    "bgp_advertisement_gone": ("watcher", "bgpadvertisement"),
    "bgp_advertisement_observed": ("watcher", "bgpadvertisement"),
    "bgp_peer_gone": ("watcher", "bgppeer"),
    "bgp_peer_observed": ("watcher", "bgppeer"),
    "bgp_route_planned": ("planner", "bgproute"),
    "bgp_route_withdrawn": ("planner", "bgproute"),
    "bgp_session_planned": ("planner", "bgpsession"),
    "bgp_session_withdrawn": ("planner", "bgpsession"),
    "bgp_sessions_observed": ("dataplane", "bgpsessions"),
    "claim_settled": ("ipam", "claim"),
    "endpoint_down": ("health", "endpoint"),
    "endpoint_up": ("health", "endpoint"),
    "endpointslice_gone": ("watcher", "endpointslice"),
    "endpointslice_observed": ("watcher", "endpointslice"),
    "epoch_started": ("", "epoch"),
    "reader_announced": ("", "reader"),
    "frontend_planned": ("planner", "frontend"),
    "frontend_withdrawn": ("planner", "frontend"),
    "manifest_accepted": ("watcher", "manifest"),
    "manifest_rejected": ("watcher", "manifest"),
    "map_pressure": ("dataplane", "pressure"),
    "namespace_gone": ("watcher", "namespace"),
    "namespace_observed": ("watcher", "namespace"),
    "node_gone": ("watcher", "node"),
    "node_silent": ("watcher", "silence"),
    "node_heard": ("watcher", "silence"),
    "node_retired": ("watcher", "retired"),
    "home_named": ("watcher", "home"),
    "record_observed": ("watcher", "lbservice"),
    "record_gone": ("watcher", "lbservice"),
    "node_observed": ("watcher", "node"),
    "node_seen": ("dataplane", "lbnode"),
    "node_addresses_observed": ("dataplane", "addresses"),
    "node_left": ("operator", "left"),
    "node_cordoned": ("operator", "cordon"),
    "node_uncordoned": ("operator", "cordon"),
    "peers_observed": ("dataplane", "peers"),
    "announcers_planned": ("planner", "announcers"),
    "announcers_withdrawn": ("planner", "announcers"),
    "pool_gone": ("watcher", "vippool"),
    "pool_observed": ("watcher", "vippool"),
    "service_gone": ("watcher", "service"),
    "service_observed": ("watcher", "service"),
    "status_planned": ("planner", "status"),
    "status_withdrawn": ("planner", "status"),
    "vip_allocated": ("ipam", "vip"),
    "vip_denied": ("ipam", "claim"),
    "vip_freed": ("ipam", "vip"),
    "vip_planned": ("planner", "planvip"),
    "vip_released": ("ipam", "vip"),
    "vip_taken": ("dataplane", "taken"),
    "vip_withdrawn": ("planner", "planvip"),
    "gatewayclass_observed": ("watcher", "gatewayclass"),
    "gatewayclass_gone": ("watcher", "gatewayclass"),
    "gateway_observed": ("watcher", "gateway"),
    "gateway_gone": ("watcher", "gateway"),
    "listenerset_observed": ("watcher", "listenerset"),
    "listenerset_gone": ("watcher", "listenerset"),
    "httproute_observed": ("watcher", "httproute"),
    "httproute_gone": ("watcher", "httproute"),
    "grpcroute_observed": ("watcher", "grpcroute"),
    "grpcroute_gone": ("watcher", "grpcroute"),
    "tlsroute_observed": ("watcher", "tlsroute"),
    "tlsroute_gone": ("watcher", "tlsroute"),
    "tcproute_observed": ("watcher", "tcproute"),
    "tcproute_gone": ("watcher", "tcproute"),
    "udproute_observed": ("watcher", "udproute"),
    "udproute_gone": ("watcher", "udproute"),
    "backendtlspolicy_observed": ("watcher", "backendtlspolicy"),
    "backendtlspolicy_gone": ("watcher", "backendtlspolicy"),
    "referencegrant_observed": ("watcher", "referencegrant"),
    "referencegrant_gone": ("watcher", "referencegrant"),
    "ingressclass_observed": ("watcher", "ingressclass"),
    "ingressclass_gone": ("watcher", "ingressclass"),
    "ingress_observed": ("watcher", "ingress"),
    "ingress_gone": ("watcher", "ingress"),
    "configmap_observed": ("watcher", "configmap"),
    "configmap_gone": ("watcher", "configmap"),
    "secret_observed": ("watcher", "secret"),
    "secret_gone": ("watcher", "secret"),
    "listener_planned": ("planner", "listener"),
    "listener_withdrawn": ("planner", "listener"),
    "virtualhost_planned": ("planner", "virtualhost"),
    "virtualhost_withdrawn": ("planner", "virtualhost"),
    "upstream_planned": ("planner", "upstream"),
    "upstream_withdrawn": ("planner", "upstream"),
    "gateway_status_planned": ("planner", "status"),
    "route_status_planned": ("planner", "status"),
    "class_status_planned": ("planner", "status"),
}
# A fact as the first release wrote it, one per shape that might be read otherwise one day.
ON_DISK = {
    b'{"type":"service_gone","root":{"kind":"Service","name":"web","namespace":"shop"}}': "watcher.service.shop.web",
    b'{"type":"vip_allocated","holders":["Service/shop/web"],"pool":"p","root":{"kind":"Service","name":"web","namespace":"shop"},'
    b'"vip":"fd00::1"}': "ipam.vip._.fd00=3A=3A1",
    b'{"type":"backends_planned","backends":[{"address":"10.0.0.1","port":80}],"chunk":1,"chunks":4,"protocol":"TCP",'
    b'"root":{"kind":"Service","name":"web","namespace":"shop"},"set":"shop/web:80/TCP:IPv4"}': (
        "planner.backends.shop.web=3A80=2FTCP=3AIPv4=3A1of4"
    ),
    b'{"type":"applied_through","node":"n1.example","seq":7}': "dataplane-n1=2Eexample.applied._.n1=2Eexample",
}

_VALUES = {
    "vip": st.sampled_from(ADDRESSES),
    "address": st.sampled_from(ADDRESSES),
    "node": st.sampled_from(["n1", "n1.example.org"]),
    "writer": st.sampled_from(["ipam", "dataplane-n1=2Eexample"]),
}
_STRUCTS = (Root, Problem, ServicePort, SlicePort, Endpoint, Probe, Requirement, Selector, Backend, Condition, Rejection)


def _any(cls: type[msgspec.Struct]) -> st.SearchStrategy[msgspec.Struct]:
    types = {field.name: field.type for field in msgspec.structs.fields(cls)}
    return st.builds(cls, **{name: _VALUES[name] if name in _VALUES else st.from_type(of) for name, of in types.items()})


for struct in _STRUCTS:
    st.register_type_strategy(struct, _any(struct))
ANY_EVENT = st.one_of(*(_any(event) for event in EVENTS))


@given(ANY_EVENT)
def test_what_is_written_reads_back(event: AnyEvent) -> None:
    body = ENCODE(event)
    assert DECODE(body) == event
    assert ENCODE(DECODE(body)) == body


@given(ANY_EVENT)
def test_entity_survives_the_log(event: AnyEvent) -> None:
    again = DECODE(ENCODE(event))
    assert key_of(again) == key_of(event)
    assert author_of(again) == author_of(event)


@given(ANY_EVENT)
def test_subject_is_author_kind_namespace_name(event: AnyEvent) -> None:
    author, kind, namespace, name = key_of(event).split(".")
    assert author == author_of(event)
    assert not event.author or author.partition("-")[0] == event.author
    assert kind == event.kind
    assert (untoken(namespace), untoken(name)) == event.entity()
    assert key_of(event) == key(author, kind, *event.entity())


@given(ANY_EVENT, ANY_EVENT)
def test_one_key_is_one_entity(one: AnyEvent, other: AnyEvent) -> None:
    same = (author_of(one), one.kind, one.entity()) == (author_of(other), other.kind, other.entity())
    assert (key_of(one) == key_of(other)) == same


def test_no_tag_is_lost_or_changed() -> None:
    known = {str(event.__struct_config__.tag): (event.author, event.kind) for event in EVENTS}
    assert {tag: known.get(tag) for tag in TAGS} == TAGS
    assert sorted(set(known) - set(TAGS)) == [], "a new tag: add it to TAGS, it is on disk forever from now on"


@pytest.mark.parametrize(("body", "key"), ON_DISK.items())
def test_fact_of_the_first_release_still_reads(body: bytes, key: str) -> None:
    assert key_of(DECODE(body)) == key
    assert msgspec.json.decode(ENCODE(DECODE(body))) == msgspec.json.decode(body)


def test_fact_with_fields_of_a_later_release_reads() -> None:
    assert DECODE(b'{"type":"vip_planned","vip":"192.0.2.1","root":{"kind":"Service","name":"web","colour":"red"},"later":1}')


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_event_says_what_it_is(event: type[Event]) -> None:
    tag = str(event.__struct_config__.tag)
    assert tag.replace("_", "") == event.__name__.lower()
    assert token(event.kind) == event.kind
    assert "-" not in event.author
    assert event.__struct_config__.frozen
    assert event.__doc__
    assert event.__doc__.rstrip().endswith(".")


def test_every_event_is_in_the_union() -> None:
    tagged = {cls for _, cls in inspect.getmembers(events, inspect.isclass) if issubclass(cls, Event) and not cls.__name__.startswith("_")}
    assert {cls for cls in tagged if not cls.__subclasses__()} == set(EVENTS)


def test_a_kind_has_one_author() -> None:
    authors: dict[str, set[str]] = {}
    for event in EVENTS:
        authors.setdefault(event.kind, set()).add(event.author)
    assert {kind: names for kind, names in authors.items() if len(names) > 1} == {}


@given(st.text())
def test_any_text_is_one_token_and_back(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9=_-]+", token(text))
    assert untoken(token(text)) == text


@given(st.text(), st.text())
def test_two_texts_are_two_tokens(one: str, other: str) -> None:
    assert (token(one) == token(other)) == (one == other)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "_"),
        ("_", "=5F"),
        ("a.b", "a=2Eb"),
        ("=", "=3D"),
        (">", "=3E"),
        ("*", "=2A"),
        ("é", "=C3=A9"),
        ("web-1", "web-1"),
        ("²", "=C2=B2"),
    ],
)
def test_token_is_as_on_disk(text: str, expected: str) -> None:
    assert token(text) == expected
