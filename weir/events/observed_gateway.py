"""What the watcher observed of the Gateway API and of what it refers to.  Author: watcher."""

from typing import ClassVar, Final

from weir.events.base import ObjectEvent
from weir.model import (
    BackendRef,
    ClientValidation,
    GatewayAddress,
    GrantFrom,
    GrantTo,
    L4Rule,
    Listener,
    Mode,
    ObjectRef,
    ParentRef,
    Problem,
    RouteNamespaces,
    RouteRule,
    SubjectAltName,
)
from weir.words import few


class GatewayClassObserved(ObjectEvent, frozen=True, kw_only=True, tag="gatewayclass_observed"):
    """A GatewayClass of any controller."""

    kind: ClassVar[str] = "gatewayclass"
    controller: str
    ours: bool = False  # the installation serves its controller, or the class by name
    parameters: ObjectRef | None = None


class GatewayClassGone(ObjectEvent, frozen=True, kw_only=True, tag="gatewayclass_gone"):
    """The GatewayClass is gone."""

    kind: ClassVar[str] = "gatewayclass"
    gone: ClassVar[bool] = True


class GatewayObserved(ObjectEvent, frozen=True, kw_only=True, tag="gateway_observed"):
    """A Gateway of any class."""

    kind: ClassVar[str] = "gateway"
    class_name: str
    listeners: tuple[Listener, ...] = ()
    addresses: tuple[GatewayAddress, ...] = ()
    labels: dict[str, str] = {}  # infrastructure.labels
    annotations: dict[str, str] = {}  # infrastructure.annotations
    parameters: ObjectRef | None = None  # infrastructure.parametersRef
    listener_sets: RouteNamespaces = RouteNamespaces(choice="None")  # allowedListeners
    client_validations: tuple[ClientValidation, ...] = ()
    client_certificate: ObjectRef | None = None  # tls.backend.clientCertificateRef: shown to backends
    mode: Mode = "default"  # of what its TCP and UDP listeners forward
    requested: dict[str, str] = {}  # annotations under weir.dev/ (aliases resolved) of the Gateway itself
    unsupported: tuple[Problem, ...] = ()


class GatewayGone(ObjectEvent, frozen=True, kw_only=True, tag="gateway_gone"):
    """The Gateway is gone."""

    kind: ClassVar[str] = "gateway"
    gone: ClassVar[bool] = True


class ListenerSetObserved(ObjectEvent, frozen=True, kw_only=True, tag="listenerset_observed"):
    """A ListenerSet: more listeners for a Gateway."""

    kind: ClassVar[str] = "listenerset"
    parent: ParentRef
    listeners: tuple[Listener, ...] = ()


class ListenerSetGone(ObjectEvent, frozen=True, kw_only=True, tag="listenerset_gone"):
    """The ListenerSet is gone."""

    kind: ClassVar[str] = "listenerset"
    gone: ClassVar[bool] = True


class RouteObserved(ObjectEvent, frozen=True, kw_only=True):
    """A route of any kind."""

    parents: tuple[ParentRef, ...] = ()


class L7RouteObserved(RouteObserved, frozen=True, kw_only=True):
    """A route that a proxy serves request by request."""

    hostnames: tuple[str, ...] = ()
    rules: tuple[RouteRule, ...] = ()


class L4RouteObserved(RouteObserved, frozen=True, kw_only=True):
    """A route of connections or datagrams."""

    rules: tuple[L4Rule, ...] = ()


class HttpRouteObserved(L7RouteObserved, frozen=True, kw_only=True, tag="httproute_observed"):
    """An HTTPRoute."""

    kind: ClassVar[str] = "httproute"


class HttpRouteGone(ObjectEvent, frozen=True, kw_only=True, tag="httproute_gone"):
    """The HTTPRoute is gone."""

    kind: ClassVar[str] = "httproute"
    gone: ClassVar[bool] = True


class GrpcRouteObserved(L7RouteObserved, frozen=True, kw_only=True, tag="grpcroute_observed"):
    """A GRPCRoute; its methods are paths (/service/method)."""

    kind: ClassVar[str] = "grpcroute"


class GrpcRouteGone(ObjectEvent, frozen=True, kw_only=True, tag="grpcroute_gone"):
    """The GRPCRoute is gone."""

    kind: ClassVar[str] = "grpcroute"
    gone: ClassVar[bool] = True


class TlsRouteObserved(L4RouteObserved, frozen=True, kw_only=True, tag="tlsroute_observed"):
    """A TLSRoute."""

    kind: ClassVar[str] = "tlsroute"
    hostnames: tuple[str, ...] = ()


class TlsRouteGone(ObjectEvent, frozen=True, kw_only=True, tag="tlsroute_gone"):
    """The TLSRoute is gone."""

    kind: ClassVar[str] = "tlsroute"
    gone: ClassVar[bool] = True


