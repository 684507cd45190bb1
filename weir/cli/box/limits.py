"""Limits of the log: size of the history and age of its events (`weir log limit`).

A full log refuses appends and does not affect traffic.  An operator makes room by changing a limit; nothing is purged.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

import typer

from weir.bus.access import BOOTSTRAP
from weir.bus.client import Bus
from weir.bus.reader import Forbidden, LogError
from weir.bus.streams import ensure_streams
from weir.bus.subjects import STREAM
from weir.cli.ask import ask
from weir.view.history import connect

SIZE_BYTES, AGE_S = 1 << 30, 30 * 86400
_NS = 1_000_000_000
_RETRY_S = 0.5
T = TypeVar("T")


class Limits(NamedTuple):
    """Limits that an operator requested; None: unchanged, or the default of a new log."""

    size_bytes: int | None = None
    age_s: int | None = None


async def apply_limits(bus: Bus, wanted: Limits) -> dict[str, Any]:
    """Set limits and return the stream's info.  A lower age drops older events at once, a lower size drops none."""
    info = await bus.stream()
    config = dict(info["config"])
    if wanted.size_bytes is not None:
        config["max_bytes"] = wanted.size_bytes
    if wanted.age_s is not None:
        config["max_age"] = wanted.age_s * _NS
    return info if config == info["config"] else await bus.api(f"STREAM.UPDATE.{STREAM}", config)


def create(instance: str, wanted: Limits, replicas: int, timeout_s: float) -> None:
    """Create the log unless it exists, with these limits, and show its state."""

    async def question() -> dict[str, Any]:
        async with await connect(instance, BOOTSTRAP) as bus:
            await ensure_streams(bus, replicas=replicas, max_bytes=wanted.size_bytes or SIZE_BYTES, max_age_s=wanted.age_s or AGE_S)
            return await bus.stream()

    _show("is", ask(instance, answered(question, timeout_s)))


async def answered(question: Callable[[], Awaitable[T]], timeout_s: float) -> T:
    """Run `question`, again while NATS does not answer or has too few servers.

    Raises the last LogError after timeout_s, and Forbidden at once: waiting does not help an unknown key.
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
    """Change the limits that are given, and show the log's size and limits."""

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
