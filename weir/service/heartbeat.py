"""Heartbeats: each service rewrites its file in `run` every second, from its event loop.

A process that is stopped, or whose loop hangs, cannot keep its file fresh: the age of the file's content is the proof.
Ages are differences of the monotonic clock, which all processes of a machine share and nobody sets.
"""

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from weir.where import Health, Where

BEAT_S: Final = 1.0
BEATS_OF_MESSAGE: Final = 2  # between messages to who listens at the log's server
SILENT_S: Final = 5.0  # a service that was not heard for longer is reported
HUNG_S: Final = 15.0  # and restarted, unless it computes
BUSY_MOST_S: Final = 600.0  # a start with very many Services may hold the loop, but not indefinitely
_TICKS_PER_S: Final = 100  # USER_HZ of proc(5), the same on every architecture
_STATES: Final = {"T": "stopped by a signal", "t": "stopped by a debugger", "D": "waiting for a disk or the kernel", "Z": "ended"}


def heard(where: Where, name: str, pid: int) -> Health | None:
    """Return the last report of a service in this life; None before the first."""
    for file in sorted(where.run.glob(f"{name}*.json")):
        with contextlib.suppress(OSError, msgspec.MsgspecError):  # a file that is none of ours says nothing
            health = msgspec.json.decode(file.read_bytes(), type=Health)
            if health.pid == pid:
                return health
    return None


def age_s(health: Health, now_s: float) -> float:
    """Return the age of a report."""
    return max(0.0, now_s - health.beat_s)


class Scheduled(NamedTuple):
    """A process as the kernel sees it."""

    state: str  # in words, "" where there is nothing to say
    cpu_s: float


def scheduled(pid: int) -> Scheduled:
    """Whether a process is stopped, and the CPU time it has used."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return Scheduled(_STATES["Z"], 0.0)
    return Scheduled(_STATES.get(fields[0], ""), (int(fields[11]) + int(fields[12])) / _TICKS_PER_S)


class Child(NamedTuple):
    """A child process at one moment.  beat_s: time of its last heartbeat, None before the first."""

    name: str
    pid: int
    beat_s: float | None
    cpu_s: float


class Watch:
    """Decide which children hang, checked about once a second.  A pause of the whole machine is no child's fault."""

    def __init__(self, now_s: float) -> None:
        self._looked_s = self._since_s = now_s
        self._worked: dict[int, tuple[float, float]] = {}  # pid -> CPU time used, and when it last grew

    def hung(self, now_s: float, children: Iterable[Child]) -> list[tuple[str, float]]:
        """Return the children that must be killed, with the seconds for which each was silent."""
        if now_s - self._looked_s > 3 * BEAT_S:
            self._since_s = now_s  # this process did not run either
        self._looked_s = now_s
        worked, self._worked = self._worked, {}
        found = []
        for child in children:
            used_s, grew_s = worked.get(child.pid, (child.cpu_s, now_s))
            grew_s = now_s if child.cpu_s > used_s else grew_s
            self._worked[child.pid] = (child.cpu_s, grew_s)
            silent_s = now_s - max(self._since_s, child.beat_s or 0.0)
            idle_s = min(silent_s, now_s - grew_s)
            if child.beat_s is not None and (idle_s > HUNG_S or silent_s > BUSY_MOST_S):
                found.append((child.name, silent_s))
        return found
