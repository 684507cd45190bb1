"""Probes backends, and takes a dead one out at once: first the kernel's map, then the log.

Goes on without the log: whom to probe is what the plan last said, and transitions wait to be recorded.
"""

import asyncio
import errno
import os
import random
import socket
import struct
from collections.abc import Sequence

import structlog

from services.health.core import Streak, Target, planned, step, targets, timeout_ms, unrecorded, wait_ms
from weir.decider import Change, World
from weir.events import AnyEvent, EndpointDown, EndpointUp, key_of
from weir.model import Probe, endpoint_name
from weir.pins import Map, address_text, backend_key
from weir.service import Runner

DOWN = b"\0"
UNRECORDED_MOST = 10_000  # transitions kept while the log is away; beyond, the oldest go
SOCKETS_MOST = 512  # probes at one time
_OURS = (errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE)  # faults of this machine, not of a backend

log = structlog.get_logger()


class ProbeImpossible(Exception):
    """This machine cannot probe now: no verdict on the backend."""


class Prober:
    """Every probed backend of this node."""

    def __init__(self, backend_up: Map, node: str) -> None:
        self._map, self._node = backend_up, node
        self._tasks: dict[Target, asyncio.Task[None]] = {}
        self._probes: dict[Target, Probe] = {}
        self._unrecorded: list[EndpointDown | EndpointUp] = []
        self._turned = asyncio.Event()
        self._fault: BaseException | None = None
        self._sockets = asyncio.Semaphore(SOCKETS_MOST)

    async def heard(self, world: World, changes: Sequence[Change] | None, _: int) -> None:
        """Starts and stops probing as the plan says."""
        wanted = targets(world)
        if changes is None and self._tasks and not planned(world):
            return  # the log was lost; what we last heard stands until a planner plans again
        for target in set(self._tasks) - set(wanted):
            self._stop(target)
        if changes is None:
            self._drop_strangers(wanted)
            self._take_up(world, wanted)
            self._recall(world, wanted)
        for target, probe in wanted.items():
            self._probes[target] = probe
            if target not in self._tasks:
                self._tasks[target] = task = asyncio.create_task(self._watch(target))
                task.add_done_callback(self._ended)

    def _recall(self, world: World, wanted: dict[Target, Probe]) -> None:
        """Killed between map and log: what the kernel has as down and the log does not is recorded now."""
        told = {key_of(event) for event in (*world.of(EndpointDown), *self._unrecorded)}
        for target, probe in wanted.items():
            reason = f"{probe.kind} probe: found down in the kernel"
            down = EndpointDown(node=self._node, **target._asdict(), reason=reason, failures=probe.retries)
            if key_of(down) not in told and self._map.get(backend_key(*target)) == DOWN:
                self._note(down)

    def _take_up(self, world: World, wanted: dict[Target, Probe]) -> None:
        """After a reboot the map is empty: what the log has as down stays so until its probes say otherwise."""
        unrecorded_names = {key_of(event) for event in self._unrecorded}
        for event in world.of(EndpointDown):
            target = Target(event.address, event.port, event.protocol)
            known = target not in wanted or event.node != self._node or key_of(event) in unrecorded_names
            if not known and self._map.get(backend_key(*target)) != DOWN:
                self._map.put(backend_key(*target), DOWN)
                if task := self._tasks.pop(target, None):
                    task.cancel()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """A probe that ends by itself has failed in a way that nobody named: the process ends with it."""
        if not task.cancelled() and (error := task.exception()):
            self._fault = error
            self._turned.set()

    async def record(self, runner: Runner) -> None:
        """Writes transitions into the log, in order, as soon as it can be reached."""
        while True:
            await self._turned.wait()
            self._turned.clear()
            if self._fault:
                raise self._fault
            sent = list(self._unrecorded)
            await runner.propose(lambda world: self._news(world))
            del self._unrecorded[: len(sent)]

    def _news(self, world: World) -> list[AnyEvent]:
        return unrecorded(world, self._unrecorded)

    async def _watch(self, target: Target) -> None:
        streak = Streak(up=self._map.get(backend_key(*target)) != DOWN)
        await asyncio.sleep(random.random() * self._probes[target].interval_s)  # spread: not all in one moment
        while True:
            probe = self._probes[target]
            started = asyncio.get_running_loop().time()
            try:
                async with self._sockets:
                    fault = await _connect(target, timeout_ms(probe) / 1000)
            except ProbeImpossible as error:
                log.warning("probe_impossible", backend=endpoint_name(*target), reason=str(error))
            else:
                streak, turned = step(streak, good=not fault, probe=probe)
                if turned:
                    self._turn(target, probe, fault)
            await asyncio.sleep(max(0.0, started + wait_ms(streak, probe) / 1000 - asyncio.get_running_loop().time()))

    def _turn(self, target: Target, probe: Probe, fault: str) -> None:
        """The kernel first: new flows avoid a dead backend from here on, whatever becomes of the log."""
        if fault:
            self._map.put(backend_key(*target), DOWN)
            self._note(EndpointDown(node=self._node, **target._asdict(), reason=f"{probe.kind} probe: {fault}", failures=probe.retries))
        else:
            self._map.delete(backend_key(*target))
            self._note(EndpointUp(node=self._node, **target._asdict(), reason=f"{probe.kind} probe answered {probe.retries} times"))
        log.info("backend_turned", backend=endpoint_name(*target), up=not fault, reason=fault)

    def _note(self, event: EndpointDown | EndpointUp) -> None:
        self._unrecorded.append(event)
        del self._unrecorded[:-UNRECORDED_MOST]
        self._turned.set()

    def _stop(self, target: Target) -> None:
        self._tasks.pop(target).cancel()
        self._probes.pop(target, None)
        if self._map.get(backend_key(*target)) == DOWN:
            self._map.delete(backend_key(*target))
            self._note(EndpointUp(node=self._node, **target._asdict(), reason="no longer probed"))

    def _drop_strangers(self, wanted: dict[Target, Probe]) -> None:
        """Backends that left the plan while we were away."""
        for key, _ in list(self._map.items()):
            port, protocol = struct.unpack("!HB", key[16:19])
            target = Target(address_text(key[:16]), port, "TCP" if protocol == socket.IPPROTO_TCP else "UDP")
            if target not in wanted:
                self._map.delete(key)
                self._note(EndpointUp(node=self._node, **target._asdict(), reason="no longer probed"))


async def _connect(target: Target, timeout_s: float) -> str:
    """Opens and resets one TCP connection; "" when that went well, else what went wrong.  Raises ProbeImpossible."""
    family = socket.AF_INET6 if ":" in target.address else socket.AF_INET
    try:
        probe = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        raise ProbeImpossible(error.strerror) from error
    with probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset: no TIME_WAIT on either side
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.get_running_loop().sock_connect(probe, (target.address, target.port))
        except TimeoutError:
            return f"no answer within {int(timeout_s * 1000)} ms"
        except OSError as error:
            if error.errno in _OURS:
                raise ProbeImpossible(error.strerror) from error
            return os.strerror(error.errno or errno.EIO).lower()
    return ""
