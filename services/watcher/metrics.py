"""Metrics of the watcher, computed when scraped."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from services.watcher.kinds.registry import OBSERVED
from services.watcher.sources.folder import FolderSource
from weir.decider import World
from weir.events import ManifestRejected
from weir.service.metrics import Sample


class Cluster(Protocol):
    """A cluster that is followed."""

    name: str

    @property
    def lost(self) -> int:
        """Kinds that cannot be followed now."""


class Writes(Protocol):
    """The writer."""

    @property
    def refused(self) -> int:
        """Objects that may not be written to."""


def samples(folder: FolderSource | None, clusters: Sequence[Cluster], writer: Writes | None, world: World) -> Iterator[Sample]:
    """For `weir_objects`, `weir_manifest*`, `weir_cluster_kinds_lost` and `weir_writes_refused`."""
    for kind in OBSERVED:
        yield Sample("weir_objects", (kind.kind,), len(world.of(kind)))
    for cluster in clusters:
        yield Sample("weir_cluster_kinds_lost", (cluster.name,), cluster.lost)
    if writer:
        yield Sample("weir_writes_refused", (), writer.refused)
    yield Sample("weir_manifest_files", (), folder.files if folder else 0)
    yield Sample("weir_manifests_rejected", (), len(world.of(ManifestRejected)))
