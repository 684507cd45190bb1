"""What this machine says of itself to the hello process: its links, and its agent's heartbeat."""

import contextlib
import fcntl
import socket
import struct
from collections.abc import Collection
from pathlib import Path

import msgspec

from services.dataplane.hello.readiness import Agent
from weir.events import token
from weir.service.heartbeat import BEAT_S, BEATS_OF_MESSAGE, scheduled
from weir.where import Health, Where

_SIOCGIFFLAGS, _IFF_RUNNING = 0x8913, 0x40
_FOLLOWS = ("following", "degraded")  # the second once it has followed: something else is missing, or the log is gone


def carrier(wire: socket.socket, name: str) -> bool:
    """Whether an interface is up and has a carrier."""
    try:
        flags: int = struct.unpack("=16xH14x", fcntl.ioctl(wire, _SIOCGIFFLAGS, struct.pack("=16s16x", name.encode())))[0]
    except OSError:
        return False
    return bool(flags & _IFF_RUNNING)


def received(names: Collection[str]) -> dict[str, int]:
    """Return how many frames each interface has received; /proc follows the network namespace."""
    rows = (line.partition(":") for line in Path("/proc/net/dev").read_text(encoding="ascii", errors="replace").splitlines())
    return {name.strip(): int(rest.split()[1]) for name, colon, rest in rows if colon and name.strip() in names}


def neighbours(name: str) -> list[str]:
    """Return the IPv4 addresses of neighbours that the kernel knows on an interface, those in use first."""
    rows = (line.split() for line in Path("/proc/net/arp").read_text(encoding="ascii", errors="replace").splitlines()[1:])
    return [address for _, address in sorted((flags == "0x0", address) for address, _, flags, _, _, device in rows if device == name)]


class AgentWatch:
    """Reads the agent's heartbeats."""

    def __init__(self, where: Where, node: str) -> None:
        self._path, self._caught_up_ns = where.run / f"dataplane-{token(node)}.json", -1

    def look(self, began_ns: int, now_ns: int) -> Agent:
        """began_ns: when this process, or the whole machine, last stood still: what the agent had read until then may be old."""
        health = None
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            health = msgspec.json.decode(self._path.read_bytes(), type=Health)
        if health is None:
            return Agent(0.0, stopped=False, caught_up=False, follows=False)
        beats_ns = int(BEATS_OF_MESSAGE * BEAT_S * 1e9)
        if health.state in _FOLLOWS and health.position and health.beat_s * 1e9 > began_ns + beats_ns:
            self._caught_up_ns = now_ns
        stopped = "stopped" in scheduled(health.pid).state
        age_s, follows = max(0.0, now_ns / 1e9 - health.beat_s), health.state == _FOLLOWS[0]
        return Agent(age_s, stopped=stopped, caught_up=self._caught_up_ns >= began_ns, follows=follows and age_s < 3 * BEAT_S)
