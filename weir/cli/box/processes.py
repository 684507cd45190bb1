"""How Weir's processes on this machine are: what each last reported, when, and how far it is behind the log."""

import asyncio
import contextlib
import time

import msgspec

from weir.bus.client import Bus
from weir.bus.permissions import CENTRAL, OF_NODES, user
from weir.cli.box.supervise import awaited, running
from weir.cli.output import Row
from weir.decider import World
from weir.lbnodes import counted
from weir.service.heartbeat import SILENT_S, age_s, heard, scheduled
from weir.where import Health, Where

LISTEN_S = SILENT_S  # a sign of life comes each 2 s
GOOD = ("up", "following")  # states of a process that is well


def processes(where: Where) -> list[Row]:
    """A row for each child of `weir up` and for itself; empty where it is not up.  heard_s: None where it gave no sign of life yet."""
    pids = running(where)
    rows = [_row(where, name, pid) for name, pid in pids.items()]
    return [*rows, *(_told(name, 0, "starting") for name in (awaited(pids) if pids else ()))]


def _row(where: Where, name: str, pid: int) -> Row:
    health = heard(where, name, pid)
    if not health:
        return _told(name, pid, "up" if name in ("up", "nats") else "starting", scheduled(pid).state)
    age = age_s(health, time.monotonic())
    if age > SILENT_S:
        reason = "; ".join(filter(None, (f"not heard for {age:.0f} s", scheduled(pid).state, health.reason)))
        return _told(name, pid, "silent", reason, health, age)
    return _told(name, pid, health.state, health.reason, health, age)


def _told(name: str, pid: int, state: str, reason: str = "", health: Health | None = None, age: float | None = None) -> Row:
    row: Row = {"name": name, "pid": pid, "state": state, "reason": reason, "heard_s": None if age is None else round(age, 1)}
    return row | {"position": health.position, "kinds": list(health.kinds)} if health and health.kinds else row


async def remote(bus: Bus, world: World) -> list[Row]:
    """A row for each service of a log elsewhere: what its sign of life reports.  One that none comes from is silent."""
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


def _heard_now(name: str, health: Health | None) -> Row:
    if not health:
        return _told(name, 0, "silent", f"not heard for {LISTEN_S:.0f} s")
    return _told(name, health.pid, health.state, health.reason, health, 0.0)


async def add_lag(bus: Bus, rows: list[Row]) -> None:
    """Add to each service how many events it has yet to consume; one that leaves them for long is `stuck`."""
    for row in rows:
        if not row.get("position"):
            continue
        async with bus.follow(row["position"], row["kinds"]) as pull:
            row["behind"] = pull.pending
            found = await pull.next() if pull.pending else []
            waits_s = time.time() - found[0].time_ns / 1e9 if found else 0.0
        if waits_s > SILENT_S and row["state"] == "following":
            row |= {"state": "stuck", "reason": f"has not consumed an event for {waits_s:.0f} s"}


def unanswered(rows: list[Row]) -> None:
    """Note that NATS runs and does not answer."""
    for row in rows:
        if row["name"] == "nats" and row["pid"]:
            row |= {"state": "silent", "reason": "; ".join(filter(None, ("no answer", scheduled(row["pid"]).state)))}


def line(row: Row) -> str:
    """One row in words."""
    words = [row["state"] if row["state"] != "silent" else "not responding"]
    words += [f"heard {row['heard_s']:.0f} s ago"] if row["heard_s"] is not None and row["state"] != "silent" else []
    words += [f"{row['behind']} event{'' if row['behind'] == 1 else 's'} behind"] if "behind" in row else []
    return f"{row['name']:<10} {', '.join(words)}{': ' if row['reason'] else ''}{row['reason']}"
