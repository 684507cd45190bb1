"""ListenerSet."""

from typing import Final

from services.watcher.kinds.fields import Field
from services.watcher.kinds.gateway import bundles
from services.watcher.kinds.kind import Kind
from services.watcher.kinds.listeners import LISTENER_STATUS, LISTENERS, listeners
from services.watcher.kinds.routes import DECODE, GROUP, parent
from services.watcher.kinds.schema import CONDITIONS, fields, of_kind
from services.watcher.settings import Settings
from services.watcher.writer.gateway import status_of
from weir.events import ListenerSetGone, ListenerSetObserved
from weir.model import Root


def _read(manifest: Field, root: Root, _: Settings) -> ListenerSetObserved | None:
    spec = manifest["spec"]
    event = ListenerSetObserved(root=root, parent=parent(spec["parentRef"], root), listeners=listeners(spec, root))
    return None if manifest.faults else event


LISTENERSET: Final = Kind(
    word="ListenerSet",
    plural="listenersets",
    group=GROUP,
    versions=("v1",),
    optional=True,
    decode=DECODE,
    read=_read,
    observed=ListenerSetObserved,
    gone=ListenerSetGone,
    refers=bundles,
    status=status_of("ListenerSet"),
    fields=of_kind(
        spec=fields("", listeners=LISTENERS, parentRef=fields("group kind name namespace")),
        status=fields("", conditions=CONDITIONS, listeners=LISTENER_STATUS),
    ),
)
