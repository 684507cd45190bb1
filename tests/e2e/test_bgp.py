"""A box tells a router of its VIPs by BGP: sessions, attributes, what is withdrawn, and what goes on without Weir."""

import os
import signal
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import yaml

from tests.e2e.router import ASN, BESIDE_PORT, NODES_ASN, Router, router
from tests.own import own
from weir.demo.network import wait_until
from weir.demo.stage import Stage, stage
from weir.view.processes import SERVICES

V4, V6 = "203.0.113.10", "2001:db8:113::10"
API = "weir.dev/v1alpha1"


def peer(name: str, address: str, **more: Any) -> dict[str, Any]:
    spec = {"myASN": NODES_ASN, "peerASN": ASN, "peerAddress": address, "connectTime": "1s", "bfd": {"interval": 100}, **more}
    return {"apiVersion": API, "kind": "BGPPeer", "metadata": {"name": name}, "spec": spec}


def advertisement(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": API, "kind": "BGPAdvertisement", "metadata": {"name": "all"}, "spec": spec}


PASSWORD = "canary-9d31"
MORE_VIP = "203.0.113.20"
MORE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"namespace": "shop", "name": "more"},
    "spec": {"type": "LoadBalancer", "loadBalancerIP": MORE_VIP, "ports": [{"port": 80}]},
}
PEERS = [peer("tor-v4", "10.76.0.2"), peer("tor-v6", "fd76::2")]


class Told(NamedTuple):
    """A box, and the router beside it."""

    stage: Stage
    router: Router

    def write(self, *objects: dict[str, Any]) -> None:
        (self.stage.folder / "shop" / "bgp.yaml").write_text(yaml.safe_dump_all(objects))

    def routes(self) -> set[str]:
        return {*self.router.routes("-4"), *self.router.routes("-6")}

    def await_routes(self, *prefixes: str, within_s: float = 30) -> None:
        assert wait_until(lambda: self.routes() == {*prefixes}, within_s), (self.routes(), self.stage.complaints())

    def fetched(self) -> bool:
        done = self.stage.network.run("client", "curl", "-sS", "-m", "2", f"http://{V4}/", check=False)
        return not done.returncode


def sessions(told: Told) -> set[tuple[str, str, str]]:
    return {(row["peer"], row["state"], row["bfd"]) for row in told.stage.ask("get bgp")}


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    if os.geteuid():
        pytest.skip("namespaces and BPF need root")
    with stage(own("weirbgp"), fast=True) as found, router(found.network, "client", ["10.76.0.1", "fd76::1"]) as tor:
        made = Told(found, tor)
        made.write(*PEERS, advertisement())
        found.up("--metrics 127.0.0.1:9600")
        made.await_routes(V4, V6, within_s=90)
        yield made


def test_vips_are_told_and_reached(told: Told) -> None:
    assert told.router.routes("-4") == {V4: ["10.76.0.1"]}
    assert told.fetched()
    up = {("tor-v4", "Established", "up"), ("tor-v6", "Established", "up")}
    assert wait_until(lambda: sessions(told) == up, 20), sessions(told)
    counted = told.stage.network.run("lb", "curl", "-s", f"http://127.0.0.1:{9600 + SERVICES.index('dataplane')}/metrics").stdout
    for name in ("bgp", "bfd"):
        assert [line[-3:] for line in counted.splitlines() if line.startswith(f"weir_{name}_session_up{{")] == ["1.0", "1.0"]


def test_a_vip_that_goes_is_withdrawn_and_no_session_is_touched(told: Told) -> None:
    before = told.router.show("protocols", "all", "n0").count("Established")
    path = told.stage.folder / "shop" / "more.yaml"
    path.write_text(yaml.safe_dump(MORE))
    told.await_routes(V4, V6, MORE_VIP)
    path.unlink()
    told.await_routes(V4, V6)
    assert told.router.show("protocols", "all", "n0").count("Established") == before


def test_what_a_router_is_told_follows_the_advertisement(told: Told) -> None:
    told.write(*PEERS, advertisement(med=30, prepend=1, communities=["65001:7", "65001:1:2"], peers=["tor-v4"]))
    told.await_routes(V4)
    assert wait_until(lambda: "BGP.med: 30" in told.router.attributes(V4), 20), told.router.attributes(V4)
    attributes = told.router.attributes(V4)
    for words in ("BGP.as_path: 65001 65001", "BGP.community: (65001,7)", "BGP.large_community: (65001, 1, 2)"):
        assert words in attributes
    told.write(*PEERS, advertisement(aggregationLength=24, aggregationLengthV6=64))
    told.await_routes("203.0.113.0/24", "2001:db8:113::/64")
    assert told.fetched()
    told.write(*PEERS, advertisement())
    told.await_routes(V4, V6)


def test_a_router_that_does_not_answer_is_told_of_and_the_other_goes_on(told: Told) -> None:
    told.write(*PEERS, peer("nobody", "10.76.0.99"), advertisement())
    assert wait_until(lambda: ("nobody", "Down", "down") in sessions(told), 30), sessions(told)
    assert {("tor-v4", "Established", "up"), ("tor-v6", "Established", "up")} <= sessions(told)
    problems = told.stage.ask("status")[0]["problems"]
    assert [words for words in problems if words.startswith("BGP session of ") and " with nobody is down: " in words], problems
    assert told.routes() == {V4, V6}
    told.write(*PEERS, advertisement())
    assert wait_until(lambda: len(sessions(told)) == 2, 20), sessions(told)


