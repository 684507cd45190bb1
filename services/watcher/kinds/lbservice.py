"""LBService: the record of a Service's VIPs in its cluster.  Weir writes it, and reads it when its log was lost."""

from collections.abc import Iterable
from functools import partial
from typing import Any, Final, TypedDict

import msgspec

from services.watcher.kinds.fields import Field
from services.watcher.kinds.kind import Comparison, Judge, Kind, Metadata
from services.watcher.kinds.schema import CONDITIONS, fields, of_kind
from services.watcher.settings import Settings
from services.watcher.writer.lbservice import STATUS
from weir.decider import Change, World
from weir.events import RecordGone, RecordObserved, VipAllocated, key_of, object_key, record_key
from weir.model import Root


class _Record(TypedDict, total=False):
    metadata: Metadata
    status: Any


def _read(manifest: Field, root: Root, _: Settings) -> RecordObserved | None:
    vips = dict.fromkeys(str(address) for item in manifest["status"]["vips"].items() if (address := item.address()))
    return None if manifest.faults else RecordObserved(root=root, vips=tuple(vips))


def _stands(comparison: Comparison, _: str, event: RecordObserved, __: str) -> RecordObserved | None:
    """Keep the record while the log has lost its addresses: it did not have the Service either, and has not allocated them again.

    The record of a Service in the log was written from this log.  It may name an address that was released since.
    """
    if not event.root.place.startswith("@"):
        return event
    if _holds(comparison.world, event):
        return None
    before = comparison.held(key_of(event))
    if isinstance(before, RecordObserved):
        return event if set(event.vips) <= set(before.vips) else None
    return None if comparison.held(object_key(event.owner)) else event


def _judge(comparison: Comparison) -> Judge:
    return partial(_stands, comparison)


def _follows(world: World, change: Change) -> Iterable[RecordGone]:
    """Withdraw the records of Services that hold again what these name."""
    services = change.fact.event.holders if isinstance(change.fact.event, VipAllocated) else ()
    records = [world.get(record_key(service)) for service in services]
    return [RecordGone(root=each.root) for each in records if isinstance(each, RecordObserved) and _holds(world, each)]


def _holds(world: World, record: RecordObserved) -> bool:
    """Whether the Service of a cluster's record holds every address in it."""
    if not record.root.place.startswith("@"):
        return False
    return {vip.vip for vip in world.find("holder", record.owner, VipAllocated)}.issuperset(record.vips)


LBSERVICE: Final = Kind(
    word="LBService",
    plural="lbservices",
    group="weir.dev",
    versions=("v1alpha1",),
    optional=True,
    decode=msgspec.json.Decoder(_Record).decode,
    read=_read,
    observed=RecordObserved,
    gone=RecordGone,
    judge=_judge,
    follows=_follows,
    status=STATUS,
    verbs=("create", "patch", "delete"),
    fields=of_kind(status=fields("addresses healthy node nodes reason total vips", conditions=CONDITIONS)),
)
