"""One running Weir to test against: namespaces, three backends, the example's manifests; and what is measured around a fault."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.dataplane.l4.kernel import MAPS
from services.dataplane.l4.layout import LAYOUT
from tests.own import own
from weir.demo.load import Load
from weir.demo.network import wait_until
from weir.demo.report import Report
from weir.demo.stage import Stage, stage
from weir.pins import Map
from weir.view.processes import running as pids_of

COUNTED = ("frontends", "tables", "backends", "backend_hosts", "backend_ids", "vips")  # what the plan writes; counters are not of it


@contextmanager
def running_weir(name: str, options: str = "") -> Iterator["Running"]:
    """Weir with the example's manifests, everything programmed; gone at the end.  name: becomes this run's own.  options: of `weir up`."""
    if os.geteuid():
        pytest.skip("namespaces and BPF need root")
    with stage(own(name), fast=True) as found:
        found.up(options)
        found.wait_for("everything programmed", 90, "status", holds=lambda told: told[0]["ok"])
        yield Running(found)


class Running:
    """Weir under test."""

    def __init__(self, found: Stage) -> None:
        self.stage, self.network, self.where = found, found.network, found.where

    @contextmanager
    def under_load(self, *vips: str) -> Iterator[Load]:
        """64 HTTP connections, half of them new for each request, and 200 long TCP flows, to `vips` or all; nothing may be lost."""
        targets = [word for vip in vips or self.vips() for word in ("--target", vip)]
        with Load(
            self.network, *targets, "--port", "80", "--udp-port", "53", "--http", "64", "--rate", "800", "--flows", "200", "--udp", "4"
        ) as load:
            yield load
            report = load.stop()
        self.told(report)
        assert report.lost == 0, report.errors
        assert report.http.good > 0
        assert report.flows.good > 0

    def told(self, report: Report) -> None:
        asked = f"{report.http.good} requests, {report.flows.sent} lines on 200 flows"
        print(f"\n{asked}, lost {report.lost}, longest gap {report.http.longest_gap_ms} ms")

    def vips(self) -> list[str]:
        return sorted({row["ext ip"] for row in self.stage.ask("get lb")})

    def pids(self) -> dict[str, int]:
        return pids_of(self.where)

    def maps(self) -> dict[str, dict[bytes, bytes]]:
        """What the plan has put into the kernel."""
        assert set(COUNTED) <= set(MAPS)
        return {name: dict(Map.open(self.where.pins / f"v{LAYOUT}" / name).items()) for name in COUNTED}

    def settled(self, seconds: float) -> float:
        """Waits until all is well and the kernel equals the replay; returns how long that took."""
        begun = time.monotonic()
        assert wait_until(self.is_settled, seconds), self.stage.ask("status")
        return time.monotonic() - begun

    def is_settled(self) -> bool:
        told = self.stage.ask("status")[0]
        return bool(told["ok"] and self.drift() == 0 and self.stage.ask("status")[0]["log"] == told["log"])

    def drift(self) -> int:
        """Exit code of `weir replay --diff`: 0 when the kernel holds just what the log says."""
        return self.network.run("lb", *self.command("replay", "--diff"), check=False, cwd=Path.cwd()).returncode

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "weir.cli", *words, "--instance", self.where.instance]

    def end(self) -> None:
        """As an operator does: SIGTERM to `weir up`, which ends the others."""
        os.kill(self.pids()["up"], signal.SIGTERM)
        assert wait_until(lambda: not self.pids(), 30)

    @contextmanager
    def without_nats(self) -> Iterator[None]:
        """NATS killed, and unable to start again."""
        config = self.where.state / "nats.conf"
        hidden = config.with_suffix(".hidden")
        config.rename(hidden)
        try:
            os.kill(self.pids()["nats"], 9)
            yield
        finally:
            hidden.rename(config)
