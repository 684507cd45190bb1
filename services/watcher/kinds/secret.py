"""Secret: the digest, names and end of a certificate, where something refers to it.

Sources pass nothing else of a Secret on: no key and no certificate ever gets here.
"""

from typing import Any, Final, TypedDict

import msgspec

from services.watcher.kinds.configmap import REDUCED
from services.watcher.kinds.fields import Field
from services.watcher.kinds.kind import Kind, Metadata, judged_by_reference
from services.watcher.kinds.schema import of_kind
from services.watcher.settings import Settings
from weir.events import SecretGone, SecretObserved
from weir.model import Root


class _Whole(TypedDict, total=False):
    metadata: Metadata
    type: Any
    data: Any
    stringData: Any


def _read(manifest: Field, root: Root, _: Settings) -> SecretObserved | None:
    found = manifest[REDUCED]
    event = SecretObserved(
        root=root,
        digest=found["digest"].text(),
        names=tuple(item.text() for item in found["names"].items()),
        not_after=found["notAfter"].text(),
        problem=found["problem"].text(),
    )
    return None if manifest.faults else event


SECRET: Final = Kind(
    word="Secret",
    plural="secrets",
    versions=("v1",),
    tls=True,
    decode=msgspec.json.Decoder(_Whole).decode,
    read=_read,
    observed=SecretObserved,
    gone=SecretGone,
    judge=judged_by_reference,
    fields=of_kind("data immutable reduced stringData type"),
)
