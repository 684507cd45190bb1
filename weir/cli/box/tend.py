"""Care for the log's server under `weir up`: create the streams, log alarms, and restart a server that stores nothing.

NATS does not recover from a full disk: after a failed write it stores nothing more, and may not answer, even when there is
space again, until it is restarted.
"""

import asyncio
import logging
from typing import Protocol

import msgspec
import structlog

from weir.bus.client import Bus
from weir.bus.reader import LogError, LogStuck
from weir.bus.streams import ensure_streams
from weir.cli.box.limits import AGE_S, SIZE_BYTES, Limits, apply_limits
from weir.view.alarms import LEAST_FREE_BYTES, disk_alarms, free_bytes, log_alarms
from weir.where import Health, Where

WATCH_S = 5.0
_RETRY_FIRST_S, _RETRY_MOST_S = 0.05, 5.0

log = structlog.get_logger()


class Server(Protocol):
    """The log's server, as the supervisor provides it."""

    def nats_answered(self) -> None:
        """Record that the server answered."""

    def end_nats(self) -> None:
        """Terminate NATS, so that it is restarted."""


async def tend(where: Where, limits: Limits, server: Server) -> None:
    """Care for one life of the log's server, until cancelled."""
    await _streams(where, limits)
    server.nats_answered()
    await _watch(where, server)


async def _streams(where: Where, limits: Limits) -> None:
    """Create the streams once the server answers; reading a large store takes it a while."""
    retry_s = _RETRY_FIRST_S
    while True:
        try:
            async with await Bus.connect(where.nats_url(), "up") as bus:
                await ensure_streams(bus, max_bytes=limits.size_bytes or SIZE_BYTES, max_age_s=limits.age_s or AGE_S)
                await apply_limits(bus, limits)
                return
        except LogError as error:
            log.log(logging.WARNING if retry_s < _RETRY_MOST_S else logging.ERROR, "streams_missing", reason=str(error))
        await asyncio.sleep(retry_s)
        retry_s = min(retry_s * 2, _RETRY_MOST_S)


async def _watch(where: Where, server: Server) -> None:
    """Log each alarm once, when it begins.  A service that is refused at two checks in spite of free space is believed."""
    logged: set[str] = set()
    refused: set[str] = set()
    store = where.state / "nats"
    while True:
        await asyncio.sleep(WATCH_S)
        try:
            bus = await Bus.connect(where.nats_url(), "up")
        except LogError:
            continue  # one that does not answer for long is ended by the supervisor
        server.nats_answered()
        found, before = list(disk_alarms(store)), refused
        async with bus:
            try:
                found += await log_alarms(bus)
                refused = _refused(where)
            except LogError:
                refused = {"up"}
        for alarm in found:
            if alarm.reason not in logged:
                log.warning("log_alarm", reason=alarm.reason, message=alarm.message)
        logged = {alarm.reason for alarm in found}
        if before & refused and free_bytes(store) >= LEAST_FREE_BYTES:
            log.warning("nats_stores_nothing", reported_by=sorted(refused))
            return server.end_nats()


def _refused(where: Where) -> set[str]:
    """Return the services whose appends the server does not store."""
    found = set()
    for path in where.run.glob("*.json"):
        try:
            health = msgspec.json.decode(path.read_bytes(), type=Health)
        except (OSError, msgspec.MsgspecError):  # pids.json, or one that is none of ours
            continue
        if health.state == "degraded" and health.reason.startswith(LogStuck.__name__):
            found.add(health.service)
    return found