class TcpRouteObserved(L4RouteObserved, frozen=True, kw_only=True, tag="tcproute_observed"):
    """A TCPRoute."""

    kind: ClassVar[str] = "tcproute"


class TcpRouteGone(ObjectEvent, frozen=True, kw_only=True, tag="tcproute_gone"):
    """The TCPRoute is gone."""

    kind: ClassVar[str] = "tcproute"
    gone: ClassVar[bool] = True


class UdpRouteObserved(L4RouteObserved, frozen=True, kw_only=True, tag="udproute_observed"):
    """A UDPRoute."""

    kind: ClassVar[str] = "udproute"


class UdpRouteGone(ObjectEvent, frozen=True, kw_only=True, tag="udproute_gone"):
    """The UDPRoute is gone."""

    kind: ClassVar[str] = "udproute"
    gone: ClassVar[bool] = True


class BackendTlsPolicyObserved(ObjectEvent, frozen=True, kw_only=True, tag="backendtlspolicy_observed"):
    """How connections to the Services it targets are encrypted and verified."""

    kind: ClassVar[str] = "backendtlspolicy"
    targets: tuple[BackendRef, ...] = ()  # Services; `port` 0, the section is in `sections` at the same place
    sections: tuple[str, ...] = ()  # port name of each target; "": every port
    hostname: str = ""
    authorities: tuple[ObjectRef, ...] = ()  # CA bundles
    system_authorities: bool = False  # wellKnownCACertificates: System
    names: tuple[SubjectAltName, ...] = ()
    unsupported: tuple[Problem, ...] = ()


class BackendTlsPolicyGone(ObjectEvent, frozen=True, kw_only=True, tag="backendtlspolicy_gone"):
    """The BackendTLSPolicy is gone."""

    kind: ClassVar[str] = "backendtlspolicy"
    gone: ClassVar[bool] = True


class ReferenceGrantObserved(ObjectEvent, frozen=True, kw_only=True, tag="referencegrant_observed"):
    """A ReferenceGrant: who may refer to what in its namespace."""

    kind: ClassVar[str] = "referencegrant"
    referrers: tuple[GrantFrom, ...]
    targets: tuple[GrantTo, ...]

    def stated(self) -> str:
        referrers = few(f"{each.kind} in {each.namespace}" for each in self.referrers)
        return f"{self.root.path}: {referrers} to {few(' '.join(filter(None, (each.kind, each.name))) for each in self.targets)}"


class ReferenceGrantGone(ObjectEvent, frozen=True, kw_only=True, tag="referencegrant_gone"):
    """The ReferenceGrant is gone."""

    kind: ClassVar[str] = "referencegrant"
    gone: ClassVar[bool] = True


class ConfigMapObserved(ObjectEvent, frozen=True, kw_only=True, tag="configmap_observed"):
    """A ConfigMap, as far as it is a CA bundle: certificates are public.  Others are not recorded unless a manifest refers to them."""

    kind: ClassVar[str] = "configmap"
    authorities: str = ""  # PEM certificates of the key ca.crt; "" where there is no such key
    problem: str = ""  # why that is no CA bundle


class ConfigMapGone(ObjectEvent, frozen=True, kw_only=True, tag="configmap_gone"):
    """The ConfigMap is gone."""

    kind: ClassVar[str] = "configmap"
    gone: ClassVar[bool] = True


class SecretObserved(ObjectEvent, frozen=True, kw_only=True, tag="secret_observed"):
    """A TLS Secret that something refers to: never its key, which the L7 edge of each node alone reads.

    `digest` changes with the content; it is keyed (HMAC) with the log's id, so that it does not help to guess one.
    """

    kind: ClassVar[str] = "secret"
    digest: str
    names: tuple[str, ...] = ()  # of the certificate: DNS names
    not_after: str = ""  # RFC 3339
    problem: str = ""  # why it cannot be used as certificate and key; never quotes the content


class SecretGone(ObjectEvent, frozen=True, kw_only=True, tag="secret_gone"):
    """The Secret is gone."""

    kind: ClassVar[str] = "secret"
    gone: ClassVar[bool] = True


ROUTES: Final = (HttpRouteObserved, GrpcRouteObserved, TlsRouteObserved, TcpRouteObserved, UdpRouteObserved)

GatewayApiObserved = (
    GatewayClassObserved
    | GatewayObserved
    | ListenerSetObserved
    | HttpRouteObserved
    | GrpcRouteObserved
    | TlsRouteObserved
    | TcpRouteObserved
    | UdpRouteObserved
    | BackendTlsPolicyObserved
    | ReferenceGrantObserved
    | ConfigMapObserved
    | SecretObserved
)
GatewayApiGone = (
    GatewayClassGone
    | GatewayGone
    | ListenerSetGone
    | HttpRouteGone
    | GrpcRouteGone
    | TlsRouteGone
    | TcpRouteGone
    | UdpRouteGone
    | BackendTlsPolicyGone
    | ReferenceGrantGone
    | ConfigMapGone
    | SecretGone
)
