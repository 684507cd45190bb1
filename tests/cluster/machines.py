"""A whole cluster on a rig: its control plane on one of the rig's machines, a kubelet on each of its nodes.

with machines("mytest") as found:
    found.cluster.api.apply(DEPLOYMENT)
    found.rig.run("client", "curl", "http://203.0.113.1/")
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tests.cluster.api import Object
from tests.cluster.binaries import binary
from tests.cluster.cluster import ROOT, Cluster
from tests.cluster.rig import LB, NODES, PODS, Kind, Rig

LB_LABEL = "weir.dev/lb"


class Machines:
    """The nodes of one cluster; leaving the rig ends all that runs on them."""

    def __init__(self, rig: Rig, cluster: Cluster, nodes: Iterable[str]) -> None:
        self.rig, self.cluster, self.nodes = rig, cluster, tuple(nodes)
        self._kubelets: dict[str, subprocess.Popen[str]] = {}
        self._proxies: dict[str, subprocess.Popen[str]] = {}

    def start(self, *nodes: str) -> None:
        """Starts the kubelets of nodes, all where none is named, and returns once those are Ready."""
        for node in nodes or self.nodes:
            self._kubelets[node] = self._run("kubelet", node, *self._kubelet(node))
        for node in nodes or self.nodes:
            path = f"/api/v1/nodes/{node}"
            self.cluster.wait_for(f"node {node} Ready", lambda path=path: _takes_pods(self.cluster.api.get(path)))

    def start_proxies(self) -> None:
        """kube-proxy on every node, in nftables mode; returns once each has written its rules."""
        for node in self.nodes:
            self._proxies[node] = self._run("kube-proxy", node, *self._proxy(node))
        for node in self.nodes:
            found = (node, "nft", "list", "table", "ip", "kube-proxy")
            try:
                self.cluster.wait_for(f"kube-proxy of {node}", lambda found=found: "kubernetes" in self.rig.run(*found, check=False).stdout)
            except AssertionError as late:
                late.add_note((self.cluster.folder / f"kube-proxy-{node}.log").read_text()[-3000:])
                raise

    def kill(self, node: str) -> None:
        """The kubelet; its pods run on."""
        process = self._kubelets.pop(node)
        process.kill()
        process.wait()

    def stop(self) -> None:
        """Kills all kubelets and kube-proxies."""
        for process in (*self._kubelets.values(), *self._proxies.values()):
            process.kill()
            process.wait()
        self._kubelets.clear()
        self._proxies.clear()

    def pods(self, namespace: str = "default", **labels: str) -> list[Object]:
        selector = ",".join(f"{name}={value}" for name, value in labels.items())
        return self.cluster.api.items(f"/api/v1/namespaces/{namespace}/pods", labelSelector=selector)

    def wait_ready(self, count: int, namespace: str = "default", **labels: str) -> list[Object]:
        """Returns the pods with these labels once there are `count`, none of them going, all Ready."""

        def ready() -> bool:
            found = [pod for pod in self.pods(namespace, **labels) if "deletionTimestamp" not in pod["metadata"]]
            return len(found) == count and all(condition(pod, "Ready") for pod in found)

        self.cluster.wait_for(f"{count} pods ready in {namespace}", ready)
        return self.pods(namespace, **labels)

    def volume(self, pod: Object, name: str) -> Path:
        """The folder behind a volume of a pod that runs."""
        meta = pod["metadata"]
        return self.cluster.folder / "nodes" / pod["spec"]["nodeName"] / "pods" / meta["namespace"] / meta["name"] / "volumes" / name

    def pod_namespace(self, pod: Object) -> str:
        """Of its network, as `ip netns` lists it."""
        return f"{self.cluster.name}-pod-{pod['metadata']['namespace']}-{pod['metadata']['name']}"

    def _run(self, what: str, node: str, *argv: str) -> subprocess.Popen[str]:
        with (self.cluster.folder / f"{what}-{node}.log").open("a") as log:
            return self.rig.popen(node, *argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _proxy(self, node: str) -> list[str]:
        flags = {
            "kubeconfig": str(self.cluster.kubeconfig),
            "proxy-mode": "nftables",
            "hostname-override": node,
            "cluster-cidr": PODS,
            "metrics-bind-address": "127.0.0.1:10249",
            **dict.fromkeys(("conntrack-max-per-core", "conntrack-min"), "0"),  # the kernel's own: not a namespace's to set
        }
        return [str(binary("cluster")), "kube-proxy", *(f"--{name}={value}" for name, value in flags.items())]

    def _kubelet(self, node: str) -> list[str]:
        rig = self.rig
        words = ["--cluster", self.cluster.name, "--kubeconfig", str(self.cluster.kubeconfig), "--node", node, "--mtu", str(rig.mtu(node))]
        words += [word for address in rig.node_addresses(node) for word in ("--address", address)]
        words += [word for network in rig.pod_networks(node) for word in ("--pods", network)]
        words += ["--apart"] if node == LB and rig.apart else []
        words += ["--claims"] if node == self.nodes[0] else []
        words += ["--label", f"network={rig.nodes[node]}", *(("--label", f"{LB_LABEL}=true") if node == LB else ())]
        return [sys.executable, "-m", "tests.cluster.kubelet", *words]


@contextlib.contextmanager
def machines(name: str, nodes: Mapping[str, Kind] = NODES, *, through_lb: bool = False, apart: bool = False) -> Iterator[Machines]:
    """One cluster with all the rig's nodes in it; gone at the end.  name, through_lb, apart: as Rig has them."""
    with Rig(name, nodes, through_lb=through_lb, apart=apart) as rig, cluster_on(rig) as found:
        found.start()
        found.start_proxies()
        yield found


@contextlib.contextmanager
def cluster_on(rig: Rig, control: str = "control", nodes: Iterable[str] = ()) -> Iterator[Machines]:
    """A cluster of some of the rig's nodes, all where none is named; their kubelets are not started yet."""
    name = rig.name if control == rig.controls[0] else f"{rig.name}-{control}"
    with Cluster(name, address=rig.control_address(control), command=rig.command(control)) as cluster:
        found = Machines(rig, cluster, nodes or rig.nodes)
        try:
            yield found
        finally:
            found.stop()


def _takes_pods(node: Object) -> bool:
    """Ready, and the controllers have taken note: until then it is tainted."""
    return condition(node, "Ready") and not node["spec"].get("taints")


def condition(found: Object, kind: str) -> bool:
    """Whether a condition of an object is True."""
    return any(one["type"] == kind and one["status"] == "True" for one in found.get("status", {}).get("conditions", ()))
