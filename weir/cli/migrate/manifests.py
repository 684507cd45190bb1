"""`weir migrate`: convert another load balancer's configuration to Weir's.

The watcher's own reader checks the result before it is printed, so that `weir up -f` and the API accept it.
"""

import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from services.watcher.kinds.fields import Faults, Field
from services.watcher.kinds.reader import Document, read
from services.watcher.settings import DEFAULT
from services.watcher.sources.yaml_documents import documents
from weir.cli.output import harmless, to_yaml

Manifest = dict[str, Any]

_FRAGMENT: Final = """\
# Options of the watcher: a piece of your kustomization.
# configMapGenerator:
#   - name: weir-settings
#     behavior: merge
#     options: {disableNameSuffixHash: true}
#     literals:
#       - |-
#         watcher="""


class MigrateError(Exception):
    """The input cannot be migrated."""


class Migrated(NamedTuple):
    """manifests: to apply.   options: of the watcher.   notes: hints.   left_out: what has no counterpart, and why."""

    manifests: Sequence[Manifest]
    options: Sequence[str]
    notes: Sequence[str]
    left_out: Sequence[str] = ()


def migrate(files: Iterable[Path], made_of: Callable[[Iterable[Field]], Migrated]) -> bool:
    """Manifests to standard output, notes to standard error.  Returns whether everything was converted.

    Raises MigrateError, and OSError where a file cannot be read.
    """
    faults: Faults = {}
    migrated = made_of([manifest for path in files for manifest in _manifests(path, faults)])
    problems = [*map(str, faults), *(str(problem) for made in migrated.manifests for problem in problems_of(made))]
    if problems:
        raise MigrateError("; ".join(problems))
    for note in (*migrated.notes, *(f"left out: {words}" for words in migrated.left_out)):
        print(f"weir: {harmless(note)}", file=sys.stderr)
    if migrated.options:
        print(_FRAGMENT + "\n#         ".join(map(harmless, _lines(migrated.options))))
    print("---\n".join(map(to_yaml, migrated.manifests)), end="")
    return not migrated.left_out


def problems_of(manifest: Manifest) -> list[str]:
    """Return the problems that the watcher finds in it."""
    return [f"{reading.place}: {problem}" for reading in read(document(manifest), DEFAULT) for problem in reading.problems]


def vip_pool(name: str, addresses: Sequence[str], **spec: Any) -> Manifest:
    """spec: its fields beside the addresses."""
    metadata = {"name": name}
    return {"apiVersion": "weir.dev/v1alpha1", "kind": "VIPPool", "metadata": metadata, "spec": {"addresses": [*addresses], **spec}}


def document(manifest: Manifest) -> Document:
    """As the watcher's reader takes it."""
    return Document(f"{manifest['kind']}/{manifest['metadata'].get('name')}", manifest)


def _lines(options: Sequence[str]) -> list[str]:
    """One option on a line, its value behind `=`."""
    lines: list[str] = []
    for word in options:
        if word.startswith("--"):
            lines.append(word)
        else:
            lines[-1] += f"={word}"
    return list(map(shlex.quote, lines))


def _manifests(path: Path, faults: Faults) -> Iterator[Field]:
    for found in documents(path.name, sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()):
        if found.problem:
            raise MigrateError(f"{path}: {found.problem}")
        content = Field(found.content, path.name, faults)
        yield from content["items"].items() if content["kind"].value == "List" else [content]
