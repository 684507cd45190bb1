"""The log over NATS JetStream: fenced atomic appends; read today's state, then follow.

Readers are ephemeral pull consumers without acks whose credit is kept open; a lost one is never saved, the reader starts anew
from its own position.  An append without an answer is not retried here: whoever appends reads the log again and decides anew.
"""

import asyncio
import base64
import os
import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from weir.decider import Decided, Fact
from weir.events import DECODE, ENCODE, AnyEvent, key_of

STREAM, STATE = "WEIR", "WEIR_STATE"
BATCH = 500  # messages in one atomic batch; the server takes 1,000
NOT_FOUND = 10037
_NS = 1_000_000_000
_HEARTBEAT_S = 1.0
_GONE = (nats.errors.Error, asyncio.TimeoutError, OSError)


class LogError(Exception):
    """The log cannot be used now.  React: start again from STATE, after a while."""


class LogUnreachable(LogError):
    """No answer: what was sent may be stored, or not, or later."""


class Refused(LogError):
    """The server answered no, and nothing of the batch is stored: somebody else wrote, or the fold is stale."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code} {text}")
        self.code = code


class Overtaken(LogError):
    """A fact in our name that this session did not append: another replica, or an earlier append of ours that came late."""


class NotUnderstood(LogError):
    """A fact that this version cannot fold: an unknown type, or a body that does not fit its subject."""


class Entry(NamedTuple):
    """A fact as it stands in the log."""

    fact: Fact
    key: str
    cause: int  # sequence that led to it, 0 for none
    time_ns: int
    size_bytes: int


class Bus:
    """A connection to the log of one cluster."""

    def __init__(self, cluster: str = "local") -> None:
        self.prefix = f"weir.{cluster}."
        self._nc = Client()
        self._waiting: dict[str, asyncio.Future[Msg]] = {}
        self._pulls: set[Pull] = set()
        self._batches = 0
        self._life = os.urandom(6).hex()
        self._inbox = ""

    @classmethod
    async def connect(cls, url: str, name: str, cluster: str = "local") -> Self:
        """Raises LogUnreachable when no server answers within 2 s."""
        bus = cls(cluster)
        try:
            await bus._nc.connect(
                url,
                name=name,
                connect_timeout=2,
                allow_reconnect=False,  # whoever lost the connection starts again from STATE
                max_reconnect_attempts=1,  # counts for the first connection too, where 0 means for ever
                reconnect_time_wait=0.05,
                ping_interval=1,  # a frozen server is noticed in about 3 s
                max_outstanding_pings=2,
                error_cb=_quiet,
                disconnected_cb=bus._disconnected,
            )
            bus._inbox = bus._nc.new_inbox()
            await bus._nc.subscribe(bus._inbox + ".*", cb=bus._answered)
        except _GONE as error:
            raise LogUnreachable(f"no NATS at {url}: {error or type(error).__name__}") from error
        return bus

    async def close(self) -> None:
        """Ends the connection; whatever was under way fails with LogUnreachable."""
        await self._nc.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    # ── append ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def append(self, author: str, decided: Sequence[Decided], fence: int) -> int:
        """Appends all or nothing, if the last fact below `author` still is `fence`.  At most BATCH.  Returns the first sequence."""
        self._batches += 1
        batch = f"{self._life}{self._batches:x}"
        reply = f"{self._inbox}.{batch}"
        answer = self._waiting[batch] = asyncio.get_running_loop().create_future()
        try:
            for index, (event, cause) in enumerate(decided, 1):
                headers = self._headers(author, fence, batch, index, len(decided), cause)
                edge = index in (1, len(decided))
                await self._nc.publish(self.prefix + key_of(event), ENCODE(event), reply=reply if edge else "", headers=headers)
            async with asyncio.timeout(5):
                message = await answer
        except _GONE as error:
            raise LogUnreachable(f"append without an answer: {error or type(error).__name__}") from error
        finally:
            del self._waiting[batch]
        last: int = _checked(message)["seq"]
        return last - len(decided) + 1

    def _headers(self, author: str, fence: int, batch: str, index: int, count: int, cause: int) -> dict[str, str]:
        # The fence makes the id unique: at most one batch can ever follow a given last sequence of this author.
        headers = {"Nats-Msg-Id": f"{self.prefix}{author}.{fence}.{index}"}
        if cause:
            headers["Weir-Cause"] = str(cause)
        if index == 1:
            headers["Nats-Expected-Last-Subject-Sequence"] = str(fence)
            headers["Nats-Expected-Last-Subject-Sequence-Subject"] = f"{self.prefix}{author}.>"
        if count > 1:
            headers |= {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(index)}
            if index == count:
                headers["Nats-Batch-Commit"] = "1"
        return headers

    async def last(self, author: str) -> int:
        """Sequence of the author's last fact that the history still holds, 0 for none.  The stream's leader answers."""
        try:
            answer = await self.api(f"STREAM.MSG.GET.{STREAM}", {"last_by_subj": f"{self.prefix}{author}.>"})
        except Refused as refused:
            if refused.code == NOT_FOUND:
                return 0
            raise
        sequence: int = answer["message"]["seq"]
        return sequence

    # ── read ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def state(self, kinds: Sequence[str] = ()) -> AsyncIterator[list[Entry]]:
        """The last fact of every entity of `kinds` (all, when empty), oldest first."""
        async with Pull(self, STATE, 1, kinds, credit=5000) as pull:
            while pull.pending:
                yield await pull.next()

    def follow(self, position: int, kinds: Sequence[str] = ()) -> "Pull":
        """A reader of the history after sequence `position`."""
        return Pull(self, STREAM, position + 1, kinds)

    async def since(self, time_text: str) -> int:
        """The first sequence at or after an RFC 3339 time; past the head when there is none."""
        name = "t" + os.urandom(8).hex()
        config = _consumer(name, "by_start_time") | {"opt_start_time": time_text}
        await self._create(STREAM, name, config)
        info = await self.api(f"CONSUMER.INFO.{STREAM}.{name}")
        sequence: int = info["delivered"]["stream_seq"] + 1
        return sequence

    async def stream(self, name: str = STREAM) -> dict[str, Any]:
        """The stream's `state` (messages, bytes, first_seq, last_seq) and `config`."""
        return await self.api(f"STREAM.INFO.{name}")

    async def at(self, sequence: int) -> Entry:
        """One fact by its sequence.  Raises Refused (NOT_FOUND) where the history does not hold it."""
        message = (await self.api(f"STREAM.MSG.GET.{STREAM}", {"seq": sequence}))["message"]
        body, head = base64.b64decode(message["data"]), base64.b64decode(message.get("hdrs", "")).decode()
        cause = next((int(line.partition(": ")[2]) for line in head.split("\r\n") if line.startswith("Weir-Cause: ")), 0)
        key = message["subject"].removeprefix(self.prefix)
        return Entry(Fact(sequence, _decode(body, key, sequence)), key, cause, _unix_ns(message["time"]), len(body))

    # ── plumbing ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def api(self, what: str, body: object = None, timeout_s: float = 5) -> dict[str, Any]:
        """One request to JetStream's API.  Raises Refused with its error code, or LogUnreachable."""
        try:
            message = await self._nc.request(f"$JS.API.{what}", msgspec.json.encode(body) if body else b"", timeout=timeout_s)
        except _GONE as error:
            raise LogUnreachable(f"{what}: {error or type(error).__name__}") from error
        return _checked(message)

    async def _create(self, stream: str, name: str, config: dict[str, Any]) -> int:
        body = {"stream_name": stream, "config": config, "action": "create"}
        pending: int = (await self.api(f"CONSUMER.CREATE.{stream}.{name}", body))["num_pending"]
        return pending

    async def _answered(self, message: Msg) -> None:
        if not message.data and not (message.headers and "Status" in message.headers):
            return  # the empty ack of a batch's first message
        answer = self._waiting.get(message.subject.rpartition(".")[2])
        if answer and not answer.done():
            answer.set_result(message)

    async def _disconnected(self) -> None:
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(nats.errors.ConnectionClosedError())
        for pull in self._pulls:
            pull.lose("connection lost")


