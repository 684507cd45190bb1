"""inotify over a few directories: what happened, by path.

A directory is watched by the path it was given under, so that one replaced by another (a link swapped, a folder renamed) is
noticed through its parent and watched again.  Where the kernel gives no inotify, everything is looked at every POLL_S.
"""

import asyncio
import contextlib
import errno
import os
from pathlib import Path
from typing import Final, NamedTuple

import structlog
from asyncinotify import Event, Inotify, Mask

POLL_S: Final = 2.0

log = structlog.get_logger()

_MASK: Final = (
    *(Mask.CLOSE_WRITE, Mask.MOVED_TO, Mask.DELETE, Mask.MOVED_FROM, Mask.CREATE, Mask.ATTRIB),
    *(Mask.DELETE_SELF, Mask.MOVE_SELF, Mask.ONLYDIR),
)
_SELF: Final = Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.IGNORED | Mask.UNMOUNT


class Touch(NamedTuple):
    """What happened to a file.  `path` None: anything may have, to every file."""

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


class Polled:
    """Stands in for Watches: it sees nothing, and says so every POLL_S."""

    def add(self, directory: Path) -> None:
        """Raise OSError where there is no directory."""
        if not directory.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def missing(self, _: set[Path]) -> set[Path]:
        """None is."""
        return set()

    async def wait(self, due: float | None) -> None:
        """Wait until the loop's clock reaches `due`, but no longer than POLL_S."""
        soon = asyncio.get_running_loop().time() + POLL_S
        await asyncio.sleep(max(0, min(soon, due or soon) - asyncio.get_running_loop().time()))

    def drain(self) -> list[Touch]:
        """Everything may have changed."""
        return [Touch(None, Mask.Q_OVERFLOW)]


def notified(held: contextlib.ExitStack, before: Polled | None = None) -> Watches | Polled:
    """Watches, closed with `held`; where the kernel refuses them, `before` or another Polled.

    Each user has `fs.inotify.max_user_instances`, 128 by default, which the daemons of a Kubernetes node can use up.
    """
    try:
        watches = Watches(held.enter_context(Inotify(sync_timeout=0)))
    except OSError as error:
        if not before:
            why = "fs.inotify.max_user_instances or user.max_inotify_instances is used up: raise it"
            log.warning("inotify_refused", reason=f"{error.strerror}: {why}", poll_s=POLL_S)
        return before or Polled()
    if before:
        log.info("inotify_given")
    return watches
