"""What Gateways and routes request, in the terms of the Gateway API (gateway.networking.k8s.io, v1.6)."""

from weir.model.objects import Condition, Root, Selector, name_in, owner_of
from weir.model.value import Value


class ObjectRef(Value, frozen=True, kw_only=True, omit_defaults=True):
    """A reference as written.  `namespace` is never empty for a namespaced kind: the reader fills in that of the object which refers."""

    kind: str
    name: str
    group: str = ""
    namespace: str = ""


class ParentRef(Value, frozen=True, kw_only=True, omit_defaults=True):
    """Where a route or ListenerSet attaches."""

    name: str
    namespace: str  # filled in where absent
    kind: str = "Gateway"
    group: str = "gateway.networking.k8s.io"
    section: str = ""  # name of one listener; "": all
    port: int = 0  # 0: any
    explicit_namespace: bool = True  # whether the manifest names the namespace; status repeats the reference as written


class BackendRef(Value, frozen=True, kw_only=True, omit_defaults=True):
    """A backend of a rule.  `weight` counts against the sum of its rule."""

    name: str
    namespace: str  # filled in where absent
    kind: str = "Service"
    group: str = ""
    port: int = 0  # 0: absent
    port_name: str = ""  # instead of its number, as an Ingress may name it
    weight: int = 1
    filters: tuple["Filter", ...] = ()


def owner_at(root: Root, to: ObjectRef | ParentRef | BackendRef) -> str:
    """The owner text of what `root` refers to."""
    return owner_of(to.kind, name_in(root.source, to.namespace), to.name)


class PathMatch(Value, frozen=True, kw_only=True, omit_defaults=True):
    """kind: Exact, PathPrefix (whole segments), RegularExpression."""

    kind: str = "PathPrefix"
    value: str = "/"


class ValueMatch(Value, frozen=True, kw_only=True, omit_defaults=True):
    """A header or query parameter.  kind: Exact, RegularExpression."""

    name: str
    value: str
    kind: str = "Exact"


class Match(Value, frozen=True, kw_only=True, omit_defaults=True):
    """All of its conditions must hold.  A method of gRPC is a path: /service/method."""

    path: PathMatch = PathMatch()
    method: str = ""  # "": any
    headers: tuple[ValueMatch, ...] = ()
    queries: tuple[ValueMatch, ...] = ()


class Header(Value, frozen=True, kw_only=True, omit_defaults=True):
    """One header field."""

    name: str
    value: str


class HeaderChange(Value, frozen=True, kw_only=True, omit_defaults=True):
    """Applied in this order: set, add, remove."""

    set: tuple[Header, ...] = ()
    add: tuple[Header, ...] = ()
    remove: tuple[str, ...] = ()


class PathChange(Value, frozen=True, kw_only=True, omit_defaults=True):
    """kind: ReplaceFullPath, ReplacePrefixMatch (of the prefix that the rule matched)."""

    kind: str
    value: str


class Redirect(Value, frozen=True, kw_only=True, omit_defaults=True):
    """Parts that are empty stay as the request has them."""

    scheme: str = ""
    hostname: str = ""
    path: PathChange | None = None
    port: int = 0
    status: int = 302


class Rewrite(Value, frozen=True, kw_only=True, omit_defaults=True):
    """Parts that are empty stay as the request has them."""

    hostname: str = ""
    path: PathChange | None = None


class Mirror(Value, frozen=True, kw_only=True, omit_defaults=True):
    """A copy of numerator/denominator of the requests goes to `backend`; its answer is ignored."""

    backend: BackendRef
    numerator: int = 100
    denominator: int = 100


class Cors(Value, frozen=True, kw_only=True, omit_defaults=True):
    """Cross-origin rules; "*" in a list allows everything."""

    origins: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    exposed: tuple[str, ...] = ()
    credentials: bool = False
    max_age_s: int = 5


class Filter(Value, frozen=True, kw_only=True, omit_defaults=True):
    """One filter of a rule: the field that its type names is set, as in the API."""

    type: str  # RequestHeaderModifier, ResponseHeaderModifier, RequestRedirect, URLRewrite, RequestMirror, CORS, ExtensionRef
    headers: HeaderChange | None = None
    redirect: Redirect | None = None
    rewrite: Rewrite | None = None
    mirror: Mirror | None = None
    cors: Cors | None = None
    extension: ObjectRef | None = None


