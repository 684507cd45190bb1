"""HTTPRoute."""

from typing import Final

from services.watcher.kinds.fields import Field
from services.watcher.kinds.kind import Kind
from services.watcher.kinds.routes import (
    DECODE,
    GROUP,
    HTTP_RULES,
    PARENT_REFS,
    ROUTE_STATUS,
    backend_services,
    hostname,
    http_rules,
    parents,
)
from services.watcher.kinds.schema import fields, of_kind
from services.watcher.settings import Settings
from services.watcher.writer.gateway import status_of
from weir.events import HttpRouteGone, HttpRouteObserved
from weir.model import Root


def _read(manifest: Field, root: Root, _: Settings) -> HttpRouteObserved | None:
    spec = manifest["spec"]
    event = HttpRouteObserved(
        root=root,
        parents=parents(spec, root),
        hostnames=tuple(name for item in spec["hostnames"].items() if (name := hostname(item))),
        rules=http_rules(spec, root),
    )
    return None if manifest.faults else event


HTTPROUTE: Final = Kind(
    word="HTTPRoute",
    plural="httproutes",
    group=GROUP,
    versions=("v1", "v1beta1"),
    optional=True,
    decode=DECODE,
    read=_read,
    observed=HttpRouteObserved,
    gone=HttpRouteGone,
    refers=backend_services,
    status=status_of("HTTPRoute"),
    fields=of_kind(spec=fields("hostnames useDefaultGateways", parentRefs=PARENT_REFS, rules=HTTP_RULES), status=ROUTE_STATUS),
)
