"""A service's report on itself: a file in `run` every second, and a heartbeat at the log's server every two."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import structlog
from msgspec.structs import replace

from weir.bus.client import Bus
from weir.bus.reader import LogError
from weir.service.heartbeat import BEAT_S, BEATS_OF_MESSAGE
from weir.where import Health, write_file

log = structlog.get_logger()


class Report:
    """What a service reports.

    impaired: what it cannot see or do now, besides following the log; "" for nothing.
    position: sequence of the last event it consumed.
    """

    def __init__(self, author: str, run: Path, kinds: Sequence[str], impaired: Callable[[], str], position: Callable[[], int]) -> None:
        self._author, self._run, self._impaired, self._position = author, run, impaired, position
        self._health = Health(service=author, pid=os.getpid(), state="starting", kinds=tuple(kinds))
        self._unwritten = False

    @property
    def ready(self) -> bool:
        """True once caught up with the log, as leader or standby, while nothing impairs the service."""
        return self.now().state not in ("starting", "degraded")

    def now(self) -> Health:
        """Return the report as of now."""
        health = self._health
        if health.state in ("standby", "following") and (why := self._impaired()):
            health = replace(health, state="degraded", reason=why)
        return replace(health, beat_s=time.monotonic(), position=self._position())

    def set(self, state: str, reason: str = "") -> None:
        """Change the state, and write the file at once where it is another."""
        if (state, reason) != (self._health.state, self._health.reason):
            self._health = replace(self._health, state=state, reason=reason)
            self.write()

    def write(self) -> None:
        """Write the file.  A full /run must not end a service: that is logged once, and the next heartbeat writes again."""
        try:
            write_file(self._run / f"{self._author}.json", msgspec.json.encode(self.now()))
        except OSError as error:
            if not self._unwritten:
                log.error("health_not_written", service=self._author, reason=str(error))
            self._unwritten = True
        else:
            self._unwritten = False

    async def beat(self, bus: Callable[[], Bus | None]) -> None:
        """Write the file and send heartbeats, indefinitely.   bus: the connection of the session, None while there is none."""
        while True:
            for _ in range(BEATS_OF_MESSAGE):
                self.write()
                await asyncio.sleep(BEAT_S)
            if connected := bus():
                with contextlib.suppress(LogError):  # the session fails by it, too
                    await connected.beat(self._author, msgspec.json.encode(self.now()))
