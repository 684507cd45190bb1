"""The demo and the rig it stands on: namespaces, servers, and a load that admits every loss."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.own import own
from weir.demo.load import Load
from weir.demo.network import Network, wait_until
from weir.demo.stage import left

NAME, TOLD = own("weirnet"), own("weirstory")


def namespaces(name: str) -> list[str]:
    listed = subprocess.run(["ip", "netns"], text=True, capture_output=True, check=True).stdout
    return [line.split()[0] for line in listed.splitlines() if line.startswith(f"{name}-")]


@pytest.fixture
def network() -> Iterator[Network]:
    with Network(NAME) as network:
        network.start()
        yield network


def direct(network: Network, *backends: str) -> list[str]:
    """Load options that go past the load balancer."""
    return [word for backend in backends for address in network.addresses(backend) for word in ("--target", address)]


def test_load_without_faults_has_no_loss(network: Network) -> None:
    with Load(network, *direct(network, "b1", "b2"), "--http", "64", "--rate", "500", "--flows", "200", "--udp", "4") as load:
        assert load.now().flows.open == 200
        wait_until(lambda: load.now().elapsed_ms > 3000, 30)
        report = load.stop()
    assert report.errors == []
    assert report.lost == 0
    for counts in (report.http, report.flows, report.udp):
        assert counts.sent == counts.good > 0
        assert set(counts.by_backend) == {"b1", "b2"}
        assert counts.open == 0


def test_killed_server_is_reported_as_failures(network: Network) -> None:
    with Load(network, *direct(network, "b1", "b2"), "--http", "16", "--rate", "200", "--flows", "20", "--udp", "4") as load:
        network.stop("b1")
        assert wait_until(lambda: load.now().udp.failed > 0, 30)
        network.start("b1")
        assert wait_until(lambda: load.now().flows.open == 20, 30), "flows are opened anew"
        report = load.stop()
    assert report.flows.failed >= 10, "each flow of b1 is lost"
    assert report.http.failed > 0
    assert set(report.http.by_fault) <= {"refused", "reset", "closed"}
    assert report.http.sent == report.http.good + report.http.failed
    assert report.flows.sent == report.flows.good + report.flows.failed
    assert any("10.77.0.11 port 8080" in error.what for error in report.errors)
    assert not any("10.77.0.12" in error.what for error in report.errors), "b2 lost nothing"


def test_silence_of_5_s_is_a_timeout(network: Network) -> None:
    with Load(network, *direct(network, "b1"), "--http", "4", "--rate", "20", "--flows", "4", "--udp", "1") as load:
        network.set_link("b1", up=False)
        assert wait_until(lambda: load.now().flows.by_fault.get("timeout", 0) >= 4, 30)
        network.set_link("b1", up=True)
        report = load.stop()
    assert report.http.by_fault["timeout"] >= 4
    assert report.udp.by_fault["timeout"] >= 1
    assert report.http.longest_gap_ms > 4500


def test_backend_is_reached_at_its_new_mac(network: Network) -> None:
    with Load(network, *direct(network, "b1"), "--http", "4", "--rate", "100", "--flows", "4") as load:
        mac = network.change_mac("b1")
        asked = load.now().http.sent
        wait_until(lambda: load.now().http.sent > asked + 100, 30)
        assert load.stop().lost == 0
    assert mac in network.run("lb", "ip", "neigh").stdout


def test_networks_of_two_names_live_side_by_side_and_leave_nothing() -> None:
    with Network(f"{NAME}1", backends=1) as one, Network(f"{NAME}2", backends=5) as two:
        assert len(namespaces(f"{NAME}1")) == 4
        assert len(namespaces(f"{NAME}2")) == 8
        one.start()
        two.start("b5")
    assert not namespaces(f"{NAME}1") + namespaces(f"{NAME}2")


def test_leftovers_of_the_same_name_are_replaced() -> None:
    with Network(NAME, backends=4) as kept:
        kept.start("b4")
        sleeper = kept.popen("b4", "sleep", "1000")
        kept.kept = True
    with Network(NAME, backends=2):
        assert len(namespaces(NAME)) == 5
        assert sleeper.wait(1) != 0
    assert not namespaces(NAME)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_cleans_up(number: int) -> None:
    script = (
        f"from weir.demo.network import *; import time\nwith Network({NAME!r}) as n: n.start(); print('up', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    held = [int(pid) for space in namespaces(NAME) for pid in subprocess.check_output(["ip", "netns", "pids", space], text=True).split()]
    assert len(held) == 3
    process.send_signal(number)
    process.communicate()
    assert process.returncode != 0
    assert not namespaces(NAME)
    assert not [pid for pid in held if os.path.exists(f"/proc/{pid}")]


STORY = f"import sys; from weir.demo import stage, story; {{0}}; sys.exit(story.run(fast=True, name={TOLD!r}))"


def play(preparation: str = "pass") -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", STORY.format(preparation)], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_demo_holds_what_it_claims_and_leaves_nothing() -> None:
    out, _ = (process := play()).communicate(timeout=400)
    assert process.returncode == 0, out
    assert "✗" not in out
    for fact in ("203.0.113.", "2001:db8:113::", "b1 10.76.0.2", "b1 fd76::2", "endpoint_down", "(down)", "All claims hold."):
        assert fact in out
    assert left(TOLD) == []


def test_interrupted_demo_leaves_nothing() -> None:
    process = play()
    assert process.stdout
    for line in process.stdout:
        if "weir status --wait" in line:
            break
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert left(TOLD) == []
    assert not namespaces(TOLD)


def test_demo_that_does_not_hold_says_so() -> None:
    out, _ = (process := play("stage._WEIR = 'weir() { echo no such luck >&2; return 3; }\\n'")).communicate(timeout=60)
    assert process.returncode == 1
    assert "no such luck" in out
    assert "failed: `weir up" in out
    assert left(TOLD) == []
