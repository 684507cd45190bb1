"""The plan for a proxy, independent of which proxy it is."""

from weir.model.gateway import Filter, Match, Persistence, Retry
from weir.model.value import Value


class UpstreamShare(Value, frozen=True, kw_only=True, omit_defaults=True):
    """A share of the requests of a rule.  An upstream that is not planned answers 500: its backend is missing or not permitted."""

    upstream: str  # as `upstream_planned` names it
    weight: int = 1
    filters: tuple[Filter, ...] = ()  # of this backend alone
    mirror: bool = False


class ProxyRule(Value, frozen=True, kw_only=True, omit_defaults=True):
    """One route of a virtual host; the first that matches serves.

    No `shares` and no redirect among `filters`: the request is answered with `status`.
    """

    route: str  # owner text: "HTTPRoute/shop/web"
    rule: str  # name of the rule, or its number from 0
    match: Match
    filters: tuple[Filter, ...] = ()  # mirrors name an upstream: see `mirrors`
    shares: tuple[UpstreamShare, ...] = ()
    mirrors: tuple[UpstreamShare, ...] = ()  # in the order of the mirror filters
    status: int = 500
    request_ms: int | None = None
    backend_request_ms: int | None = None
    retry: Retry | None = None
    persistence: Persistence | None = None


class ClientAuth(Value, frozen=True, kw_only=True, omit_defaults=True):
    """How the clients of a chain authenticate."""

    authorities: tuple[str, ...]  # owner texts of ConfigMaps (CA bundles); their PEM is in `pem`
    pem: str  # the bundles, one after another
    required: bool = True  # False: a client without a valid certificate is served too


class Chain(Value, frozen=True, kw_only=True, omit_defaults=True):
    """Connections to a listener by their server name (SNI), and what is done with them."""

    name: str  # unique within the listener
    hostnames: tuple[str, ...] = ()  # SNI, exact or "*.example.com"; (): all others
    tls: str = ""  # "" plain, Terminate, Passthrough
    certificates: tuple[str, ...] = ()  # owner texts of Secrets, "Secret/shop/cert"
    digests: tuple[str, ...] = ()  # of these Secrets, so that a rotation is a new plan
    client_auth: ClientAuth | None = None
    http: bool = True  # False: a TCP proxy to `shares`
    shares: tuple[UpstreamShare, ...] = ()


class UpstreamTls(Value, frozen=True, kw_only=True, omit_defaults=True):
    """TLS towards backends."""

    server_name: str
    pem: str = ""  # CA bundle; "": the system's
    names: tuple[str, ...] = ()  # what the certificate must name: "DNS:a.example.com", "URI:spiffe://…"
    client_certificate: str = ""  # owner text of a Secret; "": none
    client_digest: str = ""
