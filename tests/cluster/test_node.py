"""What a node leaves behind: nothing, also where the run that started it was killed."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import ROOT
from tests.cluster.conftest import unused
from tests.cluster.containers import store
from tests.cluster.node import Node, end, family, first_process
from tests.cluster.rig import Rig
from weir.demo.network import wait_until

NAME = "n1"


@pytest.fixture
def rig(root: None, built: None) -> Iterator[Rig]:
    with unused("weirnode") as name, Rig(name, {NAME: "routed"}) as found:
        yield found


@pytest.fixture
def running(rig: Rig, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A node whose kubelet knows no cluster, once its containerd answers."""
    with store() as images:
        node = Node(
            cluster=rig.name,
            name=NAME,
            folder=tmp_path / NAME,
            kubeconfig=tmp_path / "none.kubeconfig",
            addresses=rig.node_addresses(NAME),
            pods=rig.pod_networks(NAME),
            mtu=rig.mtu(NAME),
            dns="127.0.0.1",
            labels={},
        )
        node.prepare(images)
        process = rig.popen(NAME, *node.command(), cwd=ROOT)
        assert wait_until(lambda: "containerd successfully booted" in _log(node), 60), _log(node)
        yield process
        process.kill()
        process.wait()


def test_a_node_that_is_ended_leaves_nothing(rig: Rig, running: subprocess.Popen[str]) -> None:
    pids = set(family(first_process(running)))
    assert len(pids) > 1
    assert _groups(rig)
    end(running)
    assert not any(_runs(pid) for pid in pids)
    rig.destroy()
    assert not _groups(rig)


def test_what_a_killed_run_left_is_removed_with_its_network(rig: Rig, running: subprocess.Popen[str]) -> None:
    pids = set(family(first_process(running)))
    Rig(rig.name, {NAME: "routed"}).destroy()
    assert wait_until(lambda: not any(_runs(pid) for pid in pids), 10)
    assert not _groups(rig)


def test_several_runs_share_a_store(root: None, built: None) -> None:
    with store() as one, store() as other:
        assert one == other


def _log(node: Node) -> str:
    path = node.folder / "containerd.log"
    return path.read_text() if path.exists() else ""


def _groups(rig: Rig) -> list[Path]:
    return [path for path in Path("/sys/fs/cgroup").rglob(f"weir-{rig.name}-*") if path.is_dir()]


def _runs(pid: int) -> bool:
    return Path(f"/proc/{pid}/exe").exists()
