"""One event per line of JSON, with its place in the log: how dumps and snapshots store events."""

import msgspec

from weir.bus.reader import Delivered, Entry
from weir.decider import Fact
from weir.events import AnyEvent


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


class _Keyed(msgspec.Struct, frozen=True, gc=False):
    """A line, of which only the key is decoded."""

    key: str


LINES, RAW_LINES = msgspec.json.Decoder(Line), msgspec.json.Decoder(RawLine)
_KEYS = msgspec.json.Decoder(_Keyed)
_RAW = msgspec.json.Decoder(msgspec.Raw)
ENCODE_LINE = msgspec.json.Encoder(order="deterministic").encode


def keyed(text: bytes) -> list[tuple[str, bytes]]:
    """Yield the key of each line of `text`, and the line."""
    return [(_KEYS.decode(each).key, each + b"\n") for each in text.split(b"\n") if each]


def line(message: Delivered) -> bytes:
    """Return the line of one event, with the body that is in the log.

    A body that is not JSON becomes text, and one with line breaks in it is written without, so that each line can be read.
    """
    try:
        event = _RAW.decode(message.body if b"\n" not in message.body else msgspec.json.format(message.body, indent=-1))
    except msgspec.MsgspecError:
        event = msgspec.Raw(ENCODE_LINE(message.body.decode(errors="backslashreplace")))
    cause = message.headers.get("Weir-Cause", "0")
    number = int(cause) if cause.isdecimal() else 0
    return ENCODE_LINE(RawLine(message.sequence, message.time_ns, number, message.key, len(message.body), event)) + b"\n"
