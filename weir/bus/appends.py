"""Appends of one connection: atomic batches, whose answers come to an inbox of ours."""

import asyncio
import os
from collections.abc import Sequence
from typing import Final

from nats.aio.msg import Msg

from weir.bus.nats_client import NatsClient
from weir.bus.reader import GONE, FactTooLargeError, LogError, LogStuck, LogUnreachable, checked
from weir.bus.subjects import Expected
from weir.decider import Decided, entity_of
from weir.events import ENCODE
from weir.words import reason_of

BATCH: Final = 500  # messages in one atomic batch; the server takes 1,000
MOST_BYTES: Final = (1 << 20) - 4096  # of an event's body; the stream takes 1 MiB with headers
ANSWER_S: Final = 5  # a frozen server would have lost the connection by then


class Appends:
    """The appends under way.   prefix: of the log's subjects."""

    def __init__(self, client: NatsClient, prefix: str) -> None:
        self._nc, self._prefix = client, prefix
        self._waiting: dict[str, asyncio.Future[Msg]] = {}
        self._batches = 0
        self._life = os.urandom(6).hex()
        self._inbox = ""

    async def open(self) -> None:
        """Subscribe to the inbox."""
        self._inbox = self._nc.new_inbox()
        await self._nc.subscribe(self._inbox + ".*", cb=self._answered)

    async def append(self, author: str, decided: Sequence[Decided], last: int, expected: Sequence[Expected]) -> int:
        """Append all or nothing; return the first sequence.  See `Bus.append`."""
        self._batches += 1
        batch = f"{self._life}{self._batches:x}"
        answer = self._waiting[batch] = asyncio.get_running_loop().create_future()
        try:
            for index in range(1, len(decided) + 1):
                await self._publish(author, decided, last, expected, batch, index)
            async with asyncio.timeout(ANSWER_S):
                message = await answer
        except TimeoutError as error:
            raise LogStuck(f"append without an answer for {ANSWER_S} s, while the server lives: is its disk full?") from error
        except GONE as error:
            raise LogUnreachable(f"append without an answer: {reason_of(error)}") from error
        finally:
            del self._waiting[batch]
        stored: int = checked(message)["seq"]
        return stored - len(decided) + 1

    async def _publish(
        self, author: str, decided: Sequence[Decided], last: int, expected: Sequence[Expected], batch: str, index: int
    ) -> None:
        """Publish one message of a batch.  index: from 1."""
        item = decided[index - 1]
        body, entity = ENCODE(item.event), entity_of(item)
        if len(body) > MOST_BYTES:
            raise FactTooLargeError(f"{entity}: {len(body)} bytes, expected at most {MOST_BYTES}")
        headers = self._headers(author, last, batch, index, len(decided), item.cause)
        if index <= len(expected):
            headers["Nats-Expected-Last-Subject-Sequence"] = str(expected[index - 1].sequence)
            headers["Nats-Expected-Last-Subject-Sequence-Subject"] = self._prefix + expected[index - 1].key
        reply = f"{self._inbox}.{batch}" if index in (1, len(decided)) else ""
        await self._nc.publish(self._prefix + entity, body, reply=reply, headers=headers)

    def _headers(self, author: str, last: int, batch: str, index: int, count: int, cause: int) -> dict[str, str]:
        # Unique, as at most one batch can ever follow a given last sequence of this author.
        headers = {"Nats-Msg-Id": f"{self._prefix}{author}.{last}.{index}"}
        if cause:
            headers["Weir-Cause"] = str(cause)
        if count > 1:
            headers |= {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(index)}
            if index == count:
                headers["Nats-Batch-Commit"] = "1"
        return headers

    async def _answered(self, message: Msg) -> None:
        if not message.data and not (message.headers and "Status" in message.headers):
            return  # the empty ack of a batch's first message
        answer = self._waiting.get(message.subject.rpartition(".")[2])
        if answer and not answer.done():
            answer.set_result(message)

    def fail(self, why: LogError) -> None:
        """Fail every append under way."""
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(why)
