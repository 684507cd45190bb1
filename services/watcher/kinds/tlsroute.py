"""TLSRoute."""

from typing import Final

from services.watcher.kinds.fields import Field
from services.watcher.kinds.kind import Kind
from services.watcher.kinds.routes import DECODE, GROUP, L4_RULES, PARENT_REFS, ROUTE_STATUS, backend_services, hostname, l4_rules, parents
from services.watcher.kinds.schema import fields, of_kind
from services.watcher.settings import Settings
from services.watcher.writer.gateway import status_of
from weir.events import TlsRouteGone, TlsRouteObserved
from weir.model import Root


def _read(manifest: Field, root: Root, _: Settings) -> TlsRouteObserved | None:
    spec = manifest["spec"]
    event = TlsRouteObserved(
        root=root,
        parents=parents(spec, root),
        hostnames=tuple(name for item in spec["hostnames"].items() if (name := hostname(item))),
        rules=l4_rules(spec, root),
    )
    return None if manifest.faults else event


TLSROUTE: Final = Kind(
    word="TLSRoute",
    plural="tlsroutes",
    group=GROUP,
    versions=("v1", "v1alpha3", "v1alpha2"),
    optional=True,
    decode=DECODE,
    read=_read,
    observed=TlsRouteObserved,
    gone=TlsRouteGone,
    refers=backend_services,
    status=status_of("TLSRoute"),
    fields=of_kind(spec=fields("hostnames useDefaultGateways", parentRefs=PARENT_REFS, rules=L4_RULES), status=ROUTE_STATUS),
)
