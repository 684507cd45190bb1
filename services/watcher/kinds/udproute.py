"""UDPRoute."""

from typing import Final

from services.watcher.kinds.fields import Field
from services.watcher.kinds.kind import Kind
from services.watcher.kinds.routes import DECODE, GROUP, L4_RULES, PARENT_REFS, ROUTE_STATUS, backend_services, l4_rules, parents
from services.watcher.kinds.schema import fields, of_kind
from services.watcher.settings import Settings
from services.watcher.writer.gateway import status_of
from weir.events import UdpRouteGone, UdpRouteObserved
from weir.model import Root


def _read(manifest: Field, root: Root, _: Settings) -> UdpRouteObserved | None:
    spec = manifest["spec"]
    event = UdpRouteObserved(
        root=root,
        parents=parents(spec, root),
        rules=l4_rules(spec, root),
    )
    return None if manifest.faults else event


UDPROUTE: Final = Kind(
    word="UDPRoute",
    plural="udproutes",
    group=GROUP,
    versions=("v1", "v1alpha2"),
    optional=True,
    decode=DECODE,
    read=_read,
    observed=UdpRouteObserved,
    gone=UdpRouteGone,
    refers=backend_services,
    status=status_of("UDPRoute"),
    fields=of_kind(spec=fields("useDefaultGateways", parentRefs=PARENT_REFS, rules=L4_RULES), status=ROUTE_STATUS),
)
