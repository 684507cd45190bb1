"""One namespace and one compiled program of each hook for all rows."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.dataplane.load.preflight import preflight
from tests.dataplane.lab import Lab, namespace


def _missing() -> str | None:
    return "needs root" if os.geteuid() else None


needs_kernel = pytest.mark.skipif(_missing() is not None, reason=str(_missing()))


@pytest.fixture(scope="package", autouse=True)
def bpffs() -> None:
    """Tests pin maps; the loader, which mounts the file system for pins, may not have run on this machine before."""
    if not _missing():
        assert preflight(Path("/sys/fs/bpf/weir-test")) == []


@pytest.fixture(scope="package")  # the process is in its namespace, and on one processor, until it ends
def labs() -> Iterator[dict[str, Lab]]:
    if reason := _missing():
        pytest.skip(reason)
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    labs: dict[str, Lab] = {}
    try:
        with namespace(f"wb-{os.getpid()}"):
            for hook in ("tc", "xdp"):
                labs[hook] = Lab(hook)
            yield labs
    finally:
        for lab in labs.values():
            lab.close()
        os.sched_setaffinity(0, cpus)


@pytest.fixture(params=["tc", "xdp"])
def lab(labs: dict[str, Lab], request: pytest.FixtureRequest) -> Lab:
    lab = labs[request.param]
    lab.clear()
    return lab
