"""Weir as processes of a cluster's LB node: `weir up --cluster`, with the cluster's kubeconfig, and nothing of it in the cluster."""

import json
import shutil
import subprocess
import sys
from types import TracebackType
from typing import Any, Self

from tests.cluster.cluster import ROOT, Cluster
from tests.cluster.rig import LB, Rig
from weir.where import Where

INTERFACES = ("front", "back", "overlay", "pods")  # packets of clients, nodes, pods of overlay nodes, and pods of the LB node itself


class Weir:
    """One installation, named like its rig; gone at the end."""

    def __init__(self, rig: Rig, *clusters: Cluster, options: tuple[str, ...] = ("--mode", "onearm")) -> None:
        self.where, self._rig, self._clusters, self._options = Where(rig.name), rig, clusters, options
        self.log = clusters[0].folder / "weir.log"

    def __enter__(self) -> Self:
        words = [word for cluster in self._clusters for word in ("--cluster", f"{cluster.name}={cluster.kubeconfig}")]
        words += [word for interface in INTERFACES for word in ("--interface", interface)]
        with self.log.open("a") as log:
            argv = self._command("up", "--node", LB, *words, *self._options)
            self._process = self._rig.popen(LB, *argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._process.terminate()
        self._process.wait()
        self._rig.run(LB, *self._command("down"), check=False)
        for path in (self.where.pins, self.where.state, self.where.run):
            shutil.rmtree(path, ignore_errors=True)

    def ask(self, *words: str) -> Any:
        """The JSON that a `weir` command prints."""
        return json.loads(self._rig.run(LB, *self._command(*words), "-o", "json", cwd=ROOT).stdout)

    def running(self) -> bool:
        """Raises RuntimeError when `weir up` has ended, with its last words."""
        if self._process.poll() is not None:
            raise RuntimeError(f"`weir up` ended with code {self._process.returncode}: {self.log.read_text()[-2000:]}")
        return True

    def _command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "weir.cli", *words, "--instance", self.where.instance]
