"""A backend that flaps ten times a second under load: it is held down longer and longer, and the others feel nothing (F10).

WEIR_FLAP_S: how long it flaps; 15 s unless told, five minutes is what was promised.
"""

import json
import os
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
    out = weir.network.run("lb", *weir.command("log", "tail", "-n", "100000", "-o", "json")).stdout
    return [json.loads(line) for line in out.splitlines()]


def log_bytes(weir: Running) -> int:
    """What the log takes on disk."""
    return sum(path.stat().st_size for path in (weir.where.state / "nats").rglob("*") if path.is_file())


def test_a_flapping_backend_is_held_down_and_costs_the_others_nothing(weir: Running) -> None:
    targets = [word for vip in weir.vips() for word in ("--target", vip)]
    with (
        standing_in(weir) as flap,
        Load(weir.network, *targets, "--port", "80", "--udp-port", "53", "--http", "64", "--rate", "800", "--flows", "200") as load,
    ):
        weir.settled(20)
        first, bytes_before = facts(weir)[-1]["sequence"], log_bytes(weir)
        flap()
        time.sleep(FLAP_S)  # the fault
        report = load.stop()
        since = [fact["fact"] for fact in facts(weir) if fact["sequence"] > first]
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