class Pull:
    """One reader.  `pending`: how many messages the stream still holds behind the last one given out.

    Use: `async with bus.follow(position) as pull: entries = await pull.next()`.
    """

    def __init__(self, bus: Bus, stream: str, start: int, kinds: Sequence[str], credit: int = 1000) -> None:
        self._bus, self._stream, self._start, self._most = bus, stream, start, credit
        self._filters = [f"{bus.prefix}*.{kind}.>" for kind in kinds]
        self._name = "r" + os.urandom(8).hex()
        self._credit = 0
        self._buffer: list[Entry] = []
        self._ready = asyncio.Event()
        self._lost: LogError | None = None
        self._heard = time.monotonic()
        self._behind = self.pending = 0

    async def __aenter__(self) -> Self:
        nc = self._bus._nc
        try:
            self._inbox = nc.new_inbox()
            self._subscription = await nc.subscribe(self._inbox, cb=self._received, pending_msgs_limit=-1, pending_bytes_limit=-1)
            config = _consumer(self._name, "by_start_sequence") | {"opt_start_seq": self._start}
            if self._filters:
                config["filter_subjects"] = self._filters
            self.pending = await self._bus._create(self._stream, self._name, config)
            self._bus._pulls.add(self)
            await self._top_up()
        except nats.errors.Error as error:
            raise LogUnreachable(f"{self._stream}: {error or type(error).__name__}") from error
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bus._pulls.discard(self)
        if self._bus._nc.is_connected:  # else the server removes the consumer by itself
            await self._subscription.unsubscribe()
            await self._bus._nc.publish(f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._name}")

    async def next(self) -> list[Entry]:
        """What has come since the last call, at least one entry.  Raises LogError when the reader is lost."""
        while not self._buffer:
            if self._lost:
                raise self._lost
            self._ready.clear()
            try:
                async with asyncio.timeout(_HEARTBEAT_S):
                    await self._ready.wait()
            except TimeoutError:
                if time.monotonic() - self._heard > 3 * _HEARTBEAT_S:
                    self.lose("reader is silent")
        entries, self._buffer = self._buffer, []
        self.pending = self._behind
        await self._top_up()
        return entries

    def lose(self, why: str | LogError) -> None:
        """Ends the reader; what it has got already is still given out."""
        self._lost = self._lost or (why if isinstance(why, LogError) else LogUnreachable(f"{self._stream}: {why}"))
        self._ready.set()

    async def _top_up(self) -> None:
        if self._credit > self._most // 2:
            return
        request = {"batch": self._most - self._credit, "expires": 30 * _NS, "idle_heartbeat": int(_HEARTBEAT_S * _NS)}
        self._credit = self._most
        try:
            where = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._name}"
            await self._bus._nc.publish(where, msgspec.json.encode(request), reply=self._inbox)
        except nats.errors.Error as error:
            self.lose(type(error).__name__)

    async def _received(self, message: Msg) -> None:
        self._heard = time.monotonic()
        if message.reply.startswith("$JS.ACK."):
            self._credit -= 1
            try:
                entry, self._behind = _entry(message, self._bus.prefix)
            except NotUnderstood as error:
                self.lose(error)
                return
            self._buffer.append(entry)
            self._ready.set()
            return
        headers = message.headers or {}
        status, words = headers.get("Status", ""), headers.get("Description", "")
        if status == "100":  # heartbeat
            return
        if status in ("404", "408") or (status == "409" and "Nats-Pending-Messages" in headers and "Deleted" not in words):
            self._credit -= int(headers.get("Nats-Pending-Messages", "0"))
            await self._top_up()
        else:
            self.lose(f"{status} {words}")


