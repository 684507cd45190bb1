"""One request per connection, answered and closed.  How many connections, and how long each may take, is bounded."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

HEAD_BYTES = 16_384  # give it to asyncio.start_server as `limit`
MOST_OPEN = 64


class Connections:
    """most: open at one time.   head_s, taken_s: to send the head of a request, and to take the answer."""

    def __init__(self, most: int = MOST_OPEN, head_s: float = 5.0, taken_s: float = 5.0) -> None:
        self._most, self._head_s, self._taken_s = most, head_s, taken_s
        self._open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, respond: Callable[[bytes], Awaitable[bytes]]) -> None:
        """Read the head, write what `respond` makes of it, close.  A connection too many, or too slow, is reset."""
        self._open += 1
        try:
            with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                if self._open <= self._most:
                    async with asyncio.timeout(self._head_s):
                        head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(await respond(head))
                    async with asyncio.timeout(self._taken_s):
                        await writer.drain()
                    writer.close()
                    return
            writer.transport.abort()
        finally:
            self._open -= 1
