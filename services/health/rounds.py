"""Probe scheduler: runs due probes earliest first, with bounded concurrency, from one heap instead of a task per backend.

Above its ceiling probes start late, but in order.  No backend is judged slow because this process was: the time that a probe may take
counts only while this process runs.
"""

import asyncio
import heapq
import itertools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from services.health.core import TICK_MS, Streak, Target, attended_ms, timeout_ms, wait_ms
from services.health.delays import Delays
from services.health.probe import Answer, ProbeImpossible, run_probe
from weir.model import Probe
from weir.service.metrics import Histogram

AT_ONCE = 4096  # probes under way
BURST = 128  # probes started between two turns of the event loop
IDLE_MS = 200  # longest wait of a new backend for its first look
LATE_MS = 1000
WARN_EVERY_MS = 30_000

log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class Watch:
    """One backend."""

    target: Target
    probe: Probe
    streak: Streak
    due_ms: int = -1
    delays: Delays = field(default_factory=Delays)


class Rounds:
    """The watched backends, and when each is due.  report: called with each verdict; "" is a good one.

    probes (of these probes_failed), probes_late, probes_impossible count since the start; probe_lag_ms is how late the last one started.
    """

    def __init__(self, report: Callable[[Watch, str], None]) -> None:
        self.watches: dict[Target, Watch] = {}
        self.probes = self.probes_failed = self.probes_late = self.probes_impossible = self.probe_lag_ms = 0
        self.answered_s = Histogram()
        self._report = report
        self._due: list[tuple[int, int, Watch]] = []
        self._number = itertools.count()  # of equals, the first added
        self._running: dict[Watch, tuple[asyncio.Timeout, int]] = {}  # and the end of its time
        self._attended_ms = 0
        self._warned_ms = -WARN_EVERY_MS

    def watch(self, target: Target, probe: Probe, streak: Streak) -> None:
        """Start to probe a backend, or probe it in another way."""
        watch = self.watches.get(target)
        if watch and watch.probe == probe:
            return
        if watch:
            watch.probe = probe
        else:
            watch = self.watches[target] = Watch(target, probe, streak)
        if watch not in self._running:
            self._plan(watch, now_ms() + random.randrange(probe.interval_s * 1000))  # spread: not all in one moment

    def forget(self, target: Target) -> None:
        """Stop.  A probe that is running may end; its verdict is dropped."""
        self.watches.pop(target).due_ms = -1

    async def run(self) -> None:
        """Run until cancelled, or until an unexpected exception."""
        looked_ms = now_ms()
        async with asyncio.TaskGroup() as group:
            while True:
                self._expire()  # by the time counted before this turn: answers that arrived meanwhile were handled in between
                before_ms, looked_ms = looked_ms, now_ms()
                self._attended_ms += attended_ms(looked_ms - before_ms)
                ripe = self.ripe(looked_ms)
                for watch in ripe:
                    self._running[watch] = (asyncio.timeout(None), self._attended_ms + timeout_ms(watch.probe))
                    group.create_task(self._run(watch, looked_ms))
                await asyncio.sleep(0 if len(ripe) == BURST else self._pause_ms(looked_ms) / 1000)

    def ripe(self, at_ms: int) -> list[Watch]:
        """Return those to probe now, the longest due first."""
        ripe: list[Watch] = []
        room = min(BURST, AT_ONCE - len(self._running))
        while self._due and self._due[0][0] <= at_ms and len(ripe) < room:
            due_ms, _, watch = heapq.heappop(self._due)
            if due_ms == watch.due_ms:  # else rescheduled since, or forgotten
                self._lag(at_ms - due_ms)
                ripe.append(watch)
        return ripe

    def _lag(self, lag_ms: int) -> None:
        self.probe_lag_ms = lag_ms
        if lag_ms > LATE_MS:
            self.probes_late += 1
            self._warn("probes_late", lag_ms=lag_ms, backends=len(self.watches), late=self.probes_late)

    def _warn(self, what: str, **about: object) -> None:
        if now_ms() - self._warned_ms >= WARN_EVERY_MS:
            self._warned_ms = now_ms()
            log.warning(what, **about)

    def _expire(self) -> None:
        for limit, ends_ms in self._running.values():
            if ends_ms <= self._attended_ms and not limit.expired():
                limit.reschedule(0)

    def _pause_ms(self, at_ms: int) -> int:
        if self._running:
            return TICK_MS
        return min(max(self._due[0][0] - at_ms, TICK_MS), IDLE_MS) if self._due else IDLE_MS

    async def _run(self, watch: Watch, began_ms: int) -> None:
        limit, _ = self._running[watch]
        probe = watch.probe
        answer: Answer | None = None
        try:
            async with limit:
                answer = await run_probe(watch.target, probe)
        except TimeoutError:
            answer = Answer(f"no answer within {timeout_ms(probe)} ms")
        except ProbeImpossible as error:
            self.probes_impossible += 1
            self._warn("probe_impossible", reason=str(error), times=self.probes_impossible)
        del self._running[watch]
        if self.watches.get(watch.target) is watch:
            if answer:
                self._judge(watch, answer)
            self._plan(watch, began_ms + wait_ms(watch.streak, watch.probe, began_ms))

    def _judge(self, watch: Watch, answer: Answer) -> None:
        self.probes += 1
        if answer.fault:
            self.probes_failed += 1
        else:
            watch.delays.add(answer.delay_us)
            self.answered_s.observe(answer.delay_us / 1_000_000)
        self._report(watch, answer.fault)

    def _plan(self, watch: Watch, due_ms: int) -> None:
        watch.due_ms = due_ms
        heapq.heappush(self._due, (due_ms, next(self._number), watch))


def now_ms() -> int:
    """Return the time of the monotonic clock."""
    return time.monotonic_ns() // 1_000_000
