"""Files of manifests: which files are read, and their documents."""

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from services.watcher.kinds.fields import escaped
from services.watcher.kinds.reader import Document
from services.watcher.sources.yaml_documents import MOST_BYTES, documents
from weir.words import few

SUFFIXES: Final = (".yaml", ".yml", ".json")


def is_manifest(name: str) -> bool:
    """Whether a file of a followed folder is read."""
    return name.endswith(SUFFIXES) and not name.startswith(".")


def manifests_in(folder: Path) -> set[Path]:
    """The folder's own files that are read.  Raises OSError."""
    return {folder / name for name in os.listdir(folder) if is_manifest(name)}


def base_of(paths: Sequence[Path]) -> Path:
    """Return the common folder of the given paths: units are named from there."""
    return Path(os.path.commonpath([path.parent for path in paths]))


def unit_name(base: Path, path: Path) -> str:
    """Return the name of a file in events, where `#` separates it from the number of a document."""
    return escaped(path.relative_to(base).as_posix()).replace("#", "\\x23")


def documents_of(name: str, path: Path) -> tuple[Document, ...] | None:
    """The documents of a file, None where it is empty.  Raises OSError."""
    data = content(path)
    return documents(name, data) if data.strip() else None


def content(path: Path) -> bytes:
    """Read at most one byte more than is accepted.  Raises OSError for what is not a regular file, without blocking on it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(MOST_BYTES + 1)
    finally:
        os.close(descriptor)


def unreadable(paths: Iterable[Path]) -> Iterator[str]:
    """Yield why given paths cannot be followed from the start: a misspelt path would withdraw everything recorded before."""
    for path in paths:
        try:
            if not path.is_dir():
                content(path)
            elif not manifests_in(path):
                yield "; ".join([f"{path}: no manifest in this folder (*{', *'.join(SUFFIXES)})", *not_read([path])])
        except OSError as error:
            yield f"{path}: {(error.strerror or type(error).__name__).lower()}"


def not_read(paths: Iterable[Path]) -> Iterator[str]:
    """Yield which subfolders of the given folders contain manifests: they are not read unless they are given too."""
    for path in paths:
        if path.is_dir() and (found := [str(below) for below in _subfolders(path) if _has_manifests(below)]):
            yield f"{few(found)} not read: -f takes a folder's own files; add -f for {'it' if len(found) == 1 else 'each'}"


def _subfolders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith(".") and entry.is_dir() and not entry.is_symlink())


def _has_manifests(folder: Path) -> bool:
    """At any depth."""
    return any(is_manifest(name) for _, _, names in os.walk(folder) for name in names)
