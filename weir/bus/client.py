"""The event log over NATS JetStream: fenced atomic appends; read the current state, then follow.

An append without an answer is not retried here: the caller reads the log again, and decides again.
"""

import base64
import os
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self
from weakref import WeakSet

from nats.aio.msg import Msg
from nats.protocol.parser import PERMISSIONS_ERR

from weir.bus.access import api_of, nats_access
from weir.bus.appends import Appends
from weir.bus.identity import Identity, identity_of
from weir.bus.nats_client import NatsClient, not_connected
from weir.bus.reader import (
    GONE,
    Delivered,
    Entry,
    Forbidden,
    LogError,
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
from weir.bus.subjects import STATE, STREAM, Expected, alive_subject, epoch_key, subtree
from weir.bus.times import unix_ns
from weir.decider import Decided, Fact
from weir.words import reason_of

NOT_FOUND: Final = 10037


class Bus:
    """A connection to the log of one cluster."""

    def __init__(self, cluster: str = "local") -> None:
        self.cluster, self.prefix = cluster, f"weir.{cluster}."
        self._identity: Identity | None = None
        self._nc = NatsClient()
        self._appends = Appends(self._nc, self.prefix)
        self._pulls: WeakSet[Pull[Any]] = WeakSet()

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
                allow_reconnect=False,  # a session that lost the connection starts again from STATE
                max_reconnect_attempts=1,  # counts for the first connection too, where 0 means indefinitely
                reconnect_time_wait=0.05,
                ping_interval=1,  # a frozen server is noticed in about 3 s
                max_outstanding_pings=2,
                error_cb=bus._failed,
                disconnected_cb=bus._disconnected,
            )
            await bus._appends.open()
        except GONE as error:
            await bus.close()
            raise not_connected(url, name, error) from error
        return bus

    async def close(self) -> None:
        """Close the connection; what is pending fails with LogUnreachable."""
        await self._nc.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    # ── append ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def append(self, author: str, decided: Sequence[Decided], last: int, expected: Sequence[Expected] = ()) -> int:
        """Append all or nothing.  Returns the first sequence.

        last: the author's last event as the caller knows it; if there is a later one nothing is stored.   expected: checked instead.
        A session appends by a `Writer`, at a cost that does not grow with the author's names; this alone is for single appends.
        """
        return await self._appends.append(author, decided, last, expected or (subtree(author, last),))

    async def last(self, author: str) -> int:
        """Return the sequence of the author's last event in the history, 0 for none.  The stream's leader answers."""
        return (await self._last_message(STREAM, f"{self.prefix}{author}.>"))[1]

    async def epoch(self, author: str) -> int:
        """Return the sequence at which the author's last epoch started, 0 for none."""
        return (await self._last_message(STREAM, self.prefix + epoch_key(author)))[1]

    # ── read ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def state(self, kinds: Sequence[str] = ()) -> State:
        """Read the last event of every live entity of `kinds` (all, when empty)."""
        return State(self, kinds)

    def follow(self, position: int, kinds: Sequence[str] = ()) -> Pull[Entry]:
        """Read the history after sequence `position`."""
        return self.reader(STREAM, position + 1, self._subjects(kinds), read)

    def mirror(self, position: int, kinds: Sequence[str] = ()) -> Pull[Entry]:
        """Read the last event of each entity that changed after `position`."""
        return self.reader(STATE, position + 1, self._subjects(kinds), read, credit=5000)

    def unread(self, position: int) -> Pull[Delivered]:
        """Read the history after sequence `position` undecoded, so that no event stops the reader."""
        return self.reader(STREAM, position + 1, (), as_it_is, credit=5000)

    def unread_mirror(self, position: int) -> Pull[Delivered]:
        """Read the last event of each entity that changed after `position`, undecoded."""
        return self.reader(STATE, position + 1, (), as_it_is, credit=5000)

    def reader(self, stream: str, start: int, filters: Sequence[str], read: Callable[[Delivered], T], credit: int = 1000) -> Pull[T]:
        """Read a stream from `start` on, subjects that match one of `filters` (all, when empty)."""
        pull = Pull(self._nc, stream, start, prefix=self.prefix, filters=filters, read=read, credit=credit)
        self._pulls.add(pull)
        return pull

    def _subjects(self, kinds: Sequence[str]) -> list[str]:
        return [f"{self.prefix}*.{kind}.>" for kind in kinds]

    async def since(self, time_text: str) -> int:
        """Return the first sequence at or after an RFC 3339 time; past the head when there is none."""
        name = "t" + os.urandom(8).hex()
        await create_consumer(self._nc, STREAM, consumer(name, "by_start_time") | {"opt_start_time": time_text})
        info = await self.api(f"CONSUMER.INFO.{STREAM}.{name}")
        sequence: int = info["delivered"]["stream_seq"] + 1
        return sequence

    async def stream(self, name: str = STREAM) -> dict[str, Any]:
        """Return the stream's `state` (messages, bytes, first_seq, last_seq) and `config`."""
        return await self.api(f"STREAM.INFO.{name}")

    async def identity(self) -> Identity:
        """Return which log this is; requested once per connection."""
        if not self._identity:
            info = await self.stream()
            self._identity = identity_of(info["config"])
        return self._identity

    async def at(self, sequence: int) -> Entry:
        """Return one event.  Raises Refused (NOT_FOUND) where the history does not have it."""
        message = (await self.api(f"STREAM.MSG.GET.{STREAM}", {"seq": sequence}))["message"]
        body, head = base64.b64decode(message["data"]), base64.b64decode(message.get("hdrs", "")).decode()
        cause = next((int(line.partition(": ")[2]) for line in head.split("\r\n") if line.startswith("Weir-Cause: ")), 0)
        key = message["subject"].removeprefix(self.prefix)
        return Entry(Fact(sequence, decode(body, key, sequence)), key, cause, unix_ns(message["time"]), len(body))

    # ── small values that are not events ───────────────────────────────────────────────────────────────────────────

    async def value(self, bucket: str, name: str) -> tuple[bytes, int]:
        """Return the value of a key and its revision; b"" and 0 where there is none."""
        return await self._last_message(f"KV_{bucket}", f"$KV.{bucket}.{name}")

    async def last_body(self, stream: str, subject: str) -> bytes:
        """Return the body of the last message on a subject, which may have wildcards; b"" where there is none."""
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
        """Append to a stream that is not the log, if its last message still is `last`; return the sequence."""
        headers = {"Nats-Expected-Last-Sequence": str(last)}
        try:
            sequence: int = checked(await self._nc.request(subject, body, timeout=5, headers=headers))["seq"]
        except GONE as error:
            raise LogUnreachable(f"{subject}: {error or type(error).__name__}") from error
        return sequence

    async def put(self, bucket: str, name: str, value: bytes, revision: int) -> None:
        """Set a key if its revision still is `revision`, 0 for none.  Raises Refused where it is not."""
        headers = {"Nats-Expected-Last-Subject-Sequence": str(revision)}
        try:
            checked(await self._nc.request(f"$KV.{bucket}.{name}", value, timeout=2, headers=headers))
        except GONE as error:
            raise LogUnreachable(f"{bucket}.{name}: {reason_of(error)}") from error

    # ── heartbeats, which no stream stores ───────────────────────────────────────────────────────────────────────

    async def beat(self, author: str, report: bytes) -> None:
        """Send a heartbeat of `author` to those who listen now.  Raises LogUnreachable."""
        try:
            await self._nc.publish(alive_subject(self.prefix, author), report)
        except GONE as error:
            raise LogUnreachable(f"heartbeat not sent: {reason_of(error)}") from error

    async def listen(self, heard: Callable[[str, bytes], None]) -> None:
        """Call `heard` with the author and the report of each heartbeat, while the connection lasts.  Raises LogUnreachable."""

        async def beat(message: Msg) -> None:
            heard(message.subject.rpartition(".")[2], message.data)

        try:
            await self._nc.subscribe(alive_subject(self.prefix, "*"), cb=beat)
        except GONE as error:
            raise LogUnreachable(f"cannot subscribe to heartbeats: {reason_of(error)}") from error

    # ── plumbing ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def api(self, what: str, body: object = None, timeout_s: float = 5) -> dict[str, Any]:
        """Send one request to JetStream's API.  Raises Refused with its error code, or LogUnreachable."""
        return await request(self._nc, what, body, timeout_s)

    async def _disconnected(self) -> None:
        self._lose(LogUnreachable("connection lost"))

    async def _failed(self, error: Exception) -> None:
        """Fail on a refusal: nats-py reports every other error by an exception or a lost consumer."""
        if PERMISSIONS_ERR in str(error):
            self._lose(Forbidden(str(error)))

    def _lose(self, why: LogError) -> None:
        """Fail every pending append, request and consumer."""
        self._appends.fail(why)
        for answer in self._nc._resp_map.values():
            if not answer.done():
                answer.set_exception(why)
        for pull in self._pulls:
            pull.lose(why)


def as_it_is(message: Delivered) -> Delivered:
    """Return the message undecoded."""
    return message
