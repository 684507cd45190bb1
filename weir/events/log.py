"""Events about the log itself."""

from typing import ClassVar

from weir.events.base import Event


class EpochStarted(Event, frozen=True, kw_only=True, tag="epoch_started"):
    """Only this process appends in its author's name from here on: the server refuses what an earlier epoch of that author appends."""

    author: ClassVar[str] = ""  # whichever starts it
    kind: ClassVar[str] = "epoch"
    writer: str  # the author, as in subjects
    host: str
    pid: int

    def entity(self) -> tuple[str, str]:
        return "", ""


class ReaderAnnounced(Event, frozen=True, kw_only=True, tag="reader_announced"):
    """A reader of the log subscribes to `kinds`, and knows the event types `knows` of them.

    A writer withholds an event of another type of these kinds until the reader, upgraded, announces it.
    """

    author: ClassVar[str] = ""  # whichever reads
    kind: ClassVar[str] = "reader"
    writer: str  # the reader as an author, as in subjects
    lbnode: str = ""  # on which it runs, where one runs per node
    kinds: tuple[str, ...]  # sorted
    knows: tuple[str, ...]  # sorted

    def entity(self) -> tuple[str, str]:
        return "", ""

    def summary(self) -> str:
        return f"{self.writer} knows {len(self.knows)} event types of {len(self.kinds)} kinds"
