"""Faults under load: 64 HTTP connections and 200 long TCP flows through the VIPs, and not one request or flow may be lost.

The sleeps here are the faults: how long something is dead or frozen.   WEIR_GONE_S: for how long at most (default 20).
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.running import Running, running_weir
from weir.demo.load import Load
from weir.demo.network import wait_until
from weir.demo.stage import DemoError

GONE_S = int(os.environ.get("WEIR_GONE_S", "20"))
SERVICES = ("watcher", "ipam", "planner", "health", "dataplane")


@pytest.fixture(scope="module")
def weir() -> Iterator[Running]:
    with running_weir("weirchaos") as found:
        yield found


@pytest.mark.parametrize("victim", [*SERVICES, "nats"])
def test_a_killed_process_loses_nothing_and_writes_nothing_again(weir: Running, victim: str) -> None:
    before = weir.maps()
    with weir.under_load():
        old = weir.pids()[victim]
        os.kill(old, signal.SIGKILL)
        assert wait_until(lambda: weir.pids()[victim] != old, 30)
        took = weir.settled(60)
        time.sleep(2)  # a little more load on what came back
    print(f"{victim} killed: settled after {took:.1f} s")
    assert weir.maps() == before


def test_an_agent_frozen_for_long_loses_nothing(weir: Running) -> None:
    before = weir.maps()
    with weir.under_load():
        os.kill(weir.pids()["dataplane"], signal.SIGSTOP)
        time.sleep(GONE_S)
        os.kill(weir.pids()["dataplane"], signal.SIGCONT)
        took = weir.settled(60)
    print(f"agent thawed: settled after {took:.1f} s")
    assert weir.maps() == before


@pytest.mark.parametrize("victim", ["watcher", "ipam", "planner", "health", "nats"])
def test_any_other_process_frozen_loses_nothing(weir: Running, victim: str) -> None:
    before = weir.maps()
    with weir.under_load():
        os.kill(weir.pids()[victim], signal.SIGSTOP)
        time.sleep(8)
        os.kill(weir.pids()[victim], signal.SIGCONT)
        took = weir.settled(60)
    print(f"{victim} thawed: settled after {took:.1f} s")
    assert weir.maps() == before


def test_an_interface_that_comes_anew_is_attached_again(weir: Running) -> None:
    old = weir.pids()["dataplane"]
    client = weir.network.namespace("client")
    for command in ("link del front", f"link add front type veth peer name eth0 netns {client}"):
        weir.network.run("lb", "ip", *command.split())
    for command in ("link set front up", "addr add 10.76.0.1/24 dev front", "addr add fd76::1/64 dev front nodad"):
        weir.network.run("lb", "ip", *command.split())
    for command in ("link set eth0 up", "addr add 10.76.0.2/24 dev eth0", "addr add fd76::2/64 dev eth0 nodad"):
        weir.network.run("client", "ip", *command.split())
    for command in ("route add 203.0.113.0/24 dev eth0", "route add 2001:db8:113::/64 dev eth0"):
        weir.network.run("client", "ip", *command.split())
    assert wait_until(lambda: weir.pids()["dataplane"] != old, 30)
    fetch = ["curl", "-sS", "--max-time", "1", "http://203.0.113.10/"]
    assert wait_until(lambda: weir.network.run("client", *fetch, check=False).returncode == 0, 30)
    weir.settled(60)


def test_nats_gone_for_long_loses_nothing_and_a_dead_backend_is_out_meanwhile(weir: Running) -> None:
    before = weir.maps()
    with weir.under_load():
        with weir.without_nats():
            time.sleep(GONE_S)
        took = weir.settled(60)
    print(f"NATS back: settled after {took:.1f} s")
    assert weir.maps() == before


@pytest.mark.parametrize("log_away", [False, True], ids=["log up", "log away"])
def test_a_dead_backend_is_out_after_two_probes(weir: Running, log_away: bool) -> None:
    """Of one interval each: a time would tell of the machine."""
    known = deaths(weir)
    try:
        with weir.without_nats() if log_away else contextlib.nullcontext():
            weir.network.stop("b1")
            assert wait_until(lambda: any(row["state"] == "nok" for row in weir.stage.ask("get ep") if row["host"] == "10.77.0.11"), 30)
        assert wait_until(lambda: len(deaths(weir)) > len(known), 30), "the transition is not in the log"
    finally:
        weir.network.start("b1")
    assert {death["failures"] for death in deaths(weir)[len(known) :]} == {2}
    weir.settled(60)


def test_everything_killed_for_long_loses_nothing(weir: Running) -> None:
    before = weir.maps()
    with weir.under_load():
        kill_all(weir)
        time.sleep(GONE_S)
        weir.stage.up()
        assert wait_until(lambda: bool(weir.pids()), 30)
        took = weir.settled(60)
    print(f"all killed, started again: settled after {took:.1f} s")
    assert weir.maps() == before


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "silent"])
def test_with_all_dead_a_changed_mac_and_new_questions_for_the_vip_are_answered(weir: Running, announced: bool) -> None:
    targets = [word for vip in weir.vips() for word in ("--target", vip)]
    kill_all(weir)
    try:
        with Load(weir.network, *targets, "--port", "80", "--http", "64", "--rate", "500", "--flows", "100") as load:
            weir.network.change_mac("b1", announced=announced)
            weir.network.run("client", "ip", "neigh", "flush", "dev", "eth0")  # ARP and NDP for the VIPs are asked anew
            time.sleep(12)
            healed = load.now()
            time.sleep(6)
            report = load.stop()
    finally:
        weir.stage.up()
    counts = f"{report.http.good} requests, {report.flows.sent} lines, lost {report.lost}"
    print(f"\n{counts}, slowest request {report.http.slowest_ms} ms, slowest line {report.flows.slowest_ms} ms")
    assert report.lost == healed.lost, report.errors
    assert report.lost == 0 or not announced, report.errors  # a silent change is the kernel's to find out, in about 5 s
    assert wait_until(lambda: bool(weir.pids()), 30)
    weir.settled(60)


def test_a_reboot_with_nats_down_serves_from_the_plan_on_disk(weir: Running) -> None:
    vips = weir.vips()
    kill_all(weir)
    assert wait_until(lambda: not weir.pids(), 30)
    weir.network.run("lb", *weir.command("down"))  # a reboot empties bpffs
    config = weir.where.state / "nats"
    config.rename(config.with_suffix(".away"))
    config.write_text("not a directory: NATS cannot start here")
    try:
        weir.stage.up()
        for vip in vips:
            url = f"http://[{vip}]/" if ":" in vip else f"http://{vip}/"
            fetch = ["curl", "-sS", "--max-time", "2", url]
            assert wait_until(lambda fetch=fetch: weir.network.run("client", *fetch, check=False).returncode == 0, 30), vip
    finally:
        config.unlink()
        config.with_suffix(".away").rename(config)
    weir.settled(60)


def deaths(weir: Running) -> list[Any]:
    """What the log holds of backends that went down; nothing while it cannot be asked."""
    try:
        return [line["event"] for line in weir.stage.ask("log tail -n 1000 --kind endpoint_down")]
    except DemoError:  # the log is on its way back
        return []


def kill_all(weir: Running) -> None:
    for pid in weir.pids().values():
        with contextlib.suppress(ProcessLookupError):  # the first of them is `up`, and its children follow it
            os.kill(pid, signal.SIGKILL)
