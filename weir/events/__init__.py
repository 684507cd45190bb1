"""Every event of the log, grouped by the service that states it.

An event carries the whole state of its entity, so the last event per entity is enough to start from.  Its subject is
`weir.<cluster>.<author>.<kind>.<namespace>.<name>`; `kind` is the entity's, shared by all events about it.
Tags are on disk forever: new fields have defaults, nothing is renamed, retyped or used again.
"""

import msgspec

from weir.events.addresses import ClaimSettled, VipAllocated, VipDenied, VipFreed, VipReleased
from weir.events.base import Event, author_of, key_of, tag_of
from weir.events.bgp import (
    BgpAdvertisementGone,
    BgpAdvertisementObserved,
    BgpPeerGone,
    BgpPeerObserved,
    BgpRoutePlanned,
    BgpRouteWithdrawn,
    BgpSessionPlanned,
    BgpSessionsObserved,
    BgpSessionWithdrawn,
)
from weir.events.health import EndpointDown, EndpointUp
from weir.events.log import EpochStarted, ReaderAnnounced
from weir.events.nodes import (
    AppliedThrough,
    MapPressure,
    NodeAddressesObserved,
    NodeCordoned,
    NodeHeard,
    NodeLeft,
    NodeRetired,
    NodeSeen,
    NodeSilent,
    NodeUncordoned,
    PeersObserved,
    VipTaken,
)
from weir.events.observed import (
    EndpointSliceGone,
    EndpointSliceObserved,
    HomeNamed,
    KubernetesGone,
    KubernetesObserved,
    ManifestAccepted,
    ManifestRejected,
    NamespaceGone,
    NamespaceObserved,
    NodeGone,
    NodeObserved,
    PoolGone,
    PoolObserved,
    RecordGone,
    RecordObserved,
    ServiceGone,
    ServiceObserved,
)
from weir.events.observed_gateway import (
    ROUTES,
    BackendTlsPolicyGone,
    BackendTlsPolicyObserved,
    ConfigMapGone,
    ConfigMapObserved,
    GatewayApiGone,
    GatewayApiObserved,
    GatewayClassGone,
    GatewayClassObserved,
    GatewayGone,
    GatewayObserved,
    GrpcRouteGone,
    GrpcRouteObserved,
    HttpRouteGone,
    HttpRouteObserved,
    L4RouteObserved,
    L7RouteObserved,
    ListenerSetGone,
    ListenerSetObserved,
    ReferenceGrantGone,
    ReferenceGrantObserved,
    RouteObserved,
    SecretGone,
    SecretObserved,
    TcpRouteGone,
    TcpRouteObserved,
    TlsRouteGone,
    TlsRouteObserved,
    UdpRouteGone,
    UdpRouteObserved,
)
from weir.events.observed_ingress import (
    IngressApiGone,
    IngressApiObserved,
    IngressClassGone,
    IngressClassObserved,
    IngressGone,
    IngressObserved,
)
from weir.events.plan import (
    AnnouncersPlanned,
    AnnouncersWithdrawn,
    BackendsPlanned,
    BackendsWithdrawn,
    FrontendPlanned,
    FrontendWithdrawn,
    Planned,
    PlannedStatus,
    StatusPlanned,
    StatusWithdrawn,
    VipPlanned,
    VipWithdrawn,
    Withdrawn,
    endpoints_of,
)
from weir.events.plan_l7 import (
    ClassStatusPlanned,
    GatewayStatusPlanned,
    ListenerPlanned,
    ListenerWithdrawn,
    RouteStatusPlanned,
    UpstreamPlanned,
    UpstreamWithdrawn,
    VirtualHostPlanned,
    VirtualHostWithdrawn,
)
from weir.events.subjects import key, object_key, record_key, status_key, token, untoken

