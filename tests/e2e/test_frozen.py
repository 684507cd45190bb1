"""A process that is frozen is reported within seconds and starts again by itself; status says which, and its exit code is not 0."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.running import Running, running_weir
from weir.demo.network import wait_until
from weir.service.heartbeat import HUNG_S, SILENT_S

CHILDREN = ["watcher", "ipam", "planner", "dataplane", "health", "nats"]


@pytest.fixture(scope="module")
def weir() -> Iterator[Running]:
    with running_weir("weirfrozen") as found:
        yield found


def status(weir: Running, *words: str) -> "subprocess.CompletedProcess[str]":
    return weir.network.run("lb", *weir.command("status", *words), check=False, cwd=Path.cwd())


def complaint(weir: Running, name: str) -> str:
    """The line of `weir status` that says that a process does not respond; "" where none does."""
    lines = status(weir).stdout.splitlines()
    return next((line for line in lines if line.startswith(f"✗ {name}") and "not responding" in line), "")


@pytest.mark.parametrize("victim", CHILDREN)
def test_frozen_process_is_reported_and_starts_again(weir: Running, victim: str) -> None:
    """`weir up` stands still meanwhile, so that on a busy machine the report is not missed; thawed, it counts from then on."""
    before, up, pid, begun = weir.maps(), weir.pids()["up"], weir.pids()[victim], time.monotonic()
    os.kill(up, signal.SIGSTOP)
    try:
        os.kill(pid, signal.SIGSTOP)
        assert wait_until(lambda: bool(complaint(weir, victim)), 60)
        reported = time.monotonic() - begun
        assert "stopped by a signal" in complaint(weir, victim)
        assert status(weir).returncode == 1
    finally:
        os.kill(up, signal.SIGCONT)
    thawed = time.monotonic()
    assert wait_until(lambda: weir.pids().get(victim, pid) != pid, HUNG_S + 60), "not started again"
    restarted = time.monotonic() - thawed
    took = weir.settled(60)
    print(f"\n{victim} frozen: reported after {reported:.1f} s, started again {restarted:.1f} s after up ran, settled {took:.1f} s later")
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
        assert status(weir, "--wait=programmed", "--timeout", "10").returncode == 0
        for words in ((), ("--wait=serving", "--timeout", "1"), ("--wait", "--timeout", "1")):
            assert status(weir, *words).returncode == 1, words
    finally:
        weir.network.start()
    assert status(weir, "--wait", "--timeout", "30").returncode == 0


def test_an_edit_that_a_frozen_node_has_not_applied_is_not_serving(weir: Running) -> None:
    """From the moment the edit is planned, long before the frozen process counts as silent; `weir up` stands still meanwhile."""
    manifest = weir.stage.folder / "shop" / "endpoints.yaml"
    text, pids = manifest.read_text(), weir.pids()

    def planned() -> list[int]:
        return [row["sequence"] for row in weir.stage.ask("log tail -k backends --service shop/web")]

    assert status(weir, "--wait=serving", "--timeout", "10").returncode == 0
    before = max(planned())
    for name in ("up", "dataplane"):
        os.kill(pids[name], signal.SIGSTOP)
    try:
        manifest.write_text(text.replace("addresses: [10.77.0.11]", "addresses: [10.77.0.99]"))
        assert wait_until(lambda: max(planned()) > before, 30)
        assert status(weir, "--wait=serving", "--timeout", "0").returncode == 1
        manifest.write_text(text)
    finally:
        for name in ("dataplane", "up"):
            os.kill(pids[name], signal.SIGCONT)
    weir.settled(60)


def test_every_service_shows_when_it_was_heard_and_how_far_it_is_behind(weir: Running) -> None:
    def services() -> list[dict[str, Any]]:
        found = json.loads(status(weir, "-o", "json").stdout)
        return [row for row in found["processes"] if row["name"] not in ("up", "nats")]

    assert wait_until(lambda: [row["behind"] for row in services()] == [0] * 5, 30), services()  # each says it once a second
    assert all(row["heard_s"] < SILENT_S for row in services())
