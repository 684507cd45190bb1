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
