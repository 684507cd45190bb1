"""`weir status`: is it up, does the log answer, is what was asked for in the kernel."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Iterable

import msgspec

from weir.bus import STATE
from weir.cli.history import connect, world_at
from weir.cli.limits import Alarm, alarms, disk_alarms
from weir.cli.output import Row, emit, harmless, paint
from weir.cli.supervise import awaited, running
from weir.cli.tell import condition
from weir.decider import World
from weir.events import AppliedThrough, EndpointDown, ManifestRejected, ServiceObserved, StatusPlanned
from weir.lbnodes import counted, how_to_end, is_silent
from weir.model import Condition, endpoint_name
from weir.reader import LogError
from weir.where import Health, Where

WAIT_S = 60


def status(instance: str, *, wait: bool, output: str) -> int:
    """Prints the state; returns 0: all well, 1: something is not, 2: not up."""
    end = time.monotonic() + (WAIT_S if wait else 0)
    if wait and sys.stderr.isatty():
        print(paint(f"waiting until all is well, at most {WAIT_S} s", "dim"), file=sys.stderr)
    while True:
        found = asyncio.run(_look(instance))
        if found["ok"] or time.monotonic() >= end:
            break
        time.sleep(0.2)  # polling for a person; nothing is synchronised by it
    if output in ("json", "yaml"):
        emit([found], output)
    else:
        _print(found)
    return 0 if found["ok"] else 1 if found["up"] else 2


async def _look(instance: str) -> Row:
    where = Where(instance)
    pids = running(where)
    away = "WEIR_NATS" in os.environ and not pids  # the log of a cluster: its services run elsewhere
    processes = [_process(where, name, pid) for name, pid in pids.items()]
    if pids:
        processes += [{"name": name, "pid": 0, "state": "starting", "reason": ""} for name in awaited(pids)]
    found: Row = {
        "instance": instance,
        "up": bool(pids),
        "ok": False,
        "processes": processes,
        "log": "",
        "nodes": [],
        "services": [],
        "problems": [],
    }
    full = _told(disk_alarms(where.state / "nats"))
    try:
        async with await connect(instance) as bus:
            world, head = await world_at(bus, "")
            state = await bus.stream(STATE)
            problems = [*_problems(world), *_told(alarms(await bus.stream(), state)), *full]
    except LogError as error:
        forwarding = "; the kernel forwards on with what it holds" if where.pins.exists() else ""
        return found | {"log": f"EventLogUnreachable: {error}{forwarding}", "problems": full}
    found |= {
        "up": bool(pids) or away,
        "log": f"at sequence {head}",
        "nodes": _nodes(world),
        "services": _services(world),
        "problems": problems,
    }
    following = away or (bool(pids) and all(process["state"] in ("up", "following") for process in processes))
    programmed = all(c["status"] for service in found["services"] for c in service["conditions"] if c["type"] == "Programmed")
    found["ok"] = bool(following and found["nodes"] and programmed and not found["problems"])
    return found


def _process(where: Where, name: str, pid: int) -> Row:
    for file in sorted(where.run.glob(f"{name}*.json")):
        with contextlib.suppress(OSError, msgspec.MsgspecError):  # a file that is none of ours says nothing
            told = msgspec.json.decode(file.read_bytes(), type=Health)
            if told.pid == pid:
                return {"name": name, "pid": pid, "state": told.state, "reason": told.reason}
    return {"name": name, "pid": pid, "state": "up" if name in ("up", "nats") else "starting", "reason": ""}


def _nodes(world: World) -> list[Row]:
    applied = {event.node: event for event in world.of(AppliedThrough)}
    return [
        {
            "node": seen.node,
            "hook": seen.attached,
            "interfaces": list(seen.interfaces),
            "applied": applied[seen.node].seq if seen.node in applied else 0,
            "rejected": [f"{r.entity}: {r.reason}" for r in applied[seen.node].rejected] if seen.node in applied else [],
            "heard": not is_silent(world, seen.node),
        }
        for seen in counted(world)
    ]


def _services(world: World) -> list[Row]:
    return [
        {
            "service": told.service,
            "vips": list(told.vips),
            "summary": "; ".join(condition(c) for c in told.conditions if not c.status) or "serving",
            "conditions": [msgspec.to_builtins(c) | {"status": c.status} for c in told.conditions],
        }
        for told in [*world.of(StatusPlanned), *_undecided(world)]
    ]


def _undecided(world: World) -> list[StatusPlanned]:
    """Services of which nothing is told yet."""
    told = {status.service for status in world.of(StatusPlanned)}
    waiting = [observed for observed in world.of(ServiceObserved) if observed.exposed and observed.root.path not in told]
    pending = Condition(type="Programmed", status=False, reason="Pending", message="no address was given or denied yet")
    return [StatusPlanned(service=each.root.path, vips=(), conditions=(pending,), root=each.root) for each in waiting]


def _problems(world: World) -> list[str]:
    nodes = {seen.node for seen in counted(world)}
    rejected = [f"{event.source}: {problem}" for event in world.of(ManifestRejected) for problem in event.problems]
    down = [
        f"backend {endpoint_name(e.address, e.port, e.protocol)} is down: {e.reason}" for e in world.of(EndpointDown) if e.node in nodes
    ]
    refused = [
        f"{event.node} refused {r.entity}: {r.reason}" for event in world.of(AppliedThrough) if event.node in nodes for r in event.rejected
    ]
    silent = [f"nothing is heard of node {s.node}; {how_to_end(s.node)}" for s in counted(world) if is_silent(world, s.node)]
    return [*rejected, *down, *refused, *silent]


def _told(found: Iterable[Alarm]) -> list[str]:
    return [f"{alarm.reason}: {alarm.message}" for alarm in found]


def _print(found: Row) -> None:
    if not found["up"]:
        print(paint(f"✗ instance {found['instance']} is not up", "red"), "(weir up -f MANIFESTS -i INTERFACE)")
    for process in found["processes"]:
        good = process["state"] in ("up", "following")
        print(
            paint("✓" if good else "✗", "green" if good else "red"),
            f"{process['name']:<10} {process['state']} {harmless(process['reason'])}".rstrip(),
        )
    print(
        paint("✓" if found["log"].startswith("at ") else "✗", "green" if found["log"].startswith("at ") else "red"),
        f"{'log':<10} {found['log']}",
    )
    for node in found["nodes"]:
        print(
            paint("✓", "green") if node["heard"] else paint("✗", "red"),
            f"{'node':<10} {node['node']}: {node['hook']} on {', '.join(node['interfaces'])}, plan applied up to {node['applied']}",
        )
    for service in found["services"]:
        good = all(c["status"] for c in service["conditions"])
        print(
            paint("✓" if good else "!", "green" if good else "yellow"),
            f"{'service':<10} {service['service']} {','.join(service['vips']) or 'no VIP'}: {harmless(service['summary'])}",
        )
    for problem in found["problems"]:
        print(paint("✗", "red"), harmless(problem))
    sys.stdout.flush()
