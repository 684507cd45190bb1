"""Weir's processes: what each last reported, when, and how far it is behind the log.

On this machine they are read from the files in `run`; those of a cluster are heard at the log's server.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from weir.bus.client import Bus
from weir.bus.permissions import CENTRAL, OF_NODES, user
from weir.decider import World
from weir.lbnodes import counted
from weir.service.heartbeat import SILENT_S, age_s, heard, scheduled
from weir.view.value import View
from weir.where import Health, Where

SERVICES = ("watcher", "ipam", "planner", "dataplane", "health")
HELLO = "hello"  # runs beside those of nodes where there may be several; it writes no events
LISTEN_S = SILENT_S  # a heartbeat comes every 2 s
GOOD = ("up", "following")  # states of a healthy process


class ProcessView(View, frozen=True):
    """One process.

    state: up, starting, following, standby, degraded, silent or stuck.   heard_s: age of its last heartbeat, None before the first.
    position, behind: the last event it consumed, and how many are left; None for a process that consumes none, or is not responding.
    """

    name: str
    pid: int
    state: str
    reason: str = ""
    heard_s: float | None = None
    position: int | None = None
    kinds: tuple[str, ...] = ()
    behind: int | None = None

    @property
    def good(self) -> bool:
        return self.state in GOOD

    @property
    def started(self) -> bool:
        """Whether it has caught up with the log once; one that is degraded may have done so before."""
        return self.good or self.state == "standby" or (self.state == "degraded" and self.position != 0)


def processes(where: Where) -> list[ProcessView]:
    """Return `weir up` and each of its children; nothing where it is not up."""
    pids = running(where)
    found = [_process(where, name, pid) for name, pid in pids.items()]
    found += [ProcessView(name=name, pid=0, state="starting") for name in awaited(pids)]
    return found if awaits(found) else [replace(each, state="up") if _starts(each) else each for each in found]


def awaits(found: Iterable[ProcessView]) -> str:
    """Return what `weir up` waits for until each of its children has started, in words; "" once they have.  found: all of them."""
    children = [each for each in found if each.name != "up"]
    if not children:
        return "loading the packet path"
    waiting = [each.name for each in children if not each.started]
    return f"waiting for {', '.join(waiting)}" if waiting else ""


def starting(found: Sequence[ProcessView]) -> str:
    """The same while `weir up` starts; "" for a child that is started again later."""
    return awaits(found) if any(map(_starts, found)) else ""


def _starts(process: ProcessView) -> bool:
    return (process.name, process.state) == ("up", "starting")


def _process(where: Where, name: str, pid: int) -> ProcessView:
    health = heard(where, name, pid)
    if not health:
        state = "up" if name == "nats" else "starting"
        return ProcessView(name=name, pid=pid, state=state, reason=scheduled(pid).state)
    age = age_s(health, time.monotonic())
    if age > SILENT_S:
        reason = "; ".join(filter(None, (f"not heard for {age:.0f} s", scheduled(pid).state, health.reason)))
        return _reported(name, pid, health, "silent", reason, age)
    return _reported(name, pid, health, health.state, health.reason, age)


def _reported(name: str, pid: int, health: Health, state: str, reason: str, age: float) -> ProcessView:
    found = ProcessView(name=name, pid=pid, state=state, reason=reason, heard_s=round(age, 1))
    return replace(found, position=health.position, kinds=health.kinds) if health.kinds else found


async def remote(bus: Bus, world: World) -> list[ProcessView]:
    """Return each service of a log elsewhere, by its next heartbeat; silent where none arrives."""
    nodes = [seen.node for seen in counted(world)]
    expected = [*CENTRAL, *(user(service, node).name for service in OF_NODES for node in nodes)]
    reports: dict[str, Health] = {}
    complete = asyncio.Event()

    def take(author: str, report: bytes) -> None:
        with contextlib.suppress(msgspec.MsgspecError):  # of another version: nothing that could be shown
            reports[author] = msgspec.json.decode(report, type=Health)
        if reports.keys() >= set(expected):
            complete.set()

    await bus.listen(take)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LISTEN_S):
            await complete.wait()
    return [_heard_now(name, reports.get(name)) for name in expected]


def _heard_now(name: str, health: Health | None) -> ProcessView:
    if not health:
        return ProcessView(name=name, pid=0, state="silent", reason=f"not heard for {LISTEN_S:.0f} s")
    return _reported(name, health.pid, health, health.state, health.reason, 0.0)


async def with_lag(bus: Bus, found: Iterable[ProcessView]) -> list[ProcessView]:
    """Add how many events each has yet to consume; one that leaves them for long is stuck."""
    return [await _with_lag(bus, process) for process in found]


async def _with_lag(bus: Bus, process: ProcessView) -> ProcessView:
    if not process.position:
        return process
    async with bus.follow(process.position, process.kinds) as pull:
        behind = pull.pending
        entries = await pull.next() if behind else []
        waits_s = time.time() - entries[0].time_ns / 1e9 if entries else 0.0
    if waits_s > SILENT_S and process.state == "following":
        process = replace(process, state="stuck", reason=f"has not consumed an event for {waits_s:.0f} s")
    return replace(process, behind=behind)


def without_log(found: Sequence[ProcessView]) -> list[ProcessView]:
    """Mark NATS as silent where it runs and does not answer, or as starting."""
    state = "starting" if any(map(_starts, found)) else "silent"
    return [
        replace(process, state=state, reason="; ".join(filter(None, ("no answer", scheduled(process.pid).state))))
        if process.name == "nats" and process.pid
        else process
        for process in found
    ]


def running(where: Where) -> dict[str, int]:
    """Return the pids of an installation that is up, by name; empty when it is not."""
    pids = noted(where)
    return pids if "up" in pids and is_running(pids["up"], "weir") else {}


def awaited(pids: Mapping[str, int]) -> list[str]:
    """Return the children that are not started yet: they start one after another, the log first.  A box that joined has no log.

    None before the first, while the packet path is loaded.
    """
    if not pids.keys() - {"up"}:
        return []
    return [name for name in (SERVICES if "nats" in pids else (*OF_NODES, HELLO)) if name not in pids]


def noted(where: Where) -> dict[str, int]:
    """Return the content of `pids.json`; nothing where it is missing or damaged."""
    try:
        return msgspec.json.decode((where.run / "pids.json").read_bytes(), type=dict[str, int])
    except (OSError, msgspec.MsgspecError):
        return {}


def is_running(pid: int, word: str) -> bool:
    """Whether the process has this pid and `word` in its command line."""
    try:
        return word in Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return False
