"""One control plane for all tests that need no machines, and one whole cluster for those that do; each made when first asked for."""

import os
from collections.abc import Iterator

import pytest

from tests.cluster.binaries import NoGo, binary
from tests.cluster.cluster import Cluster
from tests.cluster.machines import Machines, machines


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
    with Cluster("weircontrol") as found:
        yield found


@pytest.fixture(scope="session")
def site(built: None) -> Iterator[Machines]:
    """A cluster with all its machines."""
    if os.geteuid():
        pytest.skip("network namespaces need root")
    with machines("weirsite") as found:
        yield found
