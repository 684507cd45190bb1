"""ReferenceGrant: lets objects of other namespaces refer to objects in its own."""

from typing import Any, Final, TypedDict

import msgspec

from services.watcher.kinds.fields import Field
from services.watcher.kinds.kind import Kind, Metadata
from services.watcher.kinds.schema import fields, of_kind
from services.watcher.settings import Settings
from weir.events import ReferenceGrantGone, ReferenceGrantObserved
from weir.model import GrantFrom, GrantTo, Root


class _Grant(TypedDict, total=False):
    metadata: Metadata
    spec: Any


def _read(manifest: Field, root: Root, _: Settings) -> ReferenceGrantObserved | None:
    spec = manifest["spec"]
    referrers = tuple(map(_from, spec["from"].items()))
    targets = tuple(map(_to, spec["to"].items()))
    for field in (spec["from"], spec["to"]):
        if field.value in (None, []):
            field.fail("at least one entry")
    return None if manifest.faults else ReferenceGrantObserved(root=root, referrers=referrers, targets=targets)


def _from(item: Field) -> GrantFrom:
    return GrantFrom(group=item["group"].text(), kind=_required(item["kind"]), namespace=_required(item["namespace"]))


def _to(item: Field) -> GrantTo:
    return GrantTo(group=item["group"].text(), kind=_required(item["kind"]), name=item["name"].text())


def _required(field: Field) -> str:
    text = field.text()
    if field.value in (None, ""):
        field.fail("text")
    return text


REFERENCEGRANT: Final = Kind(
    word="ReferenceGrant",
    plural="referencegrants",
    group="gateway.networking.k8s.io",
    versions=("v1", "v1beta1"),
    optional=True,
    decode=msgspec.json.Decoder(_Grant).decode,
    read=_read,
    observed=ReferenceGrantObserved,
    gone=ReferenceGrantGone,
    fields=of_kind(spec=fields("", **{"from": fields("group kind namespace"), "to": fields("group kind name")})),
)