__all__ = [
    "DECODE",
    "ENCODE",
    "ROUTES",
    "AnnouncersPlanned",
    "AnnouncersWithdrawn",
    "AnyEvent",
    "AppliedThrough",
    "BackendTlsPolicyGone",
    "BackendTlsPolicyObserved",
    "BackendsPlanned",
    "BackendsWithdrawn",
    "BgpAdvertisementGone",
    "BgpAdvertisementObserved",
    "BgpPeerGone",
    "BgpPeerObserved",
    "BgpRoutePlanned",
    "BgpRouteWithdrawn",
    "BgpSessionPlanned",
    "BgpSessionWithdrawn",
    "BgpSessionsObserved",
    "ClaimSettled",
    "ClassStatusPlanned",
    "ConfigMapGone",
    "ConfigMapObserved",
    "EndpointDown",
    "EndpointSliceGone",
    "EndpointSliceObserved",
    "EndpointUp",
    "EpochStarted",
    "Event",
    "FrontendPlanned",
    "FrontendWithdrawn",
    "GatewayClassGone",
    "GatewayClassObserved",
    "GatewayGone",
    "GatewayObserved",
    "GatewayStatusPlanned",
    "GrpcRouteGone",
    "GrpcRouteObserved",
    "HomeNamed",
    "HttpRouteGone",
    "HttpRouteObserved",
    "IngressClassGone",
    "IngressClassObserved",
    "IngressGone",
    "IngressObserved",
    "L4RouteObserved",
    "L7RouteObserved",
    "ListenerPlanned",
    "ListenerSetGone",
    "ListenerSetObserved",
    "ListenerWithdrawn",
    "ManifestAccepted",
    "ManifestRejected",
    "MapPressure",
    "NamespaceGone",
    "NamespaceObserved",
    "NodeAddressesObserved",
    "NodeCordoned",
    "NodeGone",
    "NodeHeard",
    "NodeLeft",
    "NodeObserved",
    "NodeRetired",
    "NodeSeen",
    "NodeSilent",
    "NodeUncordoned",
    "ObjectGone",
    "ObjectObserved",
    "PeersObserved",
    "Planned",
    "PlannedStatus",
    "PoolGone",
    "PoolObserved",
    "ReaderAnnounced",
    "RecordGone",
    "RecordObserved",
    "ReferenceGrantGone",
    "ReferenceGrantObserved",
    "RouteObserved",
    "RouteStatusPlanned",
    "SecretGone",
    "SecretObserved",
    "ServiceGone",
    "ServiceObserved",
    "StatusPlanned",
    "StatusWithdrawn",
    "TcpRouteGone",
    "TcpRouteObserved",
    "TlsRouteGone",
    "TlsRouteObserved",
    "UdpRouteGone",
    "UdpRouteObserved",
    "UpstreamPlanned",
    "UpstreamWithdrawn",
    "VipAllocated",
    "VipDenied",
    "VipFreed",
    "VipPlanned",
    "VipReleased",
    "VipTaken",
    "VipWithdrawn",
    "VirtualHostPlanned",
    "VirtualHostWithdrawn",
    "Withdrawn",
    "author_of",
    "endpoints_of",
    "is_gone",
    "key",
    "key_of",
    "object_key",
    "record_key",
    "status_key",
    "tag_of",
    "token",
    "untoken",
]

ObjectObserved = KubernetesObserved | GatewayApiObserved | IngressApiObserved | BgpPeerObserved | BgpAdvertisementObserved
ObjectGone = KubernetesGone | GatewayApiGone | IngressApiGone | BgpPeerGone | BgpAdvertisementGone

AnyEvent = (
    EpochStarted
    | ReaderAnnounced
    | ObjectObserved
    | ObjectGone
    | NodeSilent
    | NodeHeard
    | NodeRetired
    | HomeNamed
    | ManifestRejected
    | ManifestAccepted
    | VipAllocated
    | VipReleased
    | VipFreed
    | VipDenied
    | ClaimSettled
    | VipPlanned
    | VipWithdrawn
    | AnnouncersPlanned
    | AnnouncersWithdrawn
    | FrontendPlanned
    | FrontendWithdrawn
    | BackendsPlanned
    | BackendsWithdrawn
    | BgpSessionPlanned
    | BgpSessionWithdrawn
    | BgpRoutePlanned
    | BgpRouteWithdrawn
    | StatusPlanned
    | StatusWithdrawn
    | NodeSeen
    | NodeAddressesObserved
    | NodeLeft
    | NodeCordoned
    | NodeUncordoned
    | AppliedThrough
    | PeersObserved
    | BgpSessionsObserved
    | VipTaken
    | MapPressure
    | EndpointDown
    | EndpointUp
    | ListenerPlanned
    | ListenerWithdrawn
    | VirtualHostPlanned
    | VirtualHostWithdrawn
    | UpstreamPlanned
    | UpstreamWithdrawn
    | GatewayStatusPlanned
    | RouteStatusPlanned
    | ClassStatusPlanned
)

DECODE = msgspec.json.Decoder(AnyEvent).decode
ENCODE = msgspec.json.Encoder(order="deterministic").encode


class _Tag(msgspec.Struct):
    """What is read of an event whose type alone matters."""

    type: str = ""


_TAG = msgspec.json.Decoder(_Tag).decode

_GONE = frozenset(tag_of(kind) for kind in AnyEvent.__args__ if kind.gone)


def is_gone(body: bytes) -> bool:
    """Whether the event with this body says that its entity is gone; false for a body that is no event."""
    try:
        return _TAG(body).type in _GONE
    except msgspec.MsgspecError:
        return False
