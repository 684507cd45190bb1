"""ConfigMap: a CA bundle (key ca.crt), where something refers to it.  Sources pass nothing else of a ConfigMap on."""

from typing import Any, Final, TypedDict

import msgspec

from services.watcher.kinds.fields import Field
from services.watcher.kinds.kind import Kind, Metadata, judged_by_reference
from services.watcher.kinds.schema import of_kind
from services.watcher.settings import Settings
from weir.events import ConfigMapGone, ConfigMapObserved
from weir.model import Root

REDUCED: Final = "reduced"  # what a source leaves of the object: see services.watcher.sources.bundles


class _Whole(TypedDict, total=False):
    metadata: Metadata
    type: Any
    data: Any


def _read(manifest: Field, root: Root, _: Settings) -> ConfigMapObserved | None:
    found = manifest[REDUCED]
    event = ConfigMapObserved(root=root, authorities=str(found["authorities"].value or ""), problem=found["problem"].text())
    return None if manifest.faults else event


CONFIGMAP: Final = Kind(
    word="ConfigMap",
    plural="configmaps",
    versions=("v1",),
    tls=True,
    decode=msgspec.json.Decoder(_Whole).decode,
    read=_read,
    observed=ConfigMapObserved,
    gone=ConfigMapGone,
    judge=judged_by_reference,
    fields=of_kind("binaryData data immutable reduced"),
)
