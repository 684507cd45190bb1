"""What stands behind the name of an image: a program of this machine instead of a file system."""

import sys
from collections.abc import Callable
from pathlib import Path

from tests.cluster.binaries import binary

Entrypoint = Callable[[], list[str]]
SERVICES = ("watcher", "ipam", "planner", "dataplane", "health")


def entrypoint(image: str) -> list[str]:
    """The command that an image would bring along.  Raises KeyError for an image that nothing stands for."""
    name = image.partition("@")[0].rpartition("/")[2].partition(":")[0].removeprefix("weir-")
    return _KNOWN[name]()


def _python(*words: str) -> Entrypoint:
    return lambda: [sys.executable, *words]


_KNOWN: dict[str, Entrypoint] = {
    **{name: _python("-m", f"services.{name}") for name in SERVICES},
    "loader": _python("-m", "services.dataplane.stay"),
    "weir": _python("-m", "weir.cli"),
    "backend": _python("-m", "tests.cluster.echo"),
    "nats": lambda: [str(Path(sys.executable).with_name("nats-server"))],
    "echo-basic": lambda: [str(binary("echo-basic"))],
    "coredns": _python("-m", "tests.cluster.names"),
    "pause": lambda: ["sleep", "infinity"],
}
