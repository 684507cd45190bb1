"""How large the log may grow and how old its events may get, how near it is to that, and `weir log limit`.

A full log refuses writers and leaves traffic alone.  Room comes from an operator alone, by a limit: nothing is ever purged.
"""

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import typer

from weir.bus.access import BOOTSTRAP
from weir.bus.client import STATE, STREAM, Bus, seconds_of
from weir.bus.reader import Forbidden, LogError
from weir.bus.snapshots import Snapshot, newest
from weir.bus.streams import ensure_streams
from weir.cli.log.history import ask, connect

SIZE_BYTES, AGE_S = 1 << 30, 30 * 86400
ALARM_PERCENT = 80
LATE_SHARE_OF_AGE = 4  # without a snapshot for so large a part of what the history keeps
LEAST_FREE_BYTES = 16 << 20  # on the disk of the log: below, the server may store nothing
_NS = 1_000_000_000
_RETRY_S = 0.5
T = TypeVar("T")


class Limits(NamedTuple):
    """What an operator asked for; None: as the log has it, or as given above where it is new."""

    size_bytes: int | None = None
    age_s: int | None = None


class Alarm(NamedTuple):
    """reason: CamelCase, as a condition's."""

    reason: str
    message: str


async def apply_limits(bus: Bus, wanted: Limits) -> dict[str, Any]:
    """Gives the stream these limits and returns its info; events beyond a lower age go at once, a lower size takes nothing away."""
    info = await bus.stream()
    config = dict(info["config"])
    if wanted.size_bytes is not None:
        config["max_bytes"] = wanted.size_bytes
    if wanted.age_s is not None:
        config["max_age"] = wanted.age_s * _NS
    return info if config == info["config"] else await bus.api(f"STREAM.UPDATE.{STREAM}", config)


async def log_alarms(bus: Bus) -> list[Alarm]:
    """What an operator should see to before the log stops, or forgets."""
    state = await bus.stream(STATE)  # first, or an event in between would make it look too new
    return list(alarms(await bus.stream(), state, await newest(bus)))


def alarms(history: dict[str, Any], state: dict[str, Any], snapshot: Snapshot | None) -> Iterator[Alarm]:
    """The same.   history, state: info of the two streams."""
    used, most = history["state"]["bytes"], history["config"]["max_bytes"]
    if used * 100 >= most * ALARM_PERCENT:
        filled = f"{used:,} of {most:,} bytes ({used * 100 // most} %)"
        yield Alarm("LogFilling", f"the log holds {filled}: give it room with weir log limit --age AGE or --size SIZE")
    first, last = state["state"]["last_seq"], history["state"]["last_seq"]
    if first > last:
        yield Alarm("StateOfAnotherLog", f"{STATE} is at {first}, beyond the log's last event {last}: restore both from one backup")

    behind = last - (snapshot.sequence if snapshot else 0)
    since_s = seconds_of(history["ts"]) - (snapshot.taken_s if snapshot else seconds_of(history["state"]["first_ts"]))
    if behind > 0 and since_s > history["config"]["max_age"] / _NS / LATE_SHARE_OF_AGE:
        words = f"{behind:,} events, the oldest of {int(since_s) // 3600} h ago, are in no snapshot"
        yield Alarm("SnapshotLate", f"{words}: is ipam, which takes them, running?  What expires first cannot be shown later")


def disk_alarms(store: Path) -> Iterator[Alarm]:
    """The same of the disk that the log is on, where it is on this machine."""
    if store.exists() and (free := free_bytes(store)) < LEAST_FREE_BYTES:
        words = "a log on a full disk stores nothing; once there is room, weir up starts its server again"
        yield Alarm("DiskFull", f"{free:,} bytes free below {store}, expected at least {LEAST_FREE_BYTES:,}: {words}")


def free_bytes(store: Path) -> int:
    """Left for the log on its disk."""
    return shutil.disk_usage(store).free


def create(instance: str, wanted: Limits, replicas: int, timeout_s: float) -> None:
    """Create the log unless it exists, with these limits, and show its state."""

    async def question() -> dict[str, Any]:
        async with await connect(instance, BOOTSTRAP) as bus:
            await ensure_streams(bus, replicas=replicas, max_bytes=wanted.size_bytes or SIZE_BYTES, max_age_s=wanted.age_s or AGE_S)
            return await bus.stream()

    _show("is", ask(instance, answered(question, timeout_s)))


async def answered(question: Callable[[], Awaitable[T]], timeout_s: float) -> T:
    """The answer to `question`, asked again while NATS does not answer or has too few servers yet.

    Raises the last LogError once timeout_s are over, and Forbidden at once: waiting does not help an unknown key.
    """
    end_s, reported = time.monotonic() + timeout_s, ""
    while True:
        try:
            return await question()
        except Forbidden:
            raise
        except LogError as error:
            if time.monotonic() >= end_s:
                raise
            if str(error) != reported:
                reported = str(error)
                typer.echo(f"weir: waiting up to {timeout_s:.0f} s for the log: {error}", err=True)
        await asyncio.sleep(_RETRY_S)


def limit(instance: str, wanted: Limits) -> None:
    """Sets what is given, and shows how the log stands."""

    async def question() -> tuple[dict[str, Any], dict[str, Any]]:
        async with await connect(instance, BOOTSTRAP) as bus:
            return await bus.stream(), await apply_limits(bus, wanted)

    before, after = ask(instance, question())
    if before["config"] != after["config"]:
        _show("was", before)
    _show("is", after)


def _show(word: str, info: dict[str, Any]) -> None:
    most, age_h = info["config"]["max_bytes"], info["config"]["max_age"] // _NS // 3600
    first, last, used = (info["state"][name] for name in ("first_seq", "last_seq", "bytes"))
    typer.echo(f"the limit {word} {most:,} bytes and {age_h} h; events {first} to {last} take {used:,} bytes ({used * 100 // most} %)")
