"""Watch the children of `weir up`: kill one that hangs, so that it is restarted, and report to systemd."""

import asyncio
import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec
import structlog

from weir.cli.box.notify import notify
from weir.service.heartbeat import BEAT_S, SILENT_S, Child, Watch, age_s, heard, scheduled
from weir.view.processes import awaits, processes
from weir.where import Health, Where, write_file

log = structlog.get_logger()
Healths = Mapping[str, Health | None]  # of the children that run, None before its first heartbeat


class Children(Protocol):
    """The supervisor, as far as it is needed here."""

    where: Where
    nats_beat_s: float | None  # when NATS last answered in this life: it writes no heartbeat itself

    @property
    def running(self) -> dict[str, asyncio.subprocess.Process]:
        """Return the children that run."""


async def oversee(children: Children, expected: Sequence[str]) -> None:
    """Check the children every second, and write our own heartbeat, indefinitely.  expected: names of all children."""
    watch, manager, state = Watch(time.monotonic()), _Manager(expected), "starting"
    while True:
        await asyncio.sleep(BEAT_S)
        now_s = time.monotonic()
        if state == "starting" and not awaits(processes(children.where)):
            state = "up"  # for good: a child that is started again later is its own matter
        with contextlib.suppress(OSError):  # a full /run: then `weir status` reports us as silent
            write_file(children.where.run / "up.json", msgspec.json.encode(Health("up", os.getpid(), state, beat_s=now_s)))
        healths = {name: heard(children.where, name, process.pid) for name, process in children.running.items()}
        _end_hung(watch, children, healths, now_s)
        manager.report(healths, now_s)


def _end_hung(watch: Watch, children: Children, healths: Healths, now_s: float) -> None:
    beats = {name: health.beat_s for name, health in healths.items() if health} | {"nats": children.nats_beat_s}
    running = children.running
    looks = [Child(name, process.pid, beats.get(name), scheduled(process.pid).cpu_s) for name, process in running.items()]
    for name, silent_s in watch.hung(now_s, looks):
        log.error("child_hung", child=name, silent_s=int(silent_s), state=scheduled(running[name].pid).state)
        running[name].kill()


class _Manager:
    """What systemd was sent."""

    def __init__(self, expected: Sequence[str]) -> None:
        self._expected, self._status, self._ready = expected, "", False

    def report(self, healths: Healths, now_s: float) -> None:
        """Feed the watchdog; READY=1 once all children run, and STATUS= when it changes."""
        news, status = ["WATCHDOG=1"], _status(self._expected, healths, now_s)
        if not self._ready and healths.keys() >= set(self._expected):
            news.append("READY=1")
            self._ready = True
        if status != self._status:
            news.append(f"STATUS={status}")
            self._status = status
        notify(*news)


def _status(expected: Sequence[str], healths: Healths, now_s: float) -> str:
    """Return one line: the services with problems, or that all follow the log."""
    services = [name for name in expected if name != "nats"]
    faults = []
    for name in services:
        health = healths.get(name)
        if health and age_s(health, now_s) > SILENT_S:
            faults.append(f"{name} not responding")
        elif not health or health.state != "following":
            faults.append(f"{name} {health.state if health else 'starting'}")
    return "; ".join(faults) or f"{len(services)} services following the log"
