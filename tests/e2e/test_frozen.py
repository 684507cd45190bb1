"""A process that is frozen is reported within seconds and starts again by itself; status says which, and its exit code is not 0."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import Running, running_weir
from weir.demo.network import wait_until
from weir.heartbeat import HUNG_S

CHILDREN = ["watcher", "ipam", "planner", "dataplane", "health", "nats"]


@pytest.fixture(scope="module")
def weir() -> Iterator[Running]:
    with running_weir("weirfrozen") as found:
        yield found


def status(weir: Running, *words: str) -> "subprocess.CompletedProcess[str]":
    return weir.network.run("lb", *weir.command("status", *words), check=False, cwd=Path.cwd())


@pytest.mark.parametrize("victim", CHILDREN)
def test_frozen_process_is_reported_and_starts_again(weir: Running, victim: str) -> None:
    before, pid, begun = weir.maps(), weir.pids()[victim], time.monotonic()
    os.kill(pid, signal.SIGSTOP)
    assert wait_until(lambda: "not responding" in status(weir).stdout, 30)
    reported = time.monotonic() - begun
    shown = status(weir)
    if "not responding" in shown.stdout:  # else it started again in between
        assert shown.returncode == 1, shown.stdout
        (line,) = [line for line in shown.stdout.splitlines() if "not responding" in line]
        assert line.startswith(f"✗ {victim}")
        assert "stopped by a signal" in line
    assert wait_until(lambda: weir.pids().get(victim, pid) != pid, HUNG_S + 20), "not started again"
    restarted = time.monotonic() - begun
    took = weir.settled(60)
    print(f"\n{victim} frozen: reported after {reported:.1f} s, started again after {restarted:.1f} s, settled {took:.1f} s later")
    assert weir.maps() == before


def test_frozen_weir_up_is_reported(weir: Running) -> None:
    up, begun = weir.pids()["up"], time.monotonic()
    os.kill(up, signal.SIGSTOP)
    try:
        assert wait_until(lambda: status(weir).returncode == 1, 30)
        print(f"\nup frozen: reported after {time.monotonic() - begun:.1f} s")
    finally:
        os.kill(up, signal.SIGCONT)
    weir.settled(60)


def test_status_waits_for_what_is_asked_and_no_longer_than_is_asked(weir: Running) -> None:
    assert status(weir, "--wait=serving", "--timeout", "10").returncode == 0
    for backend in weir.network.backends:
        weir.network.stop(backend)
    try:
        assert wait_until(lambda: "AllDown" in status(weir).stdout, 30)
        assert status(weir, "--wait=programmed", "--timeout", "0").returncode == 0
        for words in ((), ("--wait=serving", "--timeout", "1"), ("--wait", "--timeout", "1")):
            assert status(weir, *words).returncode == 1, words
    finally:
        weir.network.start()
    assert status(weir, "--wait", "--timeout", "30").returncode == 0


def test_every_service_shows_when_it_was_heard_and_how_far_it_is_behind(weir: Running) -> None:
    found = json.loads(status(weir, "-o", "json").stdout)
    services = {row["name"]: row for row in found["processes"] if row["name"] not in ("up", "nats")}
    assert {name: row["behind"] for name, row in services.items()} == dict.fromkeys(services, 0)
    assert all(row["heard_s"] < 5 for row in services.values())