async def ensure_streams(bus: Bus, *, replicas: int = 1, max_bytes: int = 1 << 30) -> None:
    """Creates both streams where they are not there yet.  Why each setting: docs/design.md, "The log"."""
    common = {"storage": "file", "num_replicas": replicas, "deny_delete": True, "deny_purge": True}
    history = {"subjects": ["weir.>"], "retention": "limits", "discard": "new", "max_age": 30 * 86400 * _NS, "max_bytes": max_bytes}
    limits = {"max_msg_size": 1 << 20, "duplicate_window": 120 * _NS, "allow_atomic": True, "allow_direct": False}
    state = {"mirror": {"name": STREAM}, "max_msgs_per_subject": 1, "discard": "old", "allow_direct": True}
    for config in ({"name": STREAM, **common, **history, **limits}, {"name": STATE, **common, **state}):
        try:
            await bus.stream(str(config["name"]))
        except Refused:
            await bus.api(f"STREAM.CREATE.{config['name']}", config, timeout_s=10)


def _consumer(name: str, policy: str) -> dict[str, Any]:
    return {
        "name": name,
        "deliver_policy": policy,
        "ack_policy": "none",
        "replay_policy": "instant",
        "inactive_threshold": 30 * _NS,
        "mem_storage": True,
        "num_replicas": 1,
    }


def _entry(message: Msg, prefix: str) -> tuple[Entry, int]:
    """A delivered message and how many are pending; the reply subject is $JS.ACK.stream.consumer.tries.seq.cseq.time.pending."""
    sequence, _, time_ns, pending = (int(part) for part in message.reply.split(".")[-4:])
    key = message.subject.removeprefix(prefix)
    cause = int((message.headers or {}).get("Weir-Cause", "0"))
    return Entry(Fact(sequence, _decode(message.data, key, sequence)), key, cause, time_ns, len(message.data)), pending


def _decode(body: bytes, key: str, sequence: int) -> AnyEvent:
    try:
        event: AnyEvent = DECODE(body)
    except msgspec.MsgspecError as error:
        raise NotUnderstood(f"fact {sequence} on {key}: {error}") from error
    if key_of(event) != key:
        raise NotUnderstood(f"fact {sequence} on {key} speaks of {key_of(event)}: forged, or misplaced")
    return event


def _checked(message: Msg) -> dict[str, Any]:
    if message.headers and message.headers.get("Status") == "503":
        raise LogUnreachable("no responders")
    answer: dict[str, Any] = msgspec.json.decode(message.data)
    error = answer.get("error")
    if error and error.get("code") == 503:
        raise LogUnreachable(f"{error.get('err_code')} {error.get('description')}")
    if error:
        raise Refused(error.get("err_code", 0), error.get("description", ""))
    if answer.get("duplicate"):
        raise Refused(10201, "an append with this fence is in the log already")
    return answer


def _unix_ns(text: str) -> int:
    """Nanoseconds since 1970 of JetStream's UTC time text, "2026-01-01T00:00:00.123456789Z"."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole + "+00:00").timestamp())
    return seconds * _NS + int(fraction.ljust(9, "0")[:9])


async def _quiet(_: Exception) -> None:
    """nats-py's error callback: what it would say reaches us as an exception or a lost reader."""
