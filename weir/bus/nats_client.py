"""The NATS client, with what Weir needs otherwise, and the errors of a connection."""

import asyncio
import contextlib
import logging

from nats.aio.client import Client
from nats.protocol.parser import AUTHORIZATION_VIOLATION

from weir.bus.access import API
from weir.bus.reader import Forbidden, LogError, LogUnreachable
from weir.words import reason_of

logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns about each end of a TLS connection that nats-py reads


class NatsClient(Client):  # type: ignore[misc]  # nats-py has no types
    """nats-py's client with two changes.

    Headers are parsed without looking at every character, which was a third of a reader's time.  Closing is bounded: after a failed TLS
    handshake it would wait indefinitely, and without one it asserts.   api: the subjects of JetStream's API for this user.
    """

    api = API

    async def close(self) -> None:
        with contextlib.suppress(TimeoutError, AssertionError):
            async with asyncio.timeout(1):
                await super().close()

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        pairs = (line.partition(":") for line in raw.decode("utf-8", "replace").split("\r\n"))
        return {name: value.strip() for name, colon, value in pairs if colon}


def not_connected(url: str, name: str, error: Exception) -> LogError:
    """Return the error to raise where no connection was made."""
    place = url.rpartition("@")[2]  # no password in logs
    if AUTHORIZATION_VIOLATION in str(error).lower():
        return Forbidden(f"NATS at {place} does not know the key of {name}, or requires one")
    return LogUnreachable(f"no NATS at {place}: {reason_of(error)}")
