"""Of two replicas one acts and the other folds along; when the first is killed or frozen, the second goes on where it stood."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.log_server import LogServer, log_server
from tests.own import free_port, own
from weir.bus.lease import RENEW_S
from weir.bus.subjects import LEASE_S
from weir.demo.network import wait_until

POOL = '{"apiVersion": "weir.dev/v1alpha1", "kind": "VIPPool", "metadata": {"name": "p"}, "spec": {"addresses": ["203.0.113.0/28"]}}'


class Replicas:
    """A watcher of a folder and an ipam, one of these twice: as "a" and "b"."""

    def __init__(self, server: LogServer, folder: Path, twice: str) -> None:
        self.server, self.folder = server, folder
        self.manifests = folder / "manifests"
        self.manifests.mkdir()
        (self.manifests / "pool.yaml").write_text(POOL)
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        words = {"watcher": [str(self.manifests)], "ipam": []}
        for service in words.keys() - {twice}:
            self.start(service, service, *words[service])
        for name in ("a", "b"):
            self.start(name, twice, "--replicated", *words[twice])

    def start(self, name: str, service: str, *words: str) -> None:
        argv = [sys.executable, "-m", f"services.{service}", "--instance", f"{own('weirrep')}-{name}", *words]
        with self.log(name).open("wb") as log:
            self.running[name] = subprocess.Popen(argv, env=self.server.environment(f"{service}.seed"), stdout=log, stderr=log)

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def said(self, name: str) -> list[str]:
        """What a replica told of itself."""
        return [json.loads(line)["event"] for line in self.log(name).read_text().splitlines() if line.startswith("{")]

    def told(self, name: str, event: str) -> list[dict[str, object]]:
        """What else the lines of that event say."""
        lines = [json.loads(line) for line in self.log(name).read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def active(self) -> str:
        """Who won last."""
        assert wait_until(lambda: any("lease_won" in self.said(name) for name in ("a", "b")), 30)
        return next(name for name in ("a", "b") if "lease_won" in self.said(name))

    def expose(self, name: str) -> None:
        metadata = {"namespace": "shop", "name": name}
        spec = {"type": "LoadBalancer", "ports": [{"port": 80}]}
        (self.manifests / f"{name}.json").write_text(
            json.dumps({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
        )

    def given_by(self, name: str) -> int:
        """How many VIPs a replica has given."""
        return self.said(name).count("vip_allocated")


@contextmanager
def running(folder: Path, twice: str) -> Iterator[Replicas]:
    with log_server(folder, ("n1",), free_port()) as server:
        server.report_addresses("n1")
        found = Replicas(server, folder, twice)
        try:
            yield found
        finally:
            for process in found.running.values():
                process.kill()
                process.wait()


@pytest.fixture
def replicas(tmp_path: Path) -> Iterator[Replicas]:
    with running(tmp_path, "ipam") as found:
        yield found


def test_a_watcher_that_stood_by_tells_nothing_of_yesterday(tmp_path: Path) -> None:
    with running(tmp_path, "watcher") as found:
        first = found.active()
        second = "b" if first == "a" else "a"
        found.expose("one")
        assert wait_until(lambda: found.given_by("ipam") == 1, 30)
        assert wait_until(lambda: bool(found.running[second].poll() is None and found.log(second).exists()), 30)
        found.expose("late")
        assert wait_until(lambda: found.given_by("ipam") == 2, 30)
        (found.manifests / "one.json").unlink()
        assert wait_until(lambda: "vip_released" in found.said("ipam"), 30)
        os.kill(found.running[first].pid, signal.SIGKILL)
        assert wait_until(lambda: "caught_up" in found.said(second), 30)
        assert [line["owed"] for line in found.told(second, "caught_up")] == [0]
        found.expose("two")
        assert wait_until(lambda: found.given_by("ipam") == 3, 30)


def test_a_replica_that_ends_in_order_leaves_no_pause(replicas: Replicas) -> None:
    first = replicas.active()
    second = "b" if first == "a" else "a"
    assert wait_until(lambda: "standing_by" in replicas.said(second), 30)
    replicas.running[first].terminate()
    replicas.running[first].wait(10)
    assert wait_until(lambda: "lease_won" in replicas.said(second), LEASE_S - RENEW_S), "sooner than the lease ends by itself"


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_the_other_goes_on_where_the_first_stood(replicas: Replicas, blow: signal.Signals) -> None:
    first = replicas.active()
    second = "b" if first == "a" else "a"
    replicas.expose("one")
    assert wait_until(lambda: replicas.given_by(first) == 1, 30)
    assert "lease_won" not in replicas.said(second)
    os.kill(replicas.running[first].pid, blow)
    replicas.expose("two")
    assert wait_until(lambda: replicas.given_by(second) == 1, 30)
    if blow == signal.SIGSTOP:
        os.kill(replicas.running[first].pid, signal.SIGCONT)
        replicas.expose("three")
        assert wait_until(lambda: replicas.given_by(first) + replicas.given_by(second) == 3, 30)
        assert wait_until(lambda: "log_lost" in replicas.said(first), 30), "it found itself overtaken"
        assert replicas.given_by(first) == 1
