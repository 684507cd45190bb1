"""Reads the log for the commands: the world as of now or of a moment, entries one by one."""

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import typer

from weir.bus import Bus
from weir.decider import Index, World
from weir.reader import Entry, LogError, LogUnreachable
from weir.where import Where

T = TypeVar("T")


class Unanswerable(Exception):
    """The log is there and has no answer to this.  React: tell whoever asked."""


def ask(instance: str, question: "Coroutine[Any, Any, T]") -> T:
    """Runs one question to the log; says so and ends with 1 where it has no answer, with 2 where it cannot be reached."""
    try:
        return asyncio.run(question)
    except Unanswerable as error:
        typer.echo(f"weir: {error}", err=True)
        raise typer.Exit(1) from error
    except LogError as error:
        typer.echo(f"weir: the log of instance {instance} cannot be read: {error}", err=True)
        raise typer.Exit(2) from error


async def connect(instance: str) -> Bus:
    """A connection to the instance's log.  Raises LogUnreachable; another instance's log is never taken for it."""
    named = Where(instance).state / "nats.url"
    if "WEIR_NATS" not in os.environ and not named.exists():
        raise LogUnreachable(f"no such instance on this machine ({named} is not there), and WEIR_NATS names no log elsewhere")
    return await Bus.connect(Where(instance).nats_url(), "cli")


async def entries(bus: Bus, start: int, end: int | None = None, kinds: Sequence[str] = ()) -> AsyncIterator[Entry]:
    """History from `start` to `end`, both within; to the head as it is now, when `end` is None.  kinds: all, when empty."""
    async with bus.follow(start - 1, kinds) as pull:
        if end is not None and end < start:
            return
        while pull.pending:
            for entry in await pull.next():
                if end is not None and entry.fact.seq > end:
                    return
                yield entry


async def world_at(bus: Bus, moment: str, indexes: Mapping[str, Index] | None = None) -> tuple[World, int]:
    """The world as of a sequence or time, and the sequence it stands at; as of now from STATE, when `moment` is empty."""
    world, last = World(indexes), 0
    if not moment:
        async for batch in bus.state():
            for entry in batch:
                last = world.evolve(entry.fact).fact.seq
        async for entry in entries(bus, last + 1):
            last = world.evolve(entry.fact).fact.seq
        return world, last
    end = await sequence_of(bus, moment)
    state = (await bus.stream())["state"]
    if end < state["first_seq"]:
        raise Unanswerable(f"{moment} is before the first fact that the log holds, {state['first_seq']}")
    async for entry in entries(bus, 1, end):
        last = world.evolve(entry.fact).fact.seq
    return world, last


async def sequence_of(bus: Bus, moment: str) -> int:
    """The last sequence at a moment: itself for a number; for a time, the last before the next one begins."""
    if moment.isdecimal():
        return int(moment)
    try:
        time = datetime.fromisoformat(moment)
    except ValueError as error:
        raise Unanswerable(f"{moment!r} is no moment, expected a sequence or a time as in 2026-11-24T14:03 (UTC)") from error
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    return await bus.since(time.isoformat().replace("+00:00", "Z")) - 1


def when(time_ns: int) -> datetime:
    """The microsecond, in UTC, that has begun: never a later one, or the log up to then would hold more."""
    seconds, rest_ns = divmod(time_ns, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest_ns // 1000)


def clock(time_ns: int) -> str:
    """Month, day and time in UTC with milliseconds."""
    return when(time_ns).strftime("%m-%d %H:%M:%S.%f")[:-3]
