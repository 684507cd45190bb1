"""The log over NATS JetStream: fenced atomic appends; read today's state, then follow.

An append without an answer is not retried here: whoever appends reads the log again and decides anew.
"""

import asyncio
import base64
import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, NamedTuple, Self
from weakref import WeakSet

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.protocol.parser import AUTHORIZATION_VIOLATION, PERMISSIONS_ERR

from weir.bus.access import API, api_of, nats_access
from weir.bus.identity import Identity, identity_of
from weir.bus.reader import (
    GONE,
    Delivered,
    Entry,
    FactTooLargeError,
    Forbidden,
    LogError,
    LogStuck,
    LogUnreachable,
    Pull,
    Refused,
    T,
    checked,
    consumer,
    create_consumer,
    decode,
    read,
    request,
)
from weir.bus.snapshots import State
from weir.decider import Decided, Fact, entity_of
from weir.events import ENCODE, EpochStarted, key
from weir.words import reason_of

STREAM, STATE = "WEIR", "WEIR_STATE"
LEASES, LEASE_S = "WEIR_LEASES", 5  # a bucket of keys that vanish so long after they were set: who acts of several replicas
ALIVE = "alive"  # the first token of subjects that no stream keeps
BATCH = 500  # messages in one atomic batch; the server takes 1,000
MOST_BYTES = (1 << 20) - 4096  # of a fact's body; the stream takes 1 MiB with headers
NOT_FOUND = 10037
_NS = 1_000_000_000
logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of each end of a TLS connection that nats-py reads


class NatsClient(Client):  # type: ignore[misc]  # nats-py has no types
    """nats-py's client, but for two things.

    How it takes headers apart: its own way looks at every character, a third of a reader's time.  And how it closes: after a TLS
    handshake that failed it waits for ever, and where it never began it asserts that it has.   api: where JetStream's API is for this user.
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
    """What `error` is told as where no connection came about."""
    place = url.rpartition("@")[2]  # no password in logs
    if AUTHORIZATION_VIOLATION in str(error).lower():
        return Forbidden(f"NATS at {place} does not know the key of {name}, or wants one")
    return LogUnreachable(f"no NATS at {place}: {reason_of(error)}")


class Expected(NamedTuple):
    """An append is stored only if the last event whose key matches `key` is at `sequence`, 0 for none.  key: may have wildcards."""

    key: str
    sequence: int


def subtree(author: str, last: int) -> Expected:
    """Nothing was appended in the author's name since `last`.  Costs the server a look at every name that the author ever wrote about."""
    return Expected(f"{author}.>", last)


def epoch_key(author: str) -> str:
    """The key under which the author's epochs start."""
    return key(author, EpochStarted.kind, "", "")


def alive_subject(prefix: str, author: str) -> str:
    """Where `author` lets others know that it is alive: outside of the subjects that the streams keep."""
    return f"{ALIVE}.{prefix}{author}"


