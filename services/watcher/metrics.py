"""What is observed, counted when asked."""

from collections.abc import Iterator

from services.watcher.edge import FolderSource
from weir.decider import World
from weir.events import EndpointSliceObserved, ManifestRejected, NamespaceObserved, NodeObserved, PoolObserved, ServiceObserved
from weir.metrics import Sample

KINDS = (ServiceObserved, EndpointSliceObserved, PoolObserved, NamespaceObserved, NodeObserved)


def samples(source: FolderSource, world: World) -> Iterator[Sample]:
    """For `weir_objects` and `weir_manifest*`."""
    for kind in KINDS:
        yield Sample("weir_objects", (kind.kind,), len(world.of(kind)))
    yield Sample("weir_manifest_files", (), source.files)
    yield Sample("weir_manifests_rejected", (), len(world.of(ManifestRejected)))
