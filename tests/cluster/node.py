"""A real node: a kubelet and a containerd of their own in namespaces of their own, on one of the rig's machines.

node.sh makes it.  Nothing of it outlives its first process but its folder and its empty cgroups.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from tests.cluster.binaries import NODE, ROOT, binary
from tests.cluster.containers import settings, take
from tests.cluster.image_build import PAUSE

SCRIPT = Path(__file__).with_name("node.sh")
PRIVATE = ("unshare", "--mount", "--propagation", "private")
APART = "apart"  # the runtime class of pods with an interface of the node each


class Node(msgspec.Struct, frozen=True):
    """What a node is made of.  addresses, pods: IPv4 first; dns: of the cluster's names; server: of the API, host and port."""

    cluster: str
    name: str
    folder: Path
    kubeconfig: Path
    addresses: tuple[str, str]
    pods: tuple[str, str]
    mtu: int
    dns: str
    labels: Mapping[str, str]

    @property
    def group(self) -> str:
        """Of its processes."""
        return f"weir-{self.cluster}-{self.name}"

    def prepare(self, store: Path) -> None:
        """Writes all its files, once.   store: of images."""
        if not self.folder.exists():
            (self.folder / "cni").mkdir(parents=True)
            (self.folder / "apart").mkdir()
            (self.folder / "plugins").mkdir()
            take(store, self.folder / "containerd")
            self._write_network()
            (self.folder / "containerd.toml").write_text(self._containerd())
            (self.folder / "kubelet.json").write_bytes(msgspec.json.encode(self._kubelet()))
            (self.folder / "upstream.conf").write_text("")
            (self.folder / "resolv.conf").write_text(f"nameserver {self.dns}\nsearch cluster.local\noptions ndots:5\n")

    def command(self) -> list[str]:
        """Words that run it in the network namespace they are run in."""
        flags = {
            "config": str(self.folder / "kubelet.json"),
            "kubeconfig": str(self.kubeconfig),
            "hostname-override": self.name,
            "node-ip": ",".join(self.addresses),
            "node-labels": ",".join(f"{name}={value}" for name, value in self.labels.items()),
            "root-dir": str(self.folder / "kubelet"),
            "cert-dir": str(self.folder / "kubelet" / "pki"),
        }
        words = [*PRIVATE, "env", f"PATH={_path()}", "sh", str(SCRIPT), "run", str(self.folder), self.group]
        return [*words, *(f"--{name}={value}" for name, value in flags.items())]

    def _containerd(self) -> str:
        runc = "io.containerd.cri.v1.runtime'.containerd.runtimes"
        runtimes = "".join(
            f"[plugins.'{runc}.{name}]\nruntime_type = 'io.containerd.runc.v2'\ncni_conf_dir = '{self.folder / conf}'\n"
            f"[plugins.'{runc}.{name}.options]\nBinaryName = '{binary('runc')}'\n"
            for name, conf in {"runc": "cni", APART: "apart"}.items()
        )
        return settings(self.folder / "containerd", Path("/run/containerd")) + (
            f"[plugins.'io.containerd.cri.v1.images'.pinned_images]\nsandbox = '{PAUSE}'\n"
            "[plugins.'io.containerd.cri.v1.runtime']\nrestrict_oom_score_adj = true\n"
            "[plugins.'io.containerd.cri.v1.runtime'.cni]\n"
            f"bin_dirs = ['{binary('bridge').parent}', '{self.folder / 'plugins'}']\nconf_dir = '{self.folder / 'cni'}'\n{runtimes}"
        )

    def _kubelet(self) -> dict[str, object]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "failCgroupV1": False,
            "cgroupDriver": "cgroupfs",
            "failSwapOn": False,
            "protectKernelDefaults": True,
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "address": self.addresses[0],
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "clusterDomain": "cluster.local",
            "clusterDNS": [self.dns],
            "resolvConf": str(self.folder / "upstream.conf"),
            "volumePluginDir": str(self.folder / "kubelet" / "plugins"),
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%", "nodefs.inodesFree": "1%"},
            "imageGCHighThresholdPercent": 100,
            "kubeAPIQPS": 200,
            "kubeAPIBurst": 400,
        }

    def _write_network(self) -> None:
        ipam = {
            "type": "host-local",
            "dataDir": "/run/cni",
            "ranges": [[{"subnet": network}] for network in self.pods],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        }
        bridge = {
            "type": "bridge",
            "bridge": "pods",
            "isGateway": True,
            "ipMasq": False,
            "hairpinMode": True,
            "mtu": self.mtu,
            "ipam": ipam,
        }
        apart = {"type": APART, "mtu": self.mtu, "ipam": ipam}
        for folder, plugin in {"cni": bridge, "apart": apart}.items():
            found = {"cniVersion": "1.0.0", "name": "pods", "plugins": [plugin]}
            (self.folder / folder / "pods.conflist").write_bytes(msgspec.json.encode(found))
        script = self.folder / "plugins" / APART
        script.write_text(f"#!/bin/sh\ncd {ROOT} && PATH={_path()} exec {sys.executable} -m tests.cluster.apart\n")
        script.chmod(0o755)


def first_process(outside: subprocess.Popen[str]) -> int:
    """The pid of a node's first process, for nsenter; outside: its command.  Raises LookupError once it has ended."""
    with contextlib.suppress(OSError, ValueError):
        return int(Path(f"/proc/{outside.pid}/task/{outside.pid}/children").read_text().split()[0])
    raise LookupError(f"node {outside.args!r} has ended")


def family(pid: int) -> Iterator[int]:
    """A process and all that come from it."""
    yield pid
    with contextlib.suppress(OSError):
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in path.read_text().split():
                yield from family(int(child))


def end(outside: subprocess.Popen[str]) -> None:
    """The whole node at once: with its first process go all the others."""
    with contextlib.suppress(LookupError, ProcessLookupError):
        os.kill(first_process(outside), signal.SIGKILL)
    outside.wait()


def sweep(cluster: str) -> None:
    """Removes cgroups that nodes of a cluster have left, once their processes have ended."""
    subprocess.run([*PRIVATE, "sh", str(SCRIPT), "sweep", f"weir-{cluster}"], check=True)


def _path() -> str:
    folders: Sequence[str] = list(dict.fromkeys(str(binary(name).parent) for name in NODE))
    return ":".join([*folders, "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"])