class Bus:
    """A connection to the log of one cluster."""

    def __init__(self, cluster: str = "local") -> None:
        self.cluster, self.prefix = cluster, f"weir.{cluster}."
        self._identity: Identity | None = None
        self._nc = NatsClient()
        self._waiting: dict[str, asyncio.Future[Msg]] = {}
        self._pulls: WeakSet[Pull[Any]] = WeakSet()
        self._batches = 0
        self._life = os.urandom(6).hex()
        self._inbox = ""

    @classmethod
    async def connect(cls, url: str, name: str, cluster: str = "local") -> Self:
        """Raises LogUnreachable when no server answers within 2 s, Forbidden where it does not know us.  name: of the NATS user, if any."""
        bus, given = cls(cluster), nats_access(name)
        bus._nc.api = api_of(name)
        try:
            await bus._nc.connect(
                url.split(","),
                name=name,
                **given,
                connect_timeout=2,
                allow_reconnect=False,  # whoever lost the connection starts again from STATE
                max_reconnect_attempts=1,  # counts for the first connection too, where 0 means for ever
                reconnect_time_wait=0.05,
                ping_interval=1,  # a frozen server is noticed in about 3 s
                max_outstanding_pings=2,
                error_cb=bus._told,
                disconnected_cb=bus._disconnected,
            )
            bus._inbox = bus._nc.new_inbox()
            await bus._nc.subscribe(bus._inbox + ".*", cb=bus._answered)
        except GONE as error:
            await bus.close()
            raise not_connected(url, name, error) from error
        return bus

    async def close(self) -> None:
        """Ends the connection; whatever was under way fails with LogUnreachable."""
        await self._nc.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    # ── append ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def append(self, author: str, decided: Sequence[Decided], last: int, expected: Sequence[Expected] = ()) -> int:
        """Append all or nothing.  Returns the first sequence.

        last: the author's last event as the caller knows it; nothing is stored where it is not, unless something else is `expected`.
        A session appends by a `Writer`, at a cost that does not grow with the author's names; this alone is for single appends.
        """
        expected = expected or (subtree(author, last),)
        self._batches += 1
        batch = f"{self._life}{self._batches:x}"
        reply = f"{self._inbox}.{batch}"
        answer = self._waiting[batch] = asyncio.get_running_loop().create_future()
        try:
            for index, item in enumerate(decided, 1):
                body, entity = ENCODE(item.event), entity_of(item)
                if len(body) > MOST_BYTES:
                    raise FactTooLargeError(f"{entity}: {len(body)} bytes, expected at most {MOST_BYTES}")
                headers = self._headers(author, last, batch, index, len(decided), item.cause)
                if index <= len(expected):
                    headers["Nats-Expected-Last-Subject-Sequence"] = str(expected[index - 1].sequence)
                    headers["Nats-Expected-Last-Subject-Sequence-Subject"] = self.prefix + expected[index - 1].key
                edge = index in (1, len(decided))
                await self._nc.publish(self.prefix + entity, body, reply=reply if edge else "", headers=headers)
            async with asyncio.timeout(5):
                message = await answer
        except TimeoutError as error:  # a frozen server would have lost the connection by now
            raise LogStuck("append without an answer for 5 s, while the server lives: is its disk full?") from error
        except GONE as error:
            raise LogUnreachable(f"append without an answer: {reason_of(error)}") from error
        finally:
            del self._waiting[batch]
        stored: int = checked(message)["seq"]
        return stored - len(decided) + 1

    def _headers(self, author: str, last: int, batch: str, index: int, count: int, cause: int) -> dict[str, str]:
        # Unique, as at most one batch can ever follow a given last sequence of this author.
        headers = {"Nats-Msg-Id": f"{self.prefix}{author}.{last}.{index}"}
        if cause:
            headers["Weir-Cause"] = str(cause)
        if count > 1:
            headers |= {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(index)}
            if index == count:
                headers["Nats-Batch-Commit"] = "1"
        return headers

    async def last(self, author: str) -> int:
        """Sequence of the author's last event that the history still holds, 0 for none.  The stream's leader answers."""
        return (await self._last_message(STREAM, f"{self.prefix}{author}.>"))[1]

    async def epoch(self, author: str) -> int:
        """The same of where the author's last epoch started."""
        return (await self._last_message(STREAM, self.prefix + epoch_key(author)))[1]

    # ── read ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def state(self, kinds: Sequence[str] = ()) -> State:
        """The last event of every live entity of `kinds` (all, when empty)."""
        return State(self, kinds)

    def follow(self, position: int, kinds: Sequence[str] = ()) -> Pull[Entry]:
        """A reader of the history after sequence `position`."""
        return self.reader(STREAM, position + 1, self._subjects(kinds), read)

    def mirror(self, position: int, kinds: Sequence[str] = ()) -> Pull[Entry]:
        """A reader of what changed last after `position`, an event for each entity."""
        return self.reader(STATE, position + 1, self._subjects(kinds), read, credit=5000)

    def unread(self, position: int) -> Pull[Delivered]:
        """A reader of the history after sequence `position` that decodes nothing, and so stops at nothing."""
        return self.reader(STREAM, position + 1, (), as_it_is, credit=5000)

    def unread_mirror(self, position: int) -> Pull[Delivered]:
        """The same of what changed last after `position`."""
        return self.reader(STATE, position + 1, (), as_it_is, credit=5000)

    def reader(self, stream: str, start: int, filters: Sequence[str], read: Callable[[Delivered], T], credit: int = 1000) -> Pull[T]:
        """A reader of a stream from `start` on, of subjects that match one of `filters` (all, when empty)."""
        pull = Pull(self._nc, stream, start, prefix=self.prefix, filters=filters, read=read, credit=credit)
        self._pulls.add(pull)
        return pull

    def _subjects(self, kinds: Sequence[str]) -> list[str]:
        return [f"{self.prefix}*.{kind}.>" for kind in kinds]

    async def since(self, time_text: str) -> int:
        """The first sequence at or after an RFC 3339 time; past the head when there is none."""
        name = "t" + os.urandom(8).hex()
        await create_consumer(self._nc, STREAM, consumer(name, "by_start_time") | {"opt_start_time": time_text})
        info = await self.api(f"CONSUMER.INFO.{STREAM}.{name}")
        sequence: int = info["delivered"]["stream_seq"] + 1
        return sequence

    async def stream(self, name: str = STREAM) -> dict[str, Any]:
        """The stream's `state` (messages, bytes, first_seq, last_seq) and `config`."""
        return await self.api(f"STREAM.INFO.{name}")

    async def identity(self) -> Identity:
        """Which log this is; asked once for each connection."""
        if not self._identity:
            info = await self.stream()
            self._identity = identity_of(info["config"])
        return self._identity

    async def at(self, sequence: int) -> Entry:
        """One fact by its sequence.  Raises Refused (NOT_FOUND) where the history does not hold it."""
        message = (await self.api(f"STREAM.MSG.GET.{STREAM}", {"seq": sequence}))["message"]
        body, head = base64.b64decode(message["data"]), base64.b64decode(message.get("hdrs", "")).decode()
        cause = next((int(line.partition(": ")[2]) for line in head.split("\r\n") if line.startswith("Weir-Cause: ")), 0)
        key = message["subject"].removeprefix(self.prefix)
        return Entry(Fact(sequence, decode(body, key, sequence)), key, cause, _unix_ns(message["time"]), len(body))

    # ── small values that are not events ───────────────────────────────────────────────────────────────────────────

    async def value(self, bucket: str, name: str) -> tuple[bytes, int]:
        """The value of a key and its revision; b"" and 0 where there is none, or no longer."""
        return await self._last_message(f"KV_{bucket}", f"$KV.{bucket}.{name}")

    async def last_body(self, stream: str, subject: str) -> bytes:
        """The body of the last message on a subject, which may have wildcards; b"" where there is none."""
        return (await self._last_message(stream, subject))[0]

    async def _last_message(self, stream: str, subject: str) -> tuple[bytes, int]:
        try:
            message = (await self.api(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject}))["message"]
        except Refused as refused:
            if refused.code == NOT_FOUND:
                return b"", 0
            raise
        return base64.b64decode(message.get("data", "")), message["seq"]

    async def store(self, subject: str, body: bytes, last: int) -> int:
        """Appends to a stream that is not the log, if its last message still is `last`.  Returns the sequence."""
        headers = {"Nats-Expected-Last-Sequence": str(last)}
        try:
            sequence: int = checked(await self._nc.request(subject, body, timeout=5, headers=headers))["seq"]
        except GONE as error:
            raise LogUnreachable(f"{subject}: {error or type(error).__name__}") from error
        return sequence

    async def put(self, bucket: str, name: str, value: bytes, revision: int) -> None:
        """Sets a key whose revision still is `revision`, 0 for none.  Raises Refused where it is not."""
        headers = {"Nats-Expected-Last-Subject-Sequence": str(revision)}
        try:
            checked(await self._nc.request(f"$KV.{bucket}.{name}", value, timeout=2, headers=headers))
        except GONE as error:
            raise LogUnreachable(f"{bucket}.{name}: {reason_of(error)}") from error

    # ── signs of life, which no stream keeps ───────────────────────────────────────────────────────────────────────

    async def beat(self, author: str, report: bytes) -> None:
        """Lets those who listen now know that `author` is alive.  Raises LogUnreachable."""
        try:
            await self._nc.publish(alive_subject(self.prefix, author), report)
        except GONE as error:
            raise LogUnreachable(f"sign of life not sent: {reason_of(error)}") from error

    async def listen(self, heard: Callable[[str, bytes], None]) -> None:
        """Calls `heard` with the author and the report of each sign of life, as long as the connection lasts.  Raises LogUnreachable."""

        async def beat(message: Msg) -> None:
            heard(message.subject.rpartition(".")[2], message.data)

        try:
            await self._nc.subscribe(alive_subject(self.prefix, "*"), cb=beat)
        except GONE as error:
            raise LogUnreachable(f"cannot listen for signs of life: {reason_of(error)}") from error

    # ── plumbing ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def api(self, what: str, body: object = None, timeout_s: float = 5) -> dict[str, Any]:
        """One request to JetStream's API.  Raises Refused with its error code, or LogUnreachable."""
        return await request(self._nc, what, body, timeout_s)

    async def _answered(self, message: Msg) -> None:
        if not message.data and not (message.headers and "Status" in message.headers):
            return  # the empty ack of a batch's first message
        answer = self._waiting.get(message.subject.rpartition(".")[2])
        if answer and not answer.done():
            answer.set_result(message)

    async def _disconnected(self) -> None:
        self._lose(LogUnreachable("connection lost"))

    async def _told(self, error: Exception) -> None:
        """What nats-py would say reaches us as an exception or a lost reader, all but a refusal: that looks like no answer."""
        if PERMISSIONS_ERR in str(error):
            self._lose(Forbidden(str(error)))

    def _lose(self, why: LogError) -> None:
        """Ends all that waits for the server."""
        for answer in (*self._waiting.values(), *self._nc._resp_map.values()):
            if not answer.done():
                answer.set_exception(why)
        for pull in self._pulls:
            pull.lose(why)


def as_it_is(message: Delivered) -> Delivered:
    """Reads nothing."""
    return message


def seconds_of(text: str) -> float:
    """Whole seconds since 1970 of JetStream's UTC time text."""
    return _unix_ns(text) // _NS


def _unix_ns(text: str) -> int:
    """Nanoseconds since 1970 of JetStream's UTC time text, "2026-01-01T00:00:00.123456789Z"."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole + "+00:00").timestamp())
    return seconds * _NS + int(fraction.ljust(9, "0")[:9])
