"""What is observed, counted when asked."""

from collections.abc import Callable, Iterator
from functools import partial

from weir.decider import World
from weir.events import EndpointSliceObserved, ManifestRejected, NamespaceObserved, NodeObserved, PoolObserved, ServiceObserved
from weir.metrics import Sample

KINDS = (ServiceObserved, EndpointSliceObserved, PoolObserved, NamespaceObserved, NodeObserved)


def samples(files: Callable[[], int]) -> Callable[[World], Iterator[Sample]]:
    """For `weir_objects` and `weir_manifest*`.  files: how many are read now."""
    return partial(_samples, files)


def _samples(files: Callable[[], int], world: World) -> Iterator[Sample]:
    for kind in KINDS:
        yield Sample("weir_objects", (kind.kind,), len(world.of(kind)))
    yield Sample("weir_manifest_files", (), files())
    yield Sample("weir_manifests_rejected", (), len(world.of(ManifestRejected)))
