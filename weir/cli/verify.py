"""`weir log verify`: reads the whole history and says what in it is not as it must be, each with its sequence."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import NamedTuple

from weir.bus import STATE, STREAM, Bus
from weir.cli.history import ask, source
from weir.cli.output import MACHINE, Progress, emit, emit_one
from weir.cli.recording import Recording
from weir.reader import Delivered, NotUnderstood, read

MIRROR_WAIT_S = 5.0


class Fault(NamedTuple):
    """sequence: 0 where it is of the log as a whole."""

    sequence: int
    key: str
    fault: str


class Audit:
    """What has been read of a history, and what was wrong with it.

    digest: a chain over key and body of each fact: equal digests, equal histories.
    """

    def __init__(self, first: int) -> None:
        self.facts = 0
        self.last = first - 1
        self.latest: dict[str, tuple[int, bytes]] = {}  # entity -> sequence and body of its last fact
        self.faults: list[Fault] = []
        self._chain = hashlib.sha256()
        self._appended: dict[str, tuple[int, int, int]] = {}  # author -> fence and index of its last fact, and its sequence

    @property
    def digest(self) -> str:
        return self._chain.hexdigest()[:16]

    def hear(self, message: Delivered) -> None:
        """The next fact of the history."""
        if message.sequence != self.last + 1:
            self._fault(message, f"follows {self.last}: {message.sequence - self.last - 1} facts are missing before it")
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

    def compare(self, state: Iterable[Delivered]) -> None:
        """STATE against the last fact of each entity; it may hold what the history has dropped, and what came since."""
        held = {message.key: message for message in state}
        for key, (sequence, body) in self.latest.items():
            if key not in held:
                self.faults.append(Fault(sequence, key, "STATE does not hold this entity"))
            elif held[key].sequence < sequence:
                self.faults.append(Fault(sequence, key, f"STATE holds its fact {held[key].sequence} instead"))
            elif held[key].sequence == sequence and held[key].body != body:
                self.faults.append(Fault(sequence, key, "STATE holds another body under this sequence"))

    def _hear_fence(self, message: Delivered) -> None:
        """An append names the last fact of its author that it knew of: `…AUTHOR.FENCE.INDEX` as its id."""
        author = message.key.partition(".")[0]
        words = message.headers.get("Nats-Msg-Id", "").rsplit(".", 2)
        if len(words) < 3 or not (words[1].isdecimal() and words[2].isdecimal()):
            return  # of a recording, or written by hand
        fence, index = int(words[1]), int(words[2])
        if author in self._appended:
            before, count, last = self._appended[author]
            if (fence, index) not in ((last, 1), (before, count + 1)):
                self._fault(message, f"was appended behind fact {fence} as number {index}, but {author} stood at {last}")
        self._appended[author] = fence, index, message.sequence

    def _fault(self, message: Delivered, words: str) -> None:
        self.faults.append(Fault(message.sequence, message.key, words))


def verify(instance: str, file: Path | None, output: str) -> int:
    """Prints what is wrong; returns 1 when anything is.  file: of a recording, which has neither STATE nor fences."""

    async def question() -> Audit:
        async with source(instance, file) as log:
            return _audit_file(log) if isinstance(log, Recording) else await _audit(log)

    audit = ask(instance, question())
    found = [fault._asdict() for fault in audit.faults]
    if output in MACHINE:
        told = {"facts": audit.facts, "last": audit.last, "entities": len(audit.latest), "digest": audit.digest, "faults": found}
        emit_one(told, output)
        return bool(found)
    if found:
        emit(found, output)
    words = f"{len(found)} faults" if found else "no fault"
    print(f"{words} in {audit.facts} facts up to {audit.last} about {len(audit.latest)} entities, digest {audit.digest}")
    return bool(found)


def _audit_file(recording: Recording) -> Audit:
    audit = Audit(recording.head.first)
    for batch in recording.unread():
        for message in batch:
            audit.hear(message)
    return audit


async def _audit(bus: Bus) -> Audit:
    stream = (await bus.stream())["state"]
    audit = Audit(stream["first_seq"])
    async for message in _messages(bus, STREAM, stream["first_seq"], stream["last_seq"]):
        audit.hear(message)
    mirrored = await _mirrored(bus, audit.last)
    newest = (await bus.stream())["state"]["last_seq"]  # asked after STATE was: it can only have grown
    if mirrored < audit.last:
        audit.faults.append(Fault(0, "", f"STATE has come to {mirrored} of {audit.last}"))
    if mirrored > newest:
        audit.faults.append(Fault(0, "", f"STATE is at {mirrored}, ahead of the history's {newest}"))
    audit.compare([message async for message in _messages(bus, STATE, 1)])
    return audit


async def _messages(bus: Bus, stream: str, first: int, last: int | None = None) -> AsyncIterator[Delivered]:
    async with bus.unread(stream, first - 1) as pull:
        with Progress(f"verifying {stream}", first, last or first + pull.pending) as progress:
            while pull.pending:
                for message in await pull.next():
                    if last is not None and message.sequence > last:
                        return
                    yield message
                progress.at(message.sequence)


async def _mirrored(bus: Bus, position: int) -> int:
    """How far STATE is; it gets a while to come to `position`."""
    end = asyncio.get_running_loop().time() + MIRROR_WAIT_S
    while True:
        reached: int = (await bus.stream(STATE))["state"]["last_seq"]
        if reached >= position or asyncio.get_running_loop().time() > end:
            return reached
        await asyncio.sleep(0.05)
