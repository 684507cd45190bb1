"""inotify over a few directories: what happened, by path.

A directory is watched by the path it was given under, so that one replaced by another (a link swapped, a folder renamed) is
noticed through its parent and watched again.
"""

import asyncio
import contextlib
from pathlib import Path
from typing import Final, NamedTuple

from asyncinotify import Event, Inotify, Mask

_MASK: Final = (
    *(Mask.CLOSE_WRITE, Mask.MOVED_TO, Mask.DELETE, Mask.MOVED_FROM, Mask.CREATE, Mask.ATTRIB),
    *(Mask.DELETE_SELF, Mask.MOVE_SELF, Mask.ONLYDIR),
)
_SELF: Final = Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.IGNORED | Mask.UNMOUNT


class Touch(NamedTuple):
    """What happened to a file.  `path` None: the kernel's queue overflowed."""

    path: Path | None
    mask: Mask


class Watches:
    """The directories watched."""

    def __init__(self, inotify: Inotify) -> None:
        self._inotify = inotify
        self._paths: dict[int, set[Path]] = {}  # watch descriptor -> paths of that directory

    def add(self, directory: Path) -> None:
        """Watch what is at `directory` now.  Raises OSError where nothing can be watched there."""
        try:
            descriptor: int = self._inotify.add_watch(directory, Mask(sum(_MASK))).wd
        except OSError:
            self._drop(directory)
            raise
        if directory not in self._paths.get(descriptor, ()):
            self._drop(directory)
            self._paths.setdefault(descriptor, set()).add(directory)

    def missing(self, directories: set[Path]) -> set[Path]:
        """Return those of `directories` that are not watched."""
        return directories.difference(*self._paths.values())

    async def wait(self, due: float | None) -> None:
        """Wait until something happened, or the loop's clock reaches `due`."""
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._inotify.fd, readable.set)  # only while somebody waits: it fires as long as there is something to read
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await readable.wait()
        finally:
            loop.remove_reader(self._inotify.fd)

    def drain(self) -> list[Touch]:
        """Return what happened, in order.  A directory that was moved or deleted is not watched any more."""
        return [touch for event in self._inotify for touch in self._touches(event)]

    def _touches(self, event: Event) -> list[Touch]:
        if Mask.Q_OVERFLOW in event.mask:
            return [Touch(None, event.mask)]
        paths = sorted(self._paths.get(event.watch.wd, ())) if event.watch else []
        if event.name:
            return [Touch(path / event.name, event.mask) for path in paths]
        if event.mask & _SELF:
            for path in paths:
                self._drop(path)
        return [Touch(path, event.mask) for path in paths]

    def _drop(self, directory: Path) -> None:
        for descriptor in [descriptor for descriptor, paths in self._paths.items() if directory in paths]:
            self._paths[descriptor].discard(directory)
            if not self._paths[descriptor]:
                del self._paths[descriptor]
                for watch in self._inotify.watches:
                    if watch.wd == descriptor:
                        with contextlib.suppress(OSError):  # the kernel has dropped it already
                            self._inotify.rm_watch(watch)
