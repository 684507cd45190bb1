"""Read the log by ephemeral pull consumers without acks, whose credit is kept open.

A lost consumer is not recovered: the caller opens a new one at its last position.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, NamedTuple, Self, TypeVar

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from weir.decider import Fact
from weir.events import DECODE, AnyEvent, key_of
from weir.words import reason_of

T = TypeVar("T")
_NS = 1_000_000_000
_HEARTBEAT_S = 1.0
_MISSED_MOST = 3  # waits of that length in which nothing is heard, before a reader is lost
GONE = (nats.errors.Error, asyncio.TimeoutError, OSError)


class LogError(Exception):
    """The log is not available.  React: start again from STATE, after a delay."""


class LogUnreachable(LogError):
    """No answer: what was sent may be stored, or not, or later."""


class Refused(LogError):
    """The server refused, and nothing of the batch is stored: another session wrote, or the fold is stale."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code} {text}")
        self.code = code


class Forbidden(LogError):
    """The server does not know this user, or does not permit this.  An operator must act; the message names what was refused."""


class LogFull(LogError):
    """The stream is at its limit: nothing is stored until an operator makes room."""


class LogCrowded(LogError):
    """The stream has its maximum of consumers; lost ones count for 30 s more.  React: retry after a delay."""


class LogStuck(LogUnreachable):
    """The server answers requests and stores nothing: its disk was full at a write.  It needs space, and then a restart."""


class Overtaken(LogError):
    """An event in our name that this session did not append: another replica, or an earlier append of ours that came late."""


class FactTooLargeError(Exception):
    """An event larger than the log takes: its author must bound it.  A retry does not help: the process ends."""


class Trimmed(LogError):
    """The events to read have expired.  React: read again from a newer snapshot."""


class NotUnderstood(LogError):
    """An event that this version cannot fold: an unknown type, or a body that does not fit its subject."""


class Entry(NamedTuple):
    """An event with its place in the log."""

    fact: Fact
    key: str
    cause: int  # sequence that led to it, 0 for none
    time_ns: int
    size_bytes: int


class Delivered(NamedTuple):
    """A message of the log, neither decoded nor checked."""

    sequence: int
    time_ns: int
    key: str
    headers: Mapping[str, str]
    body: bytes


class Pull(Generic[T]):
    """One reader.  `pending`: how many messages the stream still holds behind the last one given out, as far as the server said.

    What it announced may expire, or be replaced by a newer message, before it comes: where the server is idle meanwhile, it is asked.
    Use: `async with bus.follow(position) as pull: entries = await pull.next()`.
    """

    def __init__(
        self,
        nc: Client,
        stream: str,
        start: int,
        *,
        prefix: str,
        filters: Sequence[str],
        read: Callable[[Delivered], T],
        credit: int = 1000,
    ) -> None:
        self._nc, self._stream, self._start, self._prefix, self._most, self._read = nc, stream, start, prefix, credit, read
        self._filters = list(filters)
        self._name = "r" + os.urandom(8).hex()
        self._credit = 0
        self._buffer: list[T] = []
        self._ready = asyncio.Event()
        self._lost: LogError | None = None
        self._heard = 0  # messages and heartbeats
        self._behind = self.pending = 0
        self._beats = 0  # heartbeats since the last message
        self._gone = False  # what was pending
        self._delivered = 0  # by the consumer's own count: a hole in it is an event lost on the way

    async def __aenter__(self) -> Self:
        nc = self._nc
        try:
            self._inbox = nc.new_inbox()
            self._subscription = await nc.subscribe(self._inbox, cb=self._received, pending_msgs_limit=-1, pending_bytes_limit=-1)
            config = consumer(self._name, "by_start_sequence") | {"opt_start_seq": self._start}
            if self._filters:
                config["filter_subjects"] = self._filters
            self.pending = await create_consumer(nc, self._stream, config)
            await self._top_up()
        except nats.errors.Error as error:
            raise LogUnreachable(f"{self._stream}: {reason_of(error)}") from error
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(*GONE):  # the server removes the consumer by itself
            await self._subscription.unsubscribe()
            await self._nc.publish(f"{self._nc.api}CONSUMER.DELETE.{self._stream}.{self._name}")

    async def arrived(self) -> None:
        """Wait until there are messages, or the pending ones are gone.  Raises LogError when the consumer is lost.

        Silence counts only while we wait: a process that computes for seconds reads nothing meanwhile, and sends no request.
        """
        missed = 0
        while not self._buffer:
            if self._lost:
                raise self._lost
            if self._gone:
                return
            self._ready.clear()
            heard = self._heard
            try:
                async with asyncio.timeout(_HEARTBEAT_S):
                    await self._ready.wait()
            except TimeoutError:
                missed = missed + 1 if self._heard == heard else 0
                if missed == _MISSED_MOST:
                    self.lose("reader is silent")

    async def next(self) -> list[T]:
        """Return the messages since the last call; none where the pending ones are gone.  Raises LogError when the consumer is lost."""
        await self.arrived()
        entries, self._buffer = self._buffer, []
        self.pending, self._gone = self._behind, False
        await self._top_up()
        return entries

    def lose(self, why: str | LogError) -> None:
        """Fail the consumer; messages that have arrived are still returned."""
        self._lost = self._lost or (why if isinstance(why, LogError) else LogUnreachable(f"{self._stream}: {why}"))
        self._ready.set()

    async def _top_up(self) -> None:
        if self._credit > self._most // 2:
            return
        await self._request({"batch": self._most - self._credit, "expires": 30 * _NS, "idle_heartbeat": int(_HEARTBEAT_S * _NS)})
        self._credit = self._most

    async def _request(self, request: dict[str, Any]) -> None:
        try:
            where = f"{self._nc.api}CONSUMER.MSG.NEXT.{self._stream}.{self._name}"
            await self._nc.publish(where, msgspec.json.encode(request), reply=self._inbox)
        except nats.errors.Error as error:
            self.lose(type(error).__name__)

    async def _received(self, message: Msg) -> None:
        self._heard += 1
        if message.reply.startswith("$JS.ACK."):
            self._credit -= 1
            self._beats = 0
            # $JS.ACK.stream.consumer.tries.seq.count.time.pending
            sequence, count, time_ns, self._behind = (int(part) for part in message.reply.split(".")[-4:])
            if count != self._delivered + 1:
                self.lose(f"delivery {count} after {self._delivered}")
                return
            key = message.subject.removeprefix(self._prefix)
            try:
                self._buffer.append(self._read(Delivered(sequence, time_ns, key, message.headers or {}, message.data)))
            except NotUnderstood as error:
                self.lose(error)
                return
            self._delivered = count
            self._ready.set()
            return
        headers = message.headers or {}
        status, words = headers.get("Status", ""), headers.get("Description", "")
        if status == "100":  # heartbeat: the server has nothing to send
            self._beats += 1
            if self.pending and not self._buffer and self._beats > 1:
                await self._request({"batch": 1, "no_wait": True})
            return
        if status == "404":  # the answer to that: there is no message
            self._behind, self._gone = 0, True
            self._ready.set()
            return
        if status == "408" or (status == "409" and "Nats-Pending-Messages" in headers and "Deleted" not in words):
            self._credit -= int(headers.get("Nats-Pending-Messages", "0"))
            await self._top_up()
        else:
            self.lose(f"{status} {words}")


