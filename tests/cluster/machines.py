"""A whole cluster on a rig: its control plane on one of the rig's machines, a real kubelet and containerd on each of its nodes.

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
from tests.cluster.containers import store
from tests.cluster.node import APART, Node, end, first_process, sweep
from tests.cluster.rig import LB, NODES, PODS, Kind, Rig

LB_LABEL = "weir.dev/lb"
_INSTANCES, _ENOUGH = Path("/proc/sys/fs/inotify/max_user_instances"), 2048


class Machines:
    """The nodes of one cluster; leaving the rig ends all that runs on them."""

    def __init__(self, rig: Rig, cluster: Cluster, nodes: Iterable[str], control: str, images: Path | None = None) -> None:
        """control: the place of its control plane.   images: an OCI layout, as `store` has it."""
        self._images = images
        self.rig, self.cluster, self.nodes, self._control = rig, cluster, tuple(nodes), control
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._others: dict[str, subprocess.Popen[str]] = {}
        self._held = contextlib.ExitStack()

    def start(self) -> None:
        """Starts every node, and returns once all are Ready.  Raises BuildError."""
        _watch_more()
        images = self._held.enter_context(store(self._images))
        words = (
            "--kubeconfig",
            str(self.cluster.kubeconfig),
            "--address",
            self.cluster.address,
            "--claims",
            str(self.cluster.folder / "claims"),
        )
        self._others["addons"] = self._run("addons", self._control, sys.executable, "-m", "tests.cluster.addons", *words)
        for name in self.nodes:
            made = self._node(name)
            made.prepare(images)
            self._running[name] = self._run("node", name, *made.command())
        self.cluster.api.apply({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": APART}, "handler": APART})
        for name in self.nodes:
            self._wait_node(name)

    def _wait_node(self, name: str) -> None:
        path = f"/api/v1/nodes/{name}"
        try:
            self.cluster.wait_for(f"node {name} Ready", lambda: _takes_pods(self.cluster.api.get(path)))
        except AssertionError as late:
            folder = self._node(name).folder
            for log in (self.cluster.folder / f"node-{name}.log", folder / "containerd.log", folder / "kubelet.log"):
                late.add_note(f"{log.name}: {log.read_text()[-2000:] if log.exists() else 'none'}")
            raise

    def start_proxies(self) -> None:
        """kube-proxy on every node, in nftables mode; returns once each has written its rules."""
        for node in self.nodes:
            self._others[f"proxy of {node}"] = self._run("kube-proxy", node, *self._proxy(node))
        for node in self.nodes:
            found = (node, "nft", "list", "table", "ip", "kube-proxy")
            try:
                self.cluster.wait_for(f"kube-proxy of {node}", lambda found=found: "kubernetes" in self.rig.run(*found, check=False).stdout)
            except AssertionError as late:
                late.add_note((self.cluster.folder / f"kube-proxy-{node}.log").read_text()[-3000:])
                raise

    def inside(self, node: str) -> list[str]:
        """Words before a command that run it on a node, with its file systems.  Raises LookupError once the node has ended."""
        return ["nsenter", f"--target={first_process(self._running[node])}", "--mount", "--net", "--uts"]

    def processes(self) -> list[int]:
        """The first one of each node."""
        return [first_process(process) for process in self._running.values()]

    def stop(self) -> None:
        """Ends all nodes and kube-proxies at once."""
        for process in self._running.values():
            end(process)
        for process in self._others.values():
            process.kill()
            process.wait()
        sweep(self.cluster.name)
        self._running.clear()
        self._others.clear()
        self._held.close()

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
        """The folder behind an emptyDir of a pod that runs."""
        pods = self._node(pod["spec"]["nodeName"]).folder / "kubelet" / "pods"
        return pods / str(pod["metadata"]["uid"]) / "volumes" / "kubernetes.io~empty-dir" / name

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

    def _node(self, name: str) -> Node:
        rig = self.rig
        return Node(
            cluster=self.cluster.name,
            name=name,
            folder=self.cluster.folder / "nodes" / name,
            kubeconfig=self.cluster.kubeconfig,
            addresses=rig.node_addresses(name),
            pods=rig.pod_networks(name),
            mtu=rig.mtu(name),
            dns=self.cluster.address,
            labels={"network": rig.nodes[name], **({LB_LABEL: "true"} if name == LB else {})},
        )


@contextlib.contextmanager
def machines(name: str, nodes: Mapping[str, Kind] = NODES, *, through_lb: bool = False, apart: bool = False) -> Iterator[Machines]:
    """One cluster with all the rig's nodes in it; gone at the end.  name, through_lb, apart: as Rig has them."""
    with Rig(name, nodes, through_lb=through_lb, apart=apart) as rig, cluster_on(rig) as found:
        found.start()
        found.start_proxies()
        yield found


@contextlib.contextmanager
def cluster_on(rig: Rig, control: str = "control", nodes: Iterable[str] = (), images: Path | None = None) -> Iterator[Machines]:
    """A cluster of some of the rig's nodes, all where none is named; their kubelets are not started yet."""
    name = rig.name if control == rig.controls[0] else f"{rig.name}-{control}"
    with Cluster(name, address=rig.control_address(control), command=rig.command(control)) as cluster:
        found = Machines(rig, cluster, nodes or rig.nodes, control, images)
        try:
            yield found
        finally:
            found.stop()


def _watch_more() -> None:
    """The kubelet and containerd of one node take nine instances of inotify, and 128 are all that a user has by default."""
    if int(_INSTANCES.read_text()) < _ENOUGH:
        _INSTANCES.write_text(str(_ENOUGH))


def _takes_pods(node: Object) -> bool:
    """Ready, and the controllers have taken note: until then it is tainted."""
    return condition(node, "Ready") and not node["spec"].get("taints")


def condition(found: Object, kind: str) -> bool:
    """Whether a condition of an object is True."""
    return any(one["type"] == kind and one["status"] == "True" for one in found.get("status", {}).get("conditions", ()))
