"""One event per line of JSON, with its place in the log: how dumps and snapshots store events."""

import msgspec

from weir.decider import Fact
from weir.events import AnyEvent
from weir.reader import Delivered, Entry


class _Place(msgspec.Struct, frozen=True, gc=False):
    """An event's place in the log.  key: its subject without `weir.<cluster>.`; size_bytes: of its body there."""

    sequence: int
    time_ns: int
    cause: int
    key: str
    size_bytes: int


class Line(_Place, frozen=True, gc=False):
    """One event."""

    event: AnyEvent

    def entry(self) -> Entry:
        return Entry(Fact(self.sequence, self.event, self.key), self.key, self.cause, self.time_ns, self.size_bytes)


class RawLine(_Place, frozen=True, gc=False):
    """One event whose body is not decoded."""

    event: msgspec.Raw

    def delivered(self) -> Delivered:
        return Delivered(self.sequence, self.time_ns, self.key, {"Weir-Cause": str(self.cause)}, bytes(self.event))


LINES, RAW_LINES = msgspec.json.Decoder(Line), msgspec.json.Decoder(RawLine)
_RAW = msgspec.json.Decoder(msgspec.Raw)
ENCODE_LINE = msgspec.json.Encoder(order="deterministic").encode


def line(message: Delivered) -> bytes:
    """The line of one event, its body as the log has it; a body that is not JSON becomes text, so that the line can be read."""
    try:
        event = _RAW.decode(message.body)
    except msgspec.MsgspecError:
        event = msgspec.Raw(ENCODE_LINE(message.body.decode(errors="backslashreplace")))
    cause = message.headers.get("Weir-Cause", "0")
    number = int(cause) if cause.isdecimal() else 0
    return ENCODE_LINE(RawLine(message.sequence, message.time_ns, number, message.key, len(message.body), event)) + b"\n"
