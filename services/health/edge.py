"""Take a dead backend out at once: first the kernel's map, then the log.

Without the log, probing continues by the last plan, and transitions wait to be recorded.
"""

import asyncio
import itertools
import struct
from collections.abc import Iterable, Sequence

import msgspec
import structlog

from services.health.core import INDEXES, Streak, Target, Wanted, planned, step, unrecorded
from services.health.delays import Delay
from services.health.rounds import Rounds, Watch, now_ms
from weir.decider import Change, World
from weir.events import AnyEvent, EndpointDown, EndpointUp, key_of, token
from weir.model import endpoint_name
from weir.pins import PROTOCOL_NAMES, Map, address_text, backend_key
from weir.service.runner import Runner
from weir.where import write_file

DOWN = b"\0"
UNRECORDED_MOST = 10_000  # transitions kept while the log is unreachable; beyond, only the last of each backend
DELAYS_EVERY_S, DELAYS_AT_ONCE = 5, 500

log = structlog.get_logger()


class Prober:
    """Every probed backend of this node, and its state in the kernel and in the log."""

    def __init__(self, backend_up: Map, node: str) -> None:
        self.rounds = Rounds(self._judged)
        self._map, self._node = backend_up, node
        self._wanted = Wanted(World(INDEXES))
        self._unrecorded: dict[int, EndpointDown | EndpointUp] = {}
        self._number = itertools.count()
        self._turned = asyncio.Event()

    async def heard(self, world: World, changes: Sequence[Change] | None, _: int) -> None:
        """Start and stop probing as planned."""
        if changes is not None:
            for target, probe in self._wanted.learn(world, changes).items():
                if probe:
                    self.rounds.watch(target, probe, Streak(up=self._map.get(backend_key(*target)) != DOWN))
                elif target in self.rounds.watches:
                    self._stop(target)
            return
        if not planned(world):
            return  # the log is new, or was lost: the last plan, and who is down, hold until the planner plans again
        self._wanted = Wanted(world)
        self._begin(world, {_target_of(key): key for key, value in self._map.items() if value == DOWN})

    def _begin(self, world: World, down: dict[Target, bytes]) -> None:
        """Probe as planned; the kernel, the log and this process may each know another part of what is down."""
        wanted = set(self._wanted.targets())
        for target in sorted((self.rounds.watches.keys() | down.keys()) - wanted):
            self._stop(target)
        recorded = self._lost(world) - down.keys()
        for target in sorted(recorded - wanted):  # no probe would ever report it up again
            self._note(EndpointUp(node=self._node, **target._asdict(), reason="no longer probed"))
        lost = recorded & wanted
        for target in sorted(lost):  # after a reboot the map is empty: down in the log is down until probes find otherwise
            self._map.put(backend_key(*target), DOWN)
            if target in self.rounds.watches:
                self.rounds.forget(target)
        for target in sorted(wanted):
            probe = self._wanted.probe(target)
            assert probe
            self.rounds.watch(target, probe, Streak(up=target not in lost and target not in down))
        self._recall(world, sorted(wanted & down.keys()))

    def _lost(self, world: World) -> set[Target]:
        """Return the targets that are down in the log, unless a later transition waits to be recorded."""
        seen = {key_of(event) for event in self._unrecorded.values()}
        down = (event for event in world.of(EndpointDown) if event.node == self._node and key_of(event) not in seen)
        return {Target(event.address, event.port, event.protocol) for event in down}

    def _recall(self, world: World, down: Iterable[Target]) -> None:
        """Record what the kernel has as down and the log does not: an earlier process was killed in between."""
        recorded = {key_of(event) for event in (*world.of(EndpointDown), *self._unrecorded.values())}
        for target in down:
            probe = self.rounds.watches[target].probe
            reason = f"{probe.kind} probe: found down in the kernel"
            event = EndpointDown(node=self._node, **target._asdict(), reason=reason, failures=probe.retries)
            if key_of(event) not in recorded:
                self._note(event)

    async def probe(self, _: Runner) -> None:
        """Edge: probe."""
        await self.rounds.run()

    async def record(self, runner: Runner) -> None:
        """Edge: append transitions to the log, in order, as soon as it can be reached."""
        while True:
            await self._turned.wait()
            self._turned.clear()
            sent = list(self._unrecorded)
            await runner.propose(self._news)
            for number in sent:
                self._unrecorded.pop(number, None)

    def _news(self, world: World) -> list[AnyEvent]:
        return unrecorded(world, self._unrecorded.values())

    async def write_delays(self, runner: Runner) -> None:
        """Edge: write how long backends take to answer to a file, for `weir get ep`."""
        path, written = runner.where.run / f"probes-{token(self._node)}.json", b""
        while True:
            await asyncio.sleep(DELAYS_EVERY_S)
            found: dict[str, Delay] = {}
            for number, watch in enumerate(list(self.rounds.watches.values())):
                if number % DELAYS_AT_ONCE == 0:
                    await asyncio.sleep(0)  # probes must not wait for all of them
                if delay := watch.delays.summary():
                    found[endpoint_name(*watch.target)] = delay
            if (content := msgspec.json.encode(found)) != written:
                try:
                    write_file(path, content)
                except OSError as error:  # delays are a convenience, probes are not
                    log.error("delays_not_written", path=str(path), reason=str(error))
                else:
                    written = content

    def _judged(self, watch: Watch, fault: str) -> None:
        watch.streak, turned = step(watch.streak, good=not fault, probe=watch.probe, now_ms=now_ms())
        if turned:
            self._turn(watch, fault)

    def _turn(self, watch: Watch, fault: str) -> None:
        """Write to the kernel first: from here on new flows avoid a dead backend, whatever happens to the log."""
        target, probe, held_s = watch.target, watch.probe, watch.streak.held_s
        if fault:
            self._map.put(backend_key(*target), DOWN)
            reason = f"{probe.kind} probe: {fault}" + (f"; flapping, so not probed again for {held_s} s" if held_s else "")
            self._note(EndpointDown(node=self._node, **target._asdict(), reason=reason, failures=probe.retries, held_s=held_s))
        else:
            self._map.delete(backend_key(*target))
            self._note(EndpointUp(node=self._node, **target._asdict(), reason=f"{probe.kind} probe answered {probe.retries} times"))
        log.info("backend_turned", backend=endpoint_name(*target), up=not fault, reason=fault, held_s=held_s)

    def _note(self, event: EndpointDown | EndpointUp) -> None:
        self._unrecorded[next(self._number)] = event
        if len(self._unrecorded) > max(UNRECORDED_MOST, 2 * len(self.rounds.watches)):
            last = {key_of(event): number for number, event in self._unrecorded.items()}
            self._unrecorded = {number: self._unrecorded[number] for number in sorted(last.values())}
        self._turned.set()

    def _stop(self, target: Target) -> None:
        """Stop probing a backend: it counts as up."""
        if target in self.rounds.watches:
            self.rounds.forget(target)
        if self._map.delete(backend_key(*target)):
            self._note(EndpointUp(node=self._node, **target._asdict(), reason="no longer probed"))


def _target_of(key: bytes) -> Target:
    port, protocol = struct.unpack("!HB", key[16:19])
    return Target(address_text(key[:16]), port, PROTOCOL_NAMES[protocol])
