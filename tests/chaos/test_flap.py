"""A backend that flaps ten times a second under load: it is held down longer and longer, and the others feel nothing (F10).

Also all backends dead and back with http probes (F11), and a frozen prober.
WEIR_FLAP_S: how long it flaps; 15 s unless told, five minutes is what was promised.   WEIR_FROZEN_S: how long health is stopped.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.running import Running, running_weir
from weir.demo.load import Load
from weir.demo.network import wait_until

FROZEN_S = int(os.environ.get("WEIR_FROZEN_S", "5"))
FLAP_S = int(os.environ.get("WEIR_FLAP_S", "15"))
VICTIM, ADDRESS = "b1", "10.77.0.11"


@pytest.fixture(scope="module")
def weir() -> Iterator[Running]:
    with running_weir("weirflap") as found:
        yield found


@contextmanager
def standing_in(weir: Running) -> Iterator[Callable[[], None]]:
    """In the block another server stands in for the victim's, which flaps once it is told by what this yields."""
    weir.network.stop(VICTIM)
    server = weir.network.popen(VICTIM, sys.executable, "-m", "tests.chaos.flapping", VICTIM, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert server.stdin
        assert server.stdout
        assert server.stdout.readline()
        yield lambda: print(file=server.stdin, flush=True)
    finally:
        server.kill()
        server.communicate()
        weir.network.start(VICTIM)


def facts(weir: Running) -> list[dict[str, Any]]:
    """The log, whole."""
    out = weir.network.run("lb", *weir.command("log", "tail", "-n", "100000", "-o", "jsonl")).stdout
    return [json.loads(line) for line in out.splitlines()]


def log_bytes(weir: Running) -> int:
    """What the log takes on disk."""
    return sum(path.stat().st_size for path in (weir.where.state / "nats").rglob("*") if path.is_file())


def test_a_frozen_prober_takes_no_backend_for_dead(weir: Running) -> None:
    assert wait_until(lambda: any(weir.where.run.glob("probes-*.json")), 30)
    (delays,) = weir.where.run.glob("probes-*.json")
    first, health = facts(weir)[-1]["sequence"], weir.pids()["health"]
    os.kill(health, signal.SIGSTOP)
    time.sleep(FROZEN_S)  # the fault
    os.kill(health, signal.SIGCONT)
    for _ in range(2):  # it is written each 5 s, so every backend was asked in between
        before = delays.stat().st_mtime_ns
        assert wait_until(lambda before=before: delays.stat().st_mtime_ns != before, 30)
    assert [fact for fact in facts(weir) if fact["sequence"] > first and fact["event"]["type"].startswith("endpoint_")] == []


def test_all_dead_and_back_with_http_probes(weir: Running) -> None:
    manifest = weir.stage.folder / "shop" / "service.yaml"
    text = manifest.read_text()
    manifest.write_text(text.replace('weir.dev/liveness: "yes"', 'weir.dev/liveness: "yes"\n    weir.dev/probetype: "http"'))
    try:
        assert wait_until(lambda: any(row["ptype"] == "http:" for row in probed(weir)), 30)
        for backend in weir.network.backends:
            weir.network.stop(backend)
        assert wait_until(lambda: all(row["state"] == "nok" for row in probed(weir)), 30)
        weir.network.start()
        for vip in weir.vips():  # all down = all up: served at once, whatever the probes say still
            url = f"http://[{vip}]/" if ":" in vip else f"http://{vip}/"
            weir.network.run("client", "curl", "-sS", "--max-time", "2", url)
        weir.settled(60)
        assert wait_until(lambda: all(row["state"] == "ok" and row["mindelay"] for row in probed(weir)), 30)
    finally:
        manifest.write_text(text)
    weir.settled(60)


def probed(weir: Running) -> list[dict[str, Any]]:
    return [row for row in weir.stage.ask("get ep") if row["ptype"]]


def test_a_flapping_backend_is_held_down_and_costs_the_others_nothing(weir: Running) -> None:
    targets = [word for vip in weir.vips() for word in ("--target", vip)]
    with (
        standing_in(weir) as flap,
        Load(weir.network, *targets, "--port", "80", "--udp-port", "53", "--http", "64", "--rate", "800", "--flows", "200") as load,
    ):
        weir.settled(60)
        first, bytes_before = facts(weir)[-1]["sequence"], log_bytes(weir)
        flap()
        time.sleep(FLAP_S)  # the fault
        since = [fact["event"] for fact in facts(weir) if fact["sequence"] > first]
        report = load.stop()
        grown = log_bytes(weir) - bytes_before
    downs = [fact for fact in since if fact["type"] == "endpoint_down"]
    turned = Counter(fact["address"] for fact in since if fact["type"].startswith("endpoint_"))
    held_s = [fact.get("held_s", 0) for fact in downs if fact["address"] == ADDRESS]
    print(f"\n{FLAP_S} s of flapping: {dict(Counter(fact['type'] for fact in since))}, held down {held_s} s, {grown} bytes of log")
    print(f"requests: {report.http.good} good, {report.http.by_fault}, by backend {report.http.by_backend}")
    print(f"{report.flows.sent} lines on 200 flows, {report.flows.failed} lost, {report.flows.misdirected} misdirected")
    assert report.flows.failed == report.flows.misdirected == report.http.misdirected == 0, report.errors
    assert set(report.http.by_fault) <= {"refused", "reset"}, "nothing fails but what the victim itself refused"
    assert set(turned) <= {ADDRESS, "fd77::11"}
    assert held_s == sorted(held_s), "no hold is shorter than the one before"
    assert max(turned.values()) <= max(FLAP_S // 10, 8)
    assert grown < 1_000_000
    weir.settled(90)  # the last hold, then all is as it was
