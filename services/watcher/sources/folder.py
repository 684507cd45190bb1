"""A source of manifests: files and folders, followed live.

A file is read when its writer has closed it or put it in place, never while it is being written.  One that is missing, or empty, may be
in the middle of being replaced (vim and git remove the old one first, a shell empties it first), so that counts only after AWAY_S.
What is read is always the file as it is then: notifications may be repeated or late.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Final

from asyncinotify import Mask

from services.watcher.inventory import Observation
from services.watcher.kinds.reader import Document
from services.watcher.sources.inotify import Polled, Touch, Watches, notified
from services.watcher.sources.manifests import SUFFIXES, base_of, content, documents_of, is_manifest, manifests_in, unit_name
from services.watcher.sources.yaml_documents import fault

AWAY_S: Final = 0.5
EMPTY: Final = "no manifest in it"
BATCH: Final = 64  # files read in one go beside the loop
SMALL_BYTES: Final = 8192  # a single file up to this size is read at once: a thread takes longer to wake
RETRY_FIRST_S: Final = 0.1
RETRY_MOST_S: Final = 2.0

_CLOSED: Final = Mask.CLOSE_WRITE | Mask.MOVED_TO
_LEFT: Final = Mask.DELETE | Mask.MOVED_FROM
_SWAPPED: Final = "..data"  # the link by which kubelet puts all files of a ConfigMap in place at once

Units = dict[str, tuple[Document, ...] | None]


class FolderSource:
    """Given files, and given folders with their own *.yaml, *.yml and *.json that are not hidden.

    Units are named by path below the common folder of all given paths: "manifests/web.yaml", or "web.yaml" for one given file.  A given
    path is expected to exist: while it is missing, its last content stays valid.  A link counts as changed when it is replaced, not
    when its target changes; kubelet's way of mounting a ConfigMap is known.
    """

    def __init__(self, paths: Iterable[Path | str]) -> None:
        given = sorted({Path(os.path.abspath(path)) for path in paths})  # as given: links are not resolved
        if not given:
            raise ValueError("no path to follow, expected a file or folder")
        self._folders = {path for path in given if path.is_dir() or not (path.exists() or path.suffix in SUFFIXES)}
        self._files = set(given) - self._folders
        self._base = base_of(given)
        self._known: dict[Path, bool] = {}  # files reported -> whether they could be read
        self._away: dict[Path, float] = {}  # files that are missing or empty -> when that counts
        self._lost: dict[Path, str] = {}  # folders that cannot be read -> why
        self._retry_at, self._retry_s = 0.0, RETRY_FIRST_S
        self._small = False  # all that is being read now

    @property
    def files(self) -> int:
        """How many files are read, or would be if they could."""
        return len(self._known)

    async def __aiter__(self) -> AsyncIterator[Observation[Document]]:
        """Yield everything, then changes."""
        with contextlib.ExitStack() as held:
            watches = notified(held)
            self._watch(watches)  # before reading: what changes meanwhile is read again
            yield Observation(await self._units(self._folders, self._files, watches, settled=True), complete=True)
            while True:
                await watches.wait(self._due(watches))
                touches = watches.drain()
                if isinstance(watches, Polled):
                    watches = notified(held, watches)
                    self._watch(watches)
                self._small = True
                if units := await self._look(watches, touches):
                    yield Observation(units, small=self._small)

    # ── when to look ───────────────────────────────────────────────────────────────────────────────────────────────

    def _due(self, watches: Watches | Polled) -> float | None:
        """When to look at something though nothing happens; None for never."""
        retry = [self._retry_at] if self._lost or watches.missing(self._parents()) else []
        return min([*self._away.values(), *retry], default=None)

    async def _look(self, watches: Watches | Polled, touches: list[Touch]) -> Units:
        folders, files = self._meant(touches)
        more_folders, more_files = self._retry(watches)
        units = await self._units(folders | more_folders, files | more_files, watches, settled=False)
        for path in sorted(path for path, due in self._away.items() if due <= _now()):
            units |= await self._settle(path)
        return units

    def _meant(self, touches: list[Touch]) -> tuple[set[Path], set[Path]]:
        """Folders to list and files to read."""
        folders: set[Path] = set()
        files: set[Path] = set()
        for path, mask in touches:
            if path is None:
                return set(self._folders), set(self._files)
            here = {path.parent} if path.name == _SWAPPED else {path}
            folders |= self._folders & here | _inside(self._folders, {path})
            files |= _inside(self._files, here)
            if self._is_ours(path) and mask & _LEFT:
                files.discard(path)
                self._leave(path)
            elif self._is_ours(path) and self._is_in_place(path, mask):
                files.add(path)
        return folders, files

    def _is_ours(self, path: Path) -> bool:
        return path in self._files or (path.parent in self._folders and is_manifest(path.name))

    def _is_in_place(self, path: Path, mask: Mask) -> bool:
        """Whether nobody is writing the file: it was closed, renamed or linked, or its mode changed and it was unreadable."""
        if mask & Mask.CREATE:
            return path.is_symlink() or _links(path) > 1
        return bool(mask & _CLOSED) or self._known.get(path) is False

    def _retry(self, watches: Watches | Polled) -> tuple[set[Path], set[Path]]:
        """Watch again what is missing; return folders to list and files to read.  Waits longer each time."""
        if not (self._lost or watches.missing(self._parents())):
            self._retry_s = RETRY_FIRST_S
        elif _now() >= self._retry_at:
            self._retry_at = _now() + self._retry_s
            self._retry_s = min(self._retry_s * 2, RETRY_MOST_S)
            return set(self._lost), _inside(self._files, self._watch(watches))
        return set(), set()

    def _parents(self) -> set[Path]:
        return {path.parent for path in self._folders | self._files}

    def _watch(self, watches: Watches | Polled) -> set[Path]:
        """Watch the parents that are not watched; return those that now are."""
        missing = watches.missing(self._parents())
        for path in missing:
            try:
                watches.add(path)
            except OSError:
                continue  # its paths will be missing too, and this is tried again
        return missing - watches.missing(missing)

    # ── what there is ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _units(self, folders: set[Path], files: set[Path], watches: Watches | Polled, *, settled: bool) -> Units:
        units: Units = {}
        for path in sorted(folders):
            units |= await self._list(path, watches, settled=settled)
        return units | await self._read(files, settled=settled)

    async def _list(self, folder: Path, watches: Watches | Polled, *, settled: bool) -> Units:
        try:
            watches.add(folder)
            found = manifests_in(folder)
        except OSError as error:
            return self._lose(folder, _reason(error))
        if not found and (self._lost.get(folder) == EMPTY or not any(path.parent == folder for path in self._known)):
            return self._lose(folder, EMPTY)  # perhaps not mounted yet: what the log has from it stays
        units: Units = {self._name(folder): None} if self._lost.pop(folder, "") else {}
        units |= await self._read(found, settled=settled)
        for path in self._known.keys() - found:
            if path.parent == folder:
                self._leave(path)
        return units

    def _lose(self, folder: Path, reason: str) -> Units:
        self._away = {path: due for path, due in self._away.items() if path.parent != folder}
        if self._lost.get(folder) == reason:
            return {}
        self._lost[folder] = reason
        return {self._name(folder): (fault(self._name(folder), reason, "a folder with manifests; what was last read is kept", "folder"),)}

    async def _read(self, paths: Iterable[Path], *, settled: bool) -> Units:
        """settled: being missing or empty counts."""
        units: Units = {}
        waiting = sorted(paths, key=str)  # comparing paths takes them apart each time
        while waiting:  # a large file takes seconds, and the log wants its pings answered
            batch, waiting = waiting[:BATCH], waiting[BATCH:]
            named = [(self._name(path), path) for path in batch]
            self._small &= not settled and len(batch) == 1 and _is_small(batch[0])
            found = _documents_of(named) if self._small else await asyncio.to_thread(_documents_of, named)
            for path, documents in zip(batch, found, strict=True):
                units |= self._take(path, documents, settled=settled)
        return units

    def _take(self, path: Path, found: tuple[Document, ...] | OSError | None, *, settled: bool) -> Units:
        if isinstance(found, FileNotFoundError):
            if not settled:
                return self._leave(path)
            if path in self._files or path.is_symlink():
                return self._cannot(path, found)
            return self._forget(path) if _holds_manifests(path.parent) else self._lose(path.parent, EMPTY)
        if isinstance(found, OSError):
            return self._cannot(path, found)
        if found is not None:
            return self._report(path, found)
        if not settled:
            return self._leave(path)
        accepted = "at least one document; what was last read is kept until the file is deleted"
        return self._report(path, (fault(self._name(path), "an empty file", accepted),))

    async def _settle(self, path: Path) -> Units:
        """Read what was missing or empty for long enough; a file that is being written will be read when it is closed."""
        if self._away.pop(path, None) is None:
            return {}  # its folder was lost meanwhile
        try:
            written = (await asyncio.to_thread(content, path)).strip()
        except OSError:
            written = b""
        return {} if written else await self._read([path], settled=True)

    def _leave(self, path: Path) -> Units:
        self._away.setdefault(path, _now() + AWAY_S)
        return {}

    def _cannot(self, path: Path, error: OSError) -> Units:
        units = self._report(path, (fault(self._name(path), _reason(error), "a readable file; what was last read is kept"),))
        self._known[path] = False
        return units

    def _report(self, path: Path, content: tuple[Document, ...]) -> Units:
        self._away.pop(path, None)
        self._known[path] = True
        return {self._name(path): content}

    def _forget(self, path: Path) -> Units:
        return {self._name(path): None} if self._known.pop(path, None) is not None else {}

    def _name(self, path: Path) -> str:
        return unit_name(self._base, path)


def _holds_manifests(folder: Path) -> bool:
    """Whether any is left: a folder that was emptied, or created again and not filled yet, does not withdraw everything."""
    with contextlib.suppress(OSError):
        return bool(manifests_in(folder))
    return False


def _inside(paths: set[Path], folders: set[Path]) -> set[Path]:
    return {path for path in paths if path.parent in folders}


def _documents_of(files: Iterable[tuple[str, Path]]) -> list[tuple[Document, ...] | OSError | None]:
    """Return the documents of each file, None where it is empty; or why it cannot be read."""
    return [_documents(name, path) for name, path in files]


def _documents(name: str, path: Path) -> tuple[Document, ...] | OSError | None:
    try:
        return documents_of(name, path)
    except OSError as error:
        return error


def _links(path: Path) -> int:
    try:
        return path.lstat().st_nlink
    except OSError:
        return 0


def _is_small(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return path.stat().st_size <= SMALL_BYTES
    return True


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _now() -> float:
    return asyncio.get_running_loop().time()
