"""Namespace: its labels, for the selectors of pools."""

from typing import Final, TypedDict

import msgspec

from services.watcher.kinds.fields import Field
from services.watcher.kinds.kind import Kind, Metadata
from services.watcher.kinds.schema import fields, of_kind
from services.watcher.settings import Settings
from weir.events import NamespaceGone, NamespaceObserved
from weir.model import Root


class _Namespace(TypedDict, total=False):
    metadata: Metadata


def _read(manifest: Field, root: Root, _: Settings) -> NamespaceObserved | None:
    labels = manifest["metadata"]["labels"].texts()
    return None if manifest.faults else NamespaceObserved(root=root, labels=labels)


NAMESPACE: Final = Kind(
    word="Namespace",
    plural="namespaces",
    versions=("v1",),
    namespaced=False,
    label_name=True,
    decode=msgspec.json.Decoder(_Namespace).decode,
    read=_read,
    observed=NamespaceObserved,
    gone=NamespaceGone,
    fields=of_kind(
        spec=fields("finalizers"),
        status=fields("phase", conditions=fields("lastTransitionTime message reason status type")),
    ),
)