async def request(nc: Client, what: str, body: object = None, timeout_s: float = 5) -> dict[str, Any]:
    """Send one request to JetStream's API.  Raises Refused with its error code, or LogUnreachable."""
    try:
        message = await nc.request(nc.api + what, msgspec.json.encode(body) if body else b"", timeout=timeout_s)
    except GONE as error:
        raise LogUnreachable(f"{what}: {reason_of(error)}") from error
    return checked(message)


async def create_consumer(nc: Client, stream: str, config: dict[str, Any]) -> int:
    """Create a consumer; return how many messages wait for it."""
    body = {"stream_name": stream, "config": config, "action": "create"}
    pending: int = (await request(nc, f"CONSUMER.CREATE.{stream}.{config['name']}", body))["num_pending"]
    return pending


def consumer(name: str, policy: str) -> dict[str, Any]:
    return {
        "name": name,
        "deliver_policy": policy,
        "ack_policy": "none",
        "replay_policy": "instant",
        "inactive_threshold": 30 * _NS,
        "mem_storage": True,
        "num_replicas": 1,
    }


def read(message: Delivered) -> Entry:
    """Raises NotUnderstood."""
    cause = message.headers.get("Weir-Cause", "0")
    if not cause.isdecimal():
        raise NotUnderstood(f"event {message.sequence} on {message.key}: Weir-Cause {cause!r}, expected a sequence")
    event = decode(message.body, message.key, message.sequence)
    return Entry(Fact(message.sequence, event, message.key), message.key, int(cause), message.time_ns, len(message.body))


def decode(body: bytes, key: str, sequence: int) -> AnyEvent:
    try:
        event: AnyEvent = DECODE(body)
    except msgspec.MsgspecError as error:
        raise NotUnderstood(f"event {sequence} on {key}: {error}") from error
    if key_of(event) != key:
        raise NotUnderstood(f"event {sequence} on {key} is about {key_of(event)}: forged or misplaced")
    return event


def checked(message: Msg) -> dict[str, Any]:
    if message.headers and message.headers.get("Status") == "503":
        raise LogUnreachable("no responders")
    answer: dict[str, Any] = msgspec.json.decode(message.data)
    error = answer.get("error")
    if error and error.get("err_code") == 10077:
        raise LogFull(f"{error.get('description')}: make room with weir log limit")
    if error and error.get("err_code") == 10026:
        raise LogCrowded(f"{error.get('description')}: a client opens too many consumers; unused ones are removed after 30 s")
    if error and error.get("err_code") == 10176:  # a batch whose first message could not be put aside
        raise LogStuck(f"{error.get('description')}: the disk of the log's server is full")
    if error and error.get("code") == 503:
        raise LogUnreachable(f"{error.get('err_code')} {error.get('description')}")
    if error:
        raise Refused(error.get("err_code", 0), error.get("description", ""))
    if answer.get("duplicate"):
        raise Refused(10201, "an append with this fence is in the log already")
    return answer
