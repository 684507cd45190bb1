"""TCPRoute."""

from typing import Final

from services.watcher.kinds.fields import Field
from services.watcher.kinds.kind import Kind
from services.watcher.kinds.routes import DECODE, GROUP, L4_RULES, PARENT_REFS, ROUTE_STATUS, backend_services, l4_rules, parents
from services.watcher.kinds.schema import fields, of_kind
from services.watcher.settings import Settings
from services.watcher.writer.gateway import status_of
from weir.events import TcpRouteGone, TcpRouteObserved
from weir.model import Root


def _read(manifest: Field, root: Root, _: Settings) -> TcpRouteObserved | None:
    spec = manifest["spec"]
    event = TcpRouteObserved(
        root=root,
        parents=parents(spec, root),
        rules=l4_rules(spec, root),
    )
    return None if manifest.faults else event


TCPROUTE: Final = Kind(
    word="TCPRoute",
    plural="tcproutes",
    group=GROUP,
    versions=("v1", "v1alpha2"),
    optional=True,
    decode=DECODE,
    read=_read,
    observed=TcpRouteObserved,
    gone=TcpRouteGone,
    refers=backend_services,
    status=status_of("TCPRoute"),
    fields=of_kind(spec=fields("useDefaultGateways", parentRefs=PARENT_REFS, rules=L4_RULES), status=ROUTE_STATUS),
)
