"""Audit: check the whole history, its mirror and its snapshots; each fault is reported with its sequence."""

import asyncio
import hashlib
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

from weir.bus.client import Bus
from weir.bus.reader import Delivered, NotUnderstood, read
from weir.bus.snapshots import history, live, sequences, snapshot_at, unread_of
from weir.bus.subjects import STATE
from weir.events import is_gone
from weir.view.progress import progress
from weir.view.recording import Recording

MIRROR_WAIT_S = 5.0


class Fault(NamedTuple):
    """sequence: 0 where it is of the log as a whole."""

    sequence: int
    key: str
    fault: str


class Audit:
    """The state of an audit: what has been read, and the faults found.

    digest: a chain over key and body of each event: equal digests, equal histories.
    """

    def __init__(self, first: int) -> None:
        self.facts = 0
        self.last = first - 1
        self.latest: dict[str, tuple[int, bytes]] = {}  # entity -> sequence and body of its last event
        self.faults: list[Fault] = []
        self._chain = hashlib.sha256()
        self._appended: dict[str, tuple[int, int, int]] = {}  # author -> fence and index of its last event, and its sequence

    @property
    def digest(self) -> str:
        return self._chain.hexdigest()[:16]

    def hear(self, message: Delivered) -> None:
        """Check the next event of the history."""
        if message.sequence != self.last + 1:
            self._fault(message, f"follows {self.last}: {message.sequence - self.last - 1} events are missing before it")
        self.last = message.sequence
        self.facts += 1
        self._chain.update(b"%d %s %d\n" % (message.sequence, message.key.encode(), len(message.body)))
        self._chain.update(message.body)
        self.latest[message.key] = message.sequence, message.body
        try:
            read(message)
        except NotUnderstood as error:
            self._fault(message, str(error).partition(": ")[2] or str(error))
        self._hear_fence(message)

    def compare(self, messages: Iterable[Delivered], where: str = STATE, since: int = 0) -> None:
        """Compare a copy with the last event of each entity after `since`.  The copy may have later events."""
        held = {message.key: message for message in messages}
        for key, (sequence, body) in self.latest.items():
            found = held.get(key)
            if sequence <= since or (found is None and is_gone(body)):
                continue
            if found is None:
                self.faults.append(Fault(sequence, key, f"{where} does not hold this entity"))
            elif found.sequence < sequence:
                self.faults.append(Fault(sequence, key, f"{where} holds its event {found.sequence} instead"))
            elif found.sequence == sequence and found.body != body:
                self.faults.append(Fault(sequence, key, f"{where} holds another body under this sequence"))

    def compare_back(self, messages: Iterable[Delivered], where: str, first: int) -> None:
        """Find events in a copy, from `first` on, that are not the last of their entity, or are of one that is gone."""
        for message in messages:
            key = message.key
            sequence, body = self.latest.get(key, (0, b""))
            if message.sequence >= first and (sequence != message.sequence or is_gone(body)):
                self.faults.append(Fault(message.sequence, key, f"{where} holds it, and the history's last event of it is {sequence}"))

    def _hear_fence(self, message: Delivered) -> None:
        """Check the fence: an append has the last event that its author knew in its id, `…AUTHOR.FENCE.INDEX`."""
        author = message.key.partition(".")[0]
        words = message.headers.get("Nats-Msg-Id", "").rsplit(".", 2)
        if len(words) < 3 or not (words[1].isdecimal() and words[2].isdecimal()):
            return  # of a recording, or written by hand
        fence, index = int(words[1]), int(words[2])
        if author in self._appended:
            before, count, last = self._appended[author]
            if (fence, index) not in ((last, 1), (before, count + 1)):
                self._fault(message, f"was appended behind event {fence} as number {index}, but {author} stood at {last}")
        self._appended[author] = fence, index, message.sequence

    def _fault(self, message: Delivered, words: str) -> None:
        self.faults.append(Fault(message.sequence, message.key, words))


async def audited(log: Bus | Recording) -> Audit:
    """Read the whole history and check it.  A recording has no snapshots, mirror or fences to compare."""
    return _audit_file(log) if isinstance(log, Recording) else await _audit(log)


def _audit_file(recording: Recording) -> Audit:
    audit = Audit(recording.head.first)
    for batch in recording.unread():
        for message in batch:
            audit.hear(message)
    return audit


async def _audit(bus: Bus) -> Audit:
    stream = (await bus.stream())["state"]
    first, last = stream["first_seq"], stream["last_seq"]
    audit, snapshots = Audit(first), await sequences(bus)
    with progress("verifying the history", first, last) as advance:
        for start, end in pairwise(sorted({first - 1, *(at for at in snapshots if first <= at <= last), last})):
            async for messages in history(bus, start + 1, end):
                for message in messages:
                    audit.hear(message)
                advance(audit.last)
            if end in snapshots:
                await _compare_snapshot(bus, audit, end, first)
    mirrored = await _mirrored(bus, audit.last)
    newest = (await bus.stream())["state"]["last_seq"]  # asked after the mirror was: it can only have grown
    if mirrored < audit.last:
        audit.faults.append(Fault(0, "", f"{STATE} has come to {mirrored} of {audit.last}"))
    if mirrored > newest:
        audit.faults.append(Fault(0, "", f"{STATE} is at {mirrored}, ahead of the history's {newest}"))
    _, changed, _ = await live(bus)
    audit.compare(changed.values(), STATE, since=snapshots[-1] if snapshots else 0)
    return audit


async def _compare_snapshot(bus: Bus, audit: Audit, at: int, first: int) -> None:
    if snapshot := await snapshot_at(bus, at):
        held = [message async for messages in unread_of(bus, snapshot) for message in messages]
        audit.compare(held, f"the snapshot at {at}")
        audit.compare_back(held, f"the snapshot at {at}", first)


async def _mirrored(bus: Bus, position: int) -> int:
    """Return the mirror's last sequence, after a while for it to reach `position`."""
    end = asyncio.get_running_loop().time() + MIRROR_WAIT_S
    while True:
        reached: int = (await bus.stream(STATE))["state"]["last_seq"]
        if reached >= position or asyncio.get_running_loop().time() > end:
            return reached
        await asyncio.sleep(0.05)