def test_one_router_in_two_peers_is_one_session_and_stays(told: Told) -> None:
    told.write(*PEERS, peer("zzz", "10.76.0.2", peerASN=65055), advertisement())

    def message() -> str:
        return next((str(row["message"]) for row in told.stage.ask("get bgp") if row["peer"] == "zzz"), "")

    assert wait_until(lambda: message() == "10.76.0.2 is the router of BGPPeer tor-v4", 30), message()
    assert told.routes() == {V4, V6}
    told.write(*PEERS, advertisement())
    assert wait_until(lambda: len(sessions(told)) == 2, 20), sessions(told)
    assert told.routes() == {V4, V6}


def test_a_session_that_frr_refuses_is_told_in_its_words(told: Told) -> None:
    told.write(*PEERS, peer("wrong", "10.76.0.99", myASN=65077, peerASN=65077), advertisement())

    def message() -> str:
        return next((str(row["message"]) for row in told.stage.ask("get bgp") if row["peer"] == "wrong"), "")

    assert wait_until(lambda: "bgpd does not run" in message(), 30), message()
    assert "same as the remote as" in message()
    assert told.routes() == {V4, V6}
    told.write(*PEERS, advertisement())
    assert wait_until(lambda: len(sessions(told)) == 2, 20), sessions(told)


def secret(password: str) -> dict[str, Any]:
    metadata = {"namespace": "shop", "name": "tor"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"password": password}}


def test_a_session_has_a_password_that_only_frr_has(told: Told) -> None:
    guarded = peer("guarded", "10.76.0.2", peerASN=64999, peerPort=BESIDE_PORT, passwordSecret={"namespace": "shop", "name": "tor"})
    told.write(*PEERS[1:], guarded, advertisement())

    def message() -> str:
        return next((str(row["message"]) for row in told.stage.ask("get bgp") if row["peer"] == "guarded"), "")

    assert wait_until(lambda: message() == "Secret/shop/tor: not found", 30), message()
    with router(told.stage.network, "client", ["10.76.0.1"], asn=64999, beside=True, more=f'password "{PASSWORD}";') as tor:
        told.write(*PEERS[1:], guarded, advertisement(), secret(PASSWORD))
        assert wait_until(lambda: "Established" in tor.show("protocols", "all", "n0"), 60), (message(), told.stage.complaints())
    told.write(*PEERS, advertisement())
    told.await_routes(V4, V6)
    state, run = told.stage.where.state, told.stage.where.run
    files = [path for folder in (state, run, told.stage.folder) for path in folder.rglob("*") if path.is_file()]
    assert [path.name for path in files if PASSWORD.encode() in path.read_bytes()] == []


def pid(told: Told, daemon: str) -> int:
    """0 while it does not run."""
    try:
        return int((told.stage.where.run / "frr" / f"{daemon}.pid").read_text())
    except (OSError, ValueError):
        return 0


def killed(told: Told, daemon: str) -> None:
    """A daemon of FRR, once it is started again; sessions end with it, and are back."""
    first = pid(told, daemon)
    os.kill(first, signal.SIGKILL)
    assert wait_until(lambda: pid(told, daemon) not in (0, first), 30)
    told.await_routes(V4, V6, within_s=60)


def test_a_daemon_that_is_killed_is_back_with_what_was_told_and_with_bfd(told: Told) -> None:
    up = {("tor-v4", "Established", "up"), ("tor-v6", "Established", "up")}
    for daemons in (("bgpd",), ("zebra",), ("bfdd",), ("bgpd", "zebra", "bfdd")):
        for daemon in daemons:
            killed(told, daemon)
        assert wait_until(lambda: sessions(told) == up, 60), (daemons, sessions(told))


def test_daemons_that_outlived_their_keeper_are_taken_over(told: Told) -> None:
    unit = int((told.stage.where.run / "keepers" / "frr.pid").read_text())
    before = pid(told, "bgpd")
    os.kill(unit, signal.SIGKILL)
    assert wait_until(lambda: pid(told, "bgpd") not in (0, before), 30)
    told.await_routes(V4, V6, within_s=60)


def test_routers_are_told_on_while_weir_up_and_its_children_are_dead(told: Told) -> None:
    pids = told.stage.pids()
    for name in ("up", *(name for name in pids if name != "up")):
        os.kill(pids[name], signal.SIGKILL)
    assert wait_until(lambda: not told.stage.pids(), 20)
    assert told.routes() == {V4, V6}
    killed(told, "bgpd")
    assert told.fetched()


def test_weir_down_ends_the_daemons_and_the_router_knows_at_once(told: Told) -> None:
    words = (sys.executable, "-m", "weir.cli", "down", "--instance", told.stage.where.instance)
    done = told.stage.network.run("lb", *words, check=False)
    assert "the keeper of frr ended" in done.stdout, (done.stdout, done.stderr)
    told.await_routes(within_s=10)


def test_a_machine_that_starts_tells_of_a_vip_once_it_forwards_for_it(told: Told) -> None:
    told.stage.up()
    told.await_routes(V4, V6, within_s=90)
    assert told.fetched(), "the router was told, and nothing answers"
