"""BGPPeer and BGPAdvertisement as people write them: what is read, and what is told of a fault."""

import pytest
from test_watcher_core import fact, only

from weir.events import BgpAdvertisementObserved, BgpPeerObserved
from weir.model import Bfd, BgpOffer, BgpSession, Selector

LEAST = "myASN: 65001, peerASN: 65000"
COMMUNITY = "ASN:NUMBER, ASN:NUMBER:NUMBER for a large one, or one of no-export,"


def peer(spec: str) -> str:
    return f"{{apiVersion: weir.dev/v1alpha1, kind: BGPPeer, metadata: {{name: tor}}, spec: {{{spec}}}}}"


def advertisement(spec: str) -> str:
    return f"{{apiVersion: weir.dev/v1alpha1, kind: BGPAdvertisement, metadata: {{name: all}}, spec: {{{spec}}}}}"


def test_a_peer_with_all_that_can_be_said_of_it() -> None:
    more = "peerPort: 1179, sourceAddress: 192.0.2.9, ebgpMultiHop: true, holdTime: 1m30s, keepaliveTime: 10s, connectTime: 5s"
    rest = "bfd: {interval: 100, multiplier: 5}, nodeSelectors: [{matchLabels: {rack: a}}, {matchLabels: {rack: b}}]"
    event = fact(peer(f"{LEAST}, peerAddress: 192.0.2.1, {more}, {rest}"))
    assert isinstance(event, BgpPeerObserved)
    assert event.session == BgpSession(
        local_asn=65001,
        peer_asn=65000,
        address="192.0.2.1",
        port=1179,
        source_address="192.0.2.9",
        hops=255,
        hold_s=90,
        keepalive_s=10,
        connect_s=5,
        bfd=Bfd(interval_ms=100, multiplier=5),
    )
    assert event.nodes == (Selector(labels={"rack": "a"}), Selector(labels={"rack": "b"}))


@pytest.mark.parametrize(
    ("spec", "session"),
    [
        ("peerAddress: 2001:DB8::1", BgpSession(local_asn=65001, peer_asn=65000, address="2001:db8::1")),
        ("interface: eth0.7", BgpSession(local_asn=65001, peer_asn=65000, interface="eth0.7")),
        (
            "peerAddress: 192.0.2.1, holdTime: 9s, bfd: {}",
            BgpSession(local_asn=65001, peer_asn=65000, address="192.0.2.1", hold_s=9, keepalive_s=3, bfd=Bfd()),
        ),
    ],
)
def test_what_is_left_out_has_a_default(spec: str, session: BgpSession) -> None:
    event = fact(peer(f"{LEAST}, {spec}"))
    assert isinstance(event, BgpPeerObserved)
    assert event.session == session


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (LEAST, "spec.peerAddress: got nothing, accepted: an address, or an interface in spec.interface"),
        (f"{LEAST}, peerAddress: 192.0.2.1, interface: eth0", "spec.interface: got 'eth0', accepted: nothing beside spec.peerAddress"),
        (f"{LEAST}, peerAddress: tor", "spec.peerAddress: got 'tor', accepted: an IPv4 or IPv6 address"),
        (f"{LEAST}, peerAddress: 127.0.0.1", "spec.peerAddress: got '127.0.0.1', accepted: a unicast address (this is loopback"),
        ("peerASN: 65000, peerAddress: 192.0.2.1", "spec.myASN: got nothing, accepted: 1-4294967295"),
        ("myASN: 65001, peerASN: 4294967296, peerAddress: 192.0.2.1", "spec.peerASN: got 4294967296, accepted: 1-4294967295"),
        (f"{LEAST}, peerAddress: 192.0.2.1, peerASNs: 1", "spec.peerASNs: got an unknown field, accepted: peerASN"),
        (f"{LEAST}, interface: 'eth0; no router bgp'", "spec.interface: got 'eth0; no router bgp', accepted: the name of an interface"),
        (f"{LEAST}, peerAddress: 192.0.2.1, holdTime: 2s", "spec.holdTime: got '2s', accepted: whole seconds, 3s-65535s"),
        (f"{LEAST}, peerAddress: 192.0.2.1, holdTime: 90", "spec.holdTime: got 90, accepted: text"),
        (
            f"{LEAST}, peerAddress: 192.0.2.1, holdTime: 9s, keepaliveTime: 4s",
            "spec.keepaliveTime: got '4s', accepted: at most a third of the hold time of 9 s",
        ),
        (f"{LEAST}, peerAddress: 192.0.2.1, bfd: {{interval: 1}}", "spec.bfd.interval: got 1, accepted: 10-60000"),
        (
            f"{LEAST}, peerAddress: 192.0.2.1, sourceAddress: 2001:db8::1",
            "spec.sourceAddress: got '2001:db8::1', accepted: an IPv4 address, as spec.peerAddress",
        ),
    ],
)
def test_a_fault_of_a_peer_is_told(spec: str, problem: str) -> None:
    assert any(str(found).startswith(problem) for found in only(peer(spec)).problems), only(peer(spec)).problems


def test_an_advertisement_with_all_that_can_be_said_of_it() -> None:
    spec = "pools: [a], peers: [tor], activeBackup: true, localPref: 200, med: 5, prepend: 2, aggregationLength: 24"
    spec += ", aggregationLengthV6: 64"
    event = fact(advertisement(f"{spec}, communities: [no-export, '65000:007', '65000:1:2'], nodeSelectors: [{{matchLabels: {{a: b}}}}]"))
    assert isinstance(event, BgpAdvertisementObserved)
    assert event.offer == BgpOffer(
        length=24,
        length_v6=64,
        active_backup=True,
        local_pref=200,
        med=5,
        prepend=2,
        communities=("no-export", "65000:7", "65000:1:2"),
    )
    assert (event.pools, event.peers, event.nodes) == (("a",), ("tor",), (Selector(labels={"a": "b"}),))


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("communities: ['65536:1']", f"spec.communities[0]: got '65536:1', accepted: {COMMUNITY}"),
        ("communities: ['1:4294967296:1']", f"spec.communities[0]: got '1:4294967296:1', accepted: {COMMUNITY}"),
        ("communities: ['no export']", f"spec.communities[0]: got 'no export', accepted: {COMMUNITY}"),
        ("communities: [1]", "spec.communities[0]: got 1, accepted: text"),
        ("aggregationLength: 33", "spec.aggregationLength: got 33, accepted: 1-32"),
        ("prepend: 11", "spec.prepend: got 11, accepted: 0-10"),
        ("pools: [A]", "spec.pools[0]: got 'A', accepted: a DNS subdomain"),
        ("pool: [a]", "spec.pool: got an unknown field, accepted: pools"),
    ],
)
def test_a_fault_of_an_advertisement_is_told(spec: str, problem: str) -> None:
    assert any(str(found).startswith(problem) for found in only(advertisement(spec)).problems), only(advertisement(spec)).problems
