"""Alarms of the log: what an operator should act on before it stops storing events, or loses history."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from weir.bus.client import Bus
from weir.bus.snapshots import Snapshot, newest
from weir.bus.subjects import STATE
from weir.bus.times import seconds_of
from weir.view.value import View

ALARM_PERCENT = 80
LATE_SHARE_OF_AGE = 4  # an alarm once so large a part of the history's age has no snapshot
LEAST_FREE_BYTES = 16 << 20  # on the disk of the log: below, the server may store nothing
_NS = 1_000_000_000


class Alarm(View, frozen=True):
    """reason: CamelCase, as a condition's."""

    reason: str
    message: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


async def log_alarms(bus: Bus) -> list[Alarm]:
    """Return the alarms of the streams."""
    state = await bus.stream(STATE)  # first: an event in between would make it look too new
    return list(alarms(await bus.stream(), state, await newest(bus)))


def alarms(history: dict[str, Any], state: dict[str, Any], snapshot: Snapshot | None) -> Iterator[Alarm]:
    """Yield the alarms.   history, state: info of the two streams."""
    yield from _filling(history)
    first, last = state["state"]["last_seq"], history["state"]["last_seq"]
    if first > last:
        message = f"{STATE} is at {first}, beyond the log's last event {last}: restore both from one backup"
        yield Alarm(reason="StateOfAnotherLog", message=message)
    yield from _late(history, snapshot)


def _filling(history: dict[str, Any]) -> Iterator[Alarm]:
    used, most = history["state"]["bytes"], history["config"]["max_bytes"]
    if used * 100 >= most * ALARM_PERCENT:
        filled = f"{used:,} of {most:,} bytes ({used * 100 // most} %)"
        yield Alarm(reason="LogFilling", message=f"the log holds {filled}: make room with weir log limit --age AGE or --size SIZE")


def _late(history: dict[str, Any], snapshot: Snapshot | None) -> Iterator[Alarm]:
    behind = history["state"]["last_seq"] - (snapshot.sequence if snapshot else 0)
    since_s = seconds_of(history["ts"]) - (snapshot.taken_s if snapshot else seconds_of(history["state"]["first_ts"]))
    if behind > 0 and since_s > history["config"]["max_age"] / _NS / LATE_SHARE_OF_AGE:
        words = f"{behind:,} events, the oldest of {int(since_s) // 3600} h ago, are in no snapshot"
        yield Alarm(reason="SnapshotLate", message=f"{words}; check that ipam, which takes them, runs: events that expire first are lost")


def disk_alarms(store: Path) -> Iterator[Alarm]:
    """Yield the alarms of the disk that the log is on, where it is on this machine."""
    if store.exists() and (free := free_bytes(store)) < LEAST_FREE_BYTES:
        words = "a log on a full disk stores nothing; once there is room, weir up restarts its server"
        message = f"{free:,} bytes free below {store}, expected at least {LEAST_FREE_BYTES:,}: {words}"
        yield Alarm(reason="DiskFull", message=message)


def free_bytes(store: Path) -> int:
    """Return the free space on the log's disk."""
    return shutil.disk_usage(store).free
