"""One control plane for all tests that need no machines, and one whole cluster for those that do; each made when first asked for."""

import contextlib
import fcntl
import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.binaries import NoGo, binary
from tests.cluster.cluster import Cluster
from tests.cluster.machines import Machines, machines

COUNT = itertools.count(1)


@pytest.fixture(scope="session")
def root() -> None:
    """Asked for before `built`: nothing is built in vain."""
    if os.geteuid():
        pytest.skip("network namespaces and BPF need root")


@pytest.fixture(scope="session")
def built() -> None:
    """The cluster's programs are there.  The first build on a machine takes minutes."""
    try:
        binary("cluster")
    except NoGo as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def cluster(built: None) -> Iterator[Cluster]:
    """A control plane without nodes; tests take namespaces of their own."""
    with unused("weirctl") as name, Cluster(name) as found:
        yield found


@pytest.fixture(scope="session")
def site(root: None, built: None) -> Iterator[Machines]:
    """A cluster with all its machines."""
    with unused("weirsite") as name, machines(name) as found:
        yield found


@pytest.fixture
def space(site: Machines) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"test-{next(COUNT)}"
    site.cluster.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    site.cluster.wait_for("its account", lambda: site.cluster.api.get(f"/api/v1/namespaces/{name}/serviceaccounts/default"))
    yield name
    site.cluster.api.delete(f"/api/v1/namespaces/{name}")


@contextlib.contextmanager
def unused(prefix: str) -> Iterator[str]:
    """A name that no other run of the tests has: the first that is free, so that what a killed run left is replaced soon."""
    for number in itertools.count(1):
        with (Path(tempfile.gettempdir()) / f".{prefix}{number}.lock").open("w") as lock, contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield f"{prefix}{number}"
            return
