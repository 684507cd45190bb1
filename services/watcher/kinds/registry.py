"""Every kind that the watcher follows.  A new kind is a file beside this one and a line here.

The order is that of events in the log: what others depend on comes first, records before the Services that they are of.
"""

from collections.abc import Iterable
from typing import Final

from services.watcher.kinds.backendtlspolicy import BACKENDTLSPOLICY
from services.watcher.kinds.bgpadvertisement import BGPADVERTISEMENT
from services.watcher.kinds.bgppeer import BGPPEER
from services.watcher.kinds.configmap import CONFIGMAP
from services.watcher.kinds.endpointslice import ENDPOINTSLICE
from services.watcher.kinds.gateway import GATEWAY
from services.watcher.kinds.gatewayclass import GATEWAYCLASS
from services.watcher.kinds.grpcroute import GRPCROUTE
from services.watcher.kinds.httproute import HTTPROUTE
from services.watcher.kinds.ingress import INGRESS
from services.watcher.kinds.ingressclass import INGRESSCLASS
from services.watcher.kinds.kind import Kind
from services.watcher.kinds.lbnode import LBNODE
from services.watcher.kinds.lbservice import LBSERVICE
from services.watcher.kinds.listenerset import LISTENERSET
from services.watcher.kinds.namespace import NAMESPACE
from services.watcher.kinds.node import NODE
from services.watcher.kinds.referencegrant import REFERENCEGRANT
from services.watcher.kinds.secret import SECRET
from services.watcher.kinds.service import SERVICE
from services.watcher.kinds.tcproute import TCPROUTE
from services.watcher.kinds.tlsroute import TLSROUTE
from services.watcher.kinds.udproute import UDPROUTE
from services.watcher.kinds.vippool import VIPPOOL
from weir.events import AnyEvent, ObjectObserved

KINDS: Final = (
    *(VIPPOOL, NAMESPACE, NODE, LBNODE, BGPPEER, BGPADVERTISEMENT, LBSERVICE, SERVICE, ENDPOINTSLICE),
    *(REFERENCEGRANT, SECRET, CONFIGMAP, GATEWAYCLASS, GATEWAY, LISTENERSET),
    *(HTTPROUTE, GRPCROUTE, TLSROUTE, TCPROUTE, UDPROUTE, BACKENDTLSPOLICY),
    *(INGRESSCLASS, INGRESS),
)

OTHERS: Final = {  # group -> its kinds that are not followed; each kind has a list too, which is called so
    "": (
        "Binding ComponentStatus Endpoints Event LimitRange List PersistentVolume PersistentVolumeClaim Pod PodTemplate"
        " ReplicationController ResourceQuota ServiceAccount"
    ),
    "discovery.k8s.io": "",
    "gateway.networking.k8s.io": "",
    "networking.k8s.io": "IPAddress NetworkPolicy ServiceCIDR",
    "weir.dev": "",
}

OBSERVED: Final[tuple[type[ObjectObserved], ...]] = tuple(kind.observed for kind in KINDS if kind.observed)
BY_WORD: Final = {kind.word: kind for kind in KINDS}
READ: Final = {kind.word: kind for kind in KINDS if kind.read}
GROUPS: Final = {
    group: frozenset([*others.split(), *(kind.word for kind in KINDS if kind.group == group)]) for group, others in OTHERS.items()
}
_BY_EVENT: Final[dict[type, Kind]] = {kind.observed: kind for kind in KINDS if kind.observed}


def kind_of(event: ObjectObserved) -> Kind:
    """Return the kind that `event` is an observation of."""
    return _BY_EVENT[type(event)]


def refers(event: AnyEvent | None) -> Iterable[str]:
    """Return what the object needs in the log, by owner.  Also an index of a world."""
    kind = _BY_EVENT.get(type(event))
    return kind.refers(event) if kind and kind.refers else ()
