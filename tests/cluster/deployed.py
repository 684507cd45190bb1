"""Weir as pods of a cluster, from deploy/, and what a client outside sees of it."""

import subprocess
import sys
from pathlib import Path

from tests.cluster.api import Object
from tests.cluster.cluster import ROOT
from tests.cluster.machines import Machines, condition
from tests.cluster.rig import LB

OVERLAY = Path(__file__).with_name("deploy")
WEB = Path(__file__).with_name("web.yaml")
SPACE = "weir-system"
_READY_S = 180
_NATS = "nats://nats.weir-system.svc:4222"


class Deployed:
    """One deployment, applied as an operator does it.  keys: the folder that `weir credentials` made."""

    def __init__(self, site: Machines) -> None:
        self.site, self._cluster = site, site.cluster
        self.keys = site.cluster.folder / "keys"

    def apply(self, overlay: Path = OVERLAY) -> None:
        """Returns at once: pods wait for their secrets, services for the log."""
        self._cluster.install_gateway_api()
        self._cluster.kubectl("apply", "--server-side", "-k", str(overlay))
        argv = [sys.executable, "-m", "weir.cli", "credentials", str(self.keys), "--node", LB]
        subprocess.run(argv, check=True, capture_output=True, cwd=ROOT)
        self._cluster.kubectl("apply", "-f", str(self.keys / "secrets.yaml"))

    def wait(self) -> None:
        """Until every pod is Ready, or through where it is a Job's."""
        try:
            self._cluster.wait_for(f"the pods of {SPACE}", self._all_well, _READY_S)
        except AssertionError as late:
            late.add_note(self._cluster.log("kube-scheduler").read_text()[-3000:])
            for pod in self.site.pods(SPACE):
                if not _well(pod):
                    words = self._cluster.kubectl(
                        "logs", "-n", SPACE, pod["metadata"]["name"], "--all-containers", "--tail=5", check=False
                    ).stdout
                    late.add_note(f"{pod['metadata']['name']}: {pod['status']}\n{words}"[:5000])
            raise

    def _all_well(self) -> bool:
        found = self.site.pods(SPACE)
        return bool(found) and all(map(_well, found))

    def weir(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A `weir` command on the LB node, as the operator."""
        return subprocess.run(self.command(*words), text=True, capture_output=True, check=False, cwd=ROOT)

    def command(self, *words: str) -> list[str]:
        """As it is run from anywhere: on the LB node, with its BPF file system and the cluster's names."""
        access = {"WEIR_NATS": _NATS, "WEIR_NATS_SEED": f"{self.keys}/operator.seed", "WEIR_NATS_CA": f"{self.keys}/ca.crt"}
        env = ["env", *(f"{name}={value}" for name, value in access.items())]
        return [*self.site.inside(LB), *env, sys.executable, "-m", "weir.cli", *words]


def vips(site: Machines, namespace: str = "default", name: str = "web") -> list[str]:
    """What a Service's status tells its clients; raises LookupError before it does."""
    status = site.cluster.api.get(f"/api/v1/namespaces/{namespace}/services/{name}")["status"]
    return [str(one["ip"]) for one in status["loadBalancer"]["ingress"]]


def _well(pod: Object) -> bool:
    return bool(condition(pod, "Ready") or pod["status"]["phase"] == "Succeeded")
