"""The socket on which an FRR daemon takes commands, as vtysh speaks to it.

A command ends in NUL; its answer ends in three NULs and a status, 0 where it is taken.
"""

import asyncio
from collections.abc import Iterable
from pathlib import Path

_PATIENCE_S = 5.0
_END = b"\0\0\0"
_TAKEN = 0
_MOST_BYTES = 64 << 20  # of one answer


class NoAnswer(Exception):
    """The daemon does not answer: the message says why."""


class Vty:
    """One daemon; connected when it is first spoken to, and again after it was started again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    @property
    def connected(self) -> bool:
        """Whether it is the daemon that was last spoken to, and not one that was started since."""
        return self._streams is not None and not self._streams[0].at_eof()

    async def show(self, what: str) -> str:
        """Return what it prints.  Raises NoAnswer."""
        status, text = (await self._say(["enable", f"show {what}"]))[-1]
        if status != _TAKEN:
            raise NoAnswer(f"{self._path.stem}: show {what}: {text.strip()}")
        return text

    async def configure(self, commands: Iterable[str]) -> list[str]:
        """Say commands in turn; return the answers of those that it refuses, without the commands.  Raises NoAnswer."""
        answers = await self._say(["enable", "configure terminal", *commands, "end"])
        return [text.strip() for status, text in answers if status != _TAKEN]

    async def _say(self, commands: list[str]) -> list[tuple[int, str]]:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                if self._streams is None or not self.connected:
                    self._streams = await asyncio.open_unix_connection(self._path, limit=_MOST_BYTES)
                reader, writer = self._streams
                writer.write(b"".join(command.encode() + b"\0" for command in commands))
                return [await _answer(reader) for _ in commands]
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            if self._streams:
                self._streams[1].close()
            self._streams = None
            raise NoAnswer(f"{self._path.stem} of FRR does not answer: {getattr(error, 'strerror', '') or type(error).__name__}") from error


async def _answer(reader: asyncio.StreamReader) -> tuple[int, str]:
    text = (await reader.readuntil(_END))[: -len(_END)]
    return (await reader.readexactly(1))[0], text.decode(errors="replace")
