"""`weir status`: is it up, does the log answer, is what was asked for in the kernel."""

import asyncio
import os
import sys
import time
from collections.abc import Iterable

import msgspec

from weir.bus.reader import LogError
from weir.cli.box.limits import Alarm, disk_alarms, log_alarms
from weir.cli.box.processes import GOOD, add_lag, line, processes, remote, unanswered
from weir.cli.log.history import connect, world_at
from weir.cli.log.tell import condition, notes
from weir.cli.output import MACHINE, Row, emit_one, harmless, paint
from weir.cli.show.get_log import ready_of, statuses
from weir.cli.show.sync import unapplied
from weir.decider import World
from weir.events import AppliedThrough, EndpointDown, ManifestRejected
from weir.lbnodes import conflicts, counted, how_to_end, is_silent
from weir.model import endpoint_name
from weir.where import Where

WAITS = {
    "all": "all is well",
    "programmed": "every Service is in the kernel of every node",
    "serving": "every Service is programmed and has an endpoint that serves it",
}  # what can be waited for


def status(instance: str, *, wait: str, timeout_s: int, output: str) -> int:
    """Print the state; with `wait` once `wait` holds, or after `timeout_s`.  Returns 0: it is as asked, 1: it is not, 2: not up."""
    end = time.monotonic() + (timeout_s if wait else 0)
    if wait and sys.stderr.isatty():
        print(paint(f"waiting until {WAITS[wait]}, at most {timeout_s} s", "dim"), file=sys.stderr)
    while True:
        found = asyncio.run(look(instance))
        good = _holds(found, wait)
        if good or time.monotonic() >= end:
            break
        time.sleep(0.2)  # polling for a person; nothing is synchronised by it
    if output in MACHINE:
        emit_one(found, output)
    else:
        _print(found)
    return 0 if good else 1 if found["up"] else 2


def _holds(found: Row, wait: str) -> bool:
    if wait in ("", "all"):
        return bool(found["ok"])
    return bool(found["following"]) and programmed(found, *(["Serving"] if wait == "serving" else []))


def programmed(found: Row, *also: str) -> bool:
    """Whether every Service is in the kernel of every node, and has these conditions too."""
    states = [{c["type"]: c["status"] for c in service["conditions"]} for service in found["services"]]
    return bool(found["nodes"]) and all(state.get(kind, False) for state in states for kind in ("Programmed", *also))


async def look(instance: str) -> Row:
    """What `weir status` shows, as a program reads it."""
    where = Where(instance)
    rows = processes(where)
    away = "WEIR_NATS" in os.environ and not rows  # the log of a cluster: its services run elsewhere
    found: Row = {"instance": instance, "up": bool(rows), "ok": False, "following": False, "processes": rows}
    found |= {"log": "", "nodes": [], "services": [], "problems": []}
    full = _alarms(disk_alarms(where.state / "nats"))
    try:
        async with await connect(instance) as bus:
            world, head = await world_at(bus, "")
            rows += await remote(bus, world) if away else []
            await add_lag(bus, rows)
            nodes = [node | {"behind": await unapplied(bus, node["applied"])} for node in _nodes(world)]
            problems = [*_problems(world), *_alarms(await log_alarms(bus)), *full]
    except LogError as error:
        unanswered(rows)
        forwarding = "; the kernel keeps forwarding with what it holds" if where.pins.exists() else ""
        return found | {"log": f"EventLogUnreachable: {error}{forwarding}", "problems": full}
    found |= {
        "up": bool(rows),
        "log": f"at sequence {head}",
        "nodes": nodes,
        "services": _services(world),
        "problems": problems,
    }
    found["following"] = bool(rows) and all(row["state"] in GOOD for row in rows)
    conditions = all(c["status"] for service in found["services"] for c in service["conditions"])
    found["ok"] = bool(found["following"] and found["nodes"] and conditions and not found["problems"])
    return found


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
    ready = ready_of(world)
    return [
        {
            "service": told.root.path,
            "vips": list(told.vips),
            "backends": ready.get(told.root.path, (0, 0))[1],
            "summary": "; ".join(condition(c) for c in told.conditions if not c.status) or "; ".join(["serving", *notes(told.conditions)]),
            "conditions": [msgspec.to_builtins(c) | {"status": c.status} for c in told.conditions],
        }
        for told in statuses(world)
    ]


def _problems(world: World) -> list[str]:
    nodes = {seen.node for seen in counted(world)}
    rejected = [f"{event.source}: {problem}" for event in world.of(ManifestRejected) for problem in event.problems]
    down = [
        f"backend {endpoint_name(e.address, e.port, e.protocol)} is down: {e.reason} (on {e.node})"
        for e in world.of(EndpointDown)
        if e.node in nodes
    ]
    refused = [
        f"{event.node} refused {r.entity}: {r.reason}" for event in world.of(AppliedThrough) if event.node in nodes for r in event.rejected
    ]
    twice = [f"node {s.node}: {words}" for s in counted(world) for words in conflicts(world, s.node)]
    silent = [f"nothing is heard of node {s.node}; {how_to_end(s.node)}" for s in counted(world) if is_silent(world, s.node)]
    return [*rejected, *down, *refused, *twice, *silent]


def _alarms(found: Iterable[Alarm]) -> list[str]:
    return [f"{alarm.reason}: {alarm.message}" for alarm in found]


def _print(found: Row) -> None:
    if not found["up"]:
        print(paint(f"✗ instance {found['instance']} is not up", "red"), "(weir up -f MANIFESTS -i INTERFACE)")
    for process in found["processes"]:
        good = process["state"] in GOOD
        print(paint("✓" if good else "✗", "green" if good else "red"), harmless(line(process)))
    print(
        paint("✓" if found["log"].startswith("at ") else "✗", "green" if found["log"].startswith("at ") else "red"),
        f"{'log':<10} {found['log']}",
    )
    for node in found["nodes"]:
        plan = f"{node['behind']} events behind the plan" if node["behind"] else "plan applied"
        print(
            paint("✓", "green") if node["heard"] else paint("✗", "red"),
            f"{'node':<10} {node['node']}: {node['hook']} on {', '.join(node['interfaces'])}, {plan}",
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
