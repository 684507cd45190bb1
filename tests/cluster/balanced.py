"""Weir on the LB node of a rig, following clusters: what `weir up --cluster` does there, and what is asked of it."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from services.dataplane.l4.layout import LAYOUT
from tests.cluster.api import ApiError, Object
from tests.cluster.cluster import ROOT, Cluster
from tests.cluster.rig import LB, Rig
from tests.running import COUNTED
from weir.demo.load import Load
from weir.demo.network import undisturbed, wait_until
from weir.pins import Map
from weir.view.processes import running
from weir.where import Where

INTERFACES = ("front", "back", "pods")  # packets of clients, of nodes, and of the pods of the LB node itself


class Balanced:
    """Weir on the LB node.  clusters: by the name they have in the log, the first one's namespaces stand there as they are."""

    def __init__(self, rig: Rig, clusters: Mapping[str, Cluster], options: Sequence[str] = ("--mode", "onearm")) -> None:
        self.rig, self.clusters, self.where = rig, clusters, Where(f"{rig.name}-{LB}")
        self.log = Path("/run") / f"{rig.name}.up.log"
        self._options = options
        self._up: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._clear()
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        with undisturbed():
            self.end()
            self._clear()

    @property
    def cluster(self) -> Cluster:
        """The first."""
        return next(iter(self.clusters.values()))

    def up(self) -> None:
        """Starts it, and returns once every service follows."""
        tunnel = ["overlay"] if "overlay" in self.rig.nodes.values() else []
        words = [word for name in (*INTERFACES, *tunnel) for word in ("-i", name)]
        words += [f"--cluster={name}={cluster.kubeconfig}" for name, cluster in self.clusters.items()]
        with self.log.open("a") as log:
            self._up = self.rig.popen(LB, *self._weir("up", *words, *self._options), cwd=ROOT, stdout=log, stderr=log)
        assert wait_until(self.follows, 180), self.log.read_text()[-3000:]

    def end(self) -> None:
        """SIGTERM to `weir up`; the kernel forwards on."""
        if self._up:
            self._up.terminate()
            self._up.wait(20)
            self._up = None

    def follows(self) -> bool:
        """Whether every service follows the log; one of several API servers may be away."""
        assert self._up
        assert self._up.poll() is None, self.log.read_text()[-3000:]
        processes = self.status().get("processes", [])
        return len(processes) == 7 and all(p["state"] in ("up", "following") or "cannot see" in p["reason"] for p in processes)

    # ── questions ──────────────────────────────────────────────────────────────────────────────────────────────────

    def ask(self, *words: str) -> Any:
        """The JSON that a command prints; nothing where it fails."""
        out = self.weir(*words, "-o", "json").stdout
        return json.loads(out) if out else []

    def weir(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.rig.run(LB, *self._weir(*words), cwd=ROOT, check=False)

    def status(self) -> dict[str, Any]:
        return self.ask("status") or {}

    def facts(self, after: int = 0) -> list[dict[str, Any]]:
        """Facts beyond a sequence, oldest first."""
        lines = self.weir("log", "tail", "-n", "100000", "-o", "jsonl").stdout.splitlines()
        return [fact for fact in map(json.loads, lines) if fact["sequence"] > after]

    def head(self) -> int:
        """The last sequence of the log."""
        return int(self.facts()[-1]["sequence"])

    def pids(self) -> dict[str, int]:
        return running(self.where)

    def kill(self, *services: str) -> None:
        """All at once; `weir up` starts them again."""
        pids = self.pids()
        for name in services:
            os.kill(pids[name], signal.SIGKILL)
        assert wait_until(lambda: all(self.pids().get(name) != pids[name] for name in services), 30)

    def maps(self) -> dict[str, dict[bytes, bytes]]:
        """What the plan has put into the kernel."""
        return {name: dict(Map.open(self.where.pins / f"v{LAYOUT}" / name).items()) for name in COUNTED}

    def settled(self, seconds: float = 120) -> float:
        """Waits until every service follows and the kernel holds what the log says; returns how long that took."""
        begun_s = time.monotonic()
        assert wait_until(lambda: self.follows() and self.weir("replay", "--diff").returncode == 0, seconds), self.weir("status").stdout
        return time.monotonic() - begun_s

    # ── Services ───────────────────────────────────────────────────────────────────────────────────────────────────

    def vips(self, namespace: str, name: str = "web", cluster: Cluster | None = None) -> list[str]:
        """What the Service's status tells its clients."""
        found = service_of(cluster or self.cluster, namespace, name)
        return [entry.get("ip") or entry["hostname"] for entry in found["status"].get("loadBalancer", {}).get("ingress", ())]

    def wait_vip(self, namespace: str, name: str = "web", cluster: Cluster | None = None) -> str:
        """The first VIP of the Service, once its status has one."""
        found = cluster or self.cluster
        found.wait_for(f"a VIP of {namespace}/{name}", lambda: self.vips(namespace, name, found))
        return self.vips(namespace, name, found)[0]

    def fetch(self, vip: str, port: int = 80, place: str = "client") -> str:
        """What answers there, "" where nothing does."""
        host = f"[{vip}]" if ":" in vip else vip
        return self.rig.run(place, "curl", "-s", "-m", "2", f"http://{host}:{port}/", check=False).stdout

    def answering(self, vip: str, tries: int = 12) -> set[str]:
        """The names of the pods that answer there; "" for a request without an answer."""
        return {(self.fetch(vip).split() or [""])[0] for _ in range(tries)}

    @contextlib.contextmanager
    def under_load(self, *vips: str, flows: int = 40) -> Iterator[Load]:
        """HTTP on kept and on new connections, and long flows; nothing may be lost."""
        targets = [word for vip in vips for word in ("--target", vip)]
        with Load(self.rig, *targets, "--port", "80", "--http", "16", "--rate", "300", "--flows", str(flows), "--nat") as load:
            yield load
            report = load.stop()
        print(f"\n{report.http.good} requests, {report.flows.sent} lines on flows, lost {report.lost}")
        assert report.lost == 0, report.errors
        assert report.http.good > 0

    def _weir(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "weir.cli", *words, "--instance", self.where.instance]

    def _clear(self) -> None:
        self.rig.run(LB, *self._weir("down"), cwd=ROOT, check=False)
        for path in (self.where.pins, self.where.state, self.where.run):
            shutil.rmtree(path, ignore_errors=True)
        self.log.unlink(missing_ok=True)


def path_of(namespace: str, name: str = "web") -> str:
    """Of a Service in the API."""
    return f"/api/v1/namespaces/{namespace}/services/{name}"


def service_of(cluster: Cluster, namespace: str, name: str = "web") -> Object:
    found: Object = cluster.api.get(path_of(namespace, name))
    return found


def is_gone(cluster: Cluster, path: str) -> bool:
    """Whether the API knows no object there."""
    try:
        cluster.api.get(path)
    except ApiError as error:
        return error.code == 404
    return False


def conditions_of(found: Object) -> dict[str, tuple[str, str]]:
    """type without its domain -> status and reason."""
    return {each["type"].rpartition("/")[2]: (each["status"], each["reason"]) for each in found.get("status", {}).get("conditions", ())}