class Retry(Value, frozen=True, kw_only=True, omit_defaults=True):
    """GEP-1731."""

    codes: tuple[int, ...] = ()
    attempts: int = 1
    backoff_ms: int = 0  # 0: the proxy's default


class Persistence(Value, frozen=True, kw_only=True, omit_defaults=True):
    """Session persistence (GEP-1619).  kind: Cookie, Header."""

    kind: str = "Cookie"
    name: str = ""  # of the session; "": made by the planner
    lifetime: str = "Session"  # of the cookie: Session, Permanent
    absolute_ms: int = 0
    idle_ms: int = 0


class RouteRule(Value, frozen=True, kw_only=True, omit_defaults=True):
    """One rule of an HTTPRoute or GRPCRoute.  Times: None is absent, 0 is without limit."""

    name: str = ""
    matches: tuple[Match, ...] = (Match(),)
    filters: tuple[Filter, ...] = ()
    backends: tuple[BackendRef, ...] = ()
    request_ms: int | None = None
    backend_request_ms: int | None = None
    retry: Retry | None = None
    persistence: Persistence | None = None


class L4Rule(Value, frozen=True, kw_only=True, omit_defaults=True):
    """One rule of a TCPRoute, UDPRoute or TLSRoute."""

    name: str = ""
    backends: tuple[BackendRef, ...] = ()


class RouteNamespaces(Value, frozen=True, kw_only=True, omit_defaults=True):
    """Whose namespaces may attach.  choice: Same, All, Selector, None."""

    choice: str = "Same"
    selector: Selector | None = None


class ListenerTls(Value, frozen=True, kw_only=True, omit_defaults=True):
    """mode: Terminate, Passthrough."""

    mode: str = "Terminate"
    certificates: tuple[ObjectRef, ...] = ()


class Listener(Value, frozen=True, kw_only=True, omit_defaults=True):
    """One listener of a Gateway or ListenerSet."""

    name: str
    port: int
    protocol: str  # HTTP, HTTPS, TLS, TCP, UDP
    hostname: str = ""  # "": any
    tls: ListenerTls | None = None
    namespaces: RouteNamespaces = RouteNamespaces()
    kinds: tuple[ObjectRef, ...] | None = None  # group and kind only; None: those of the protocol


class GatewayAddress(Value, frozen=True, kw_only=True, omit_defaults=True):
    """value "": any of that type."""

    type: str = "IPAddress"
    value: str = ""


class ClientValidation(Value, frozen=True, kw_only=True, omit_defaults=True):
    """How clients of HTTPS listeners authenticate.  mode: AllowValidOnly, AllowInsecureFallback."""

    port: int = 0  # 0: every port without an entry of its own
    authorities: tuple[ObjectRef, ...] = ()  # CA bundles
    mode: str = "AllowValidOnly"


class SubjectAltName(Value, frozen=True, kw_only=True, omit_defaults=True):
    """A name that a backend's certificate must have.  kind: Hostname, URI."""

    kind: str
    value: str


class ListenerStatus(Value, frozen=True, kw_only=True, omit_defaults=True):
    """Status of one listener."""

    name: str
    attached: int = 0  # attachedRoutes
    kinds: tuple[ObjectRef, ...] = ()  # supportedKinds: group and kind
    port: int = 0  # of a ListenerSet's entry
    conditions: tuple[Condition, ...] = ()


class ParentStatus(Value, frozen=True, kw_only=True, omit_defaults=True):
    """What one parent made of a route, or of a policy one Gateway that it concerns."""

    parent: ParentRef
    controller: str = "weir.dev/weir"  # of the parent's class
    conditions: tuple[Condition, ...] = ()


class GrantFrom(Value, frozen=True, kw_only=True, omit_defaults=True):
    """Objects that may refer to another namespace: those of one kind in one namespace."""

    group: str
    kind: str
    namespace: str


class GrantTo(Value, frozen=True, kw_only=True, omit_defaults=True):
    """Objects that may be referred to, in the namespace of the grant."""

    group: str
    kind: str
    name: str = ""  # "": every object of the kind
