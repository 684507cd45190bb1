"""What the kinds of routes have in common: parents, backends, matches, filters, times (Gateway API v1.6)."""

import re
from collections.abc import Iterable
from typing import Any, Final, TypedDict

import msgspec

from services.watcher.kinds.fields import Field
from services.watcher.kinds.kind import Metadata
from services.watcher.kinds.schema import CONDITIONS, Fields, fields
from weir.events import L4RouteObserved, L7RouteObserved, RouteObserved
from weir.model import (
    BackendRef,
    Cors,
    Filter,
    Header,
    HeaderChange,
    L4Rule,
    Match,
    Mirror,
    ObjectRef,
    ParentRef,
    PathChange,
    PathMatch,
    Persistence,
    Redirect,
    Retry,
    Rewrite,
    Root,
    RouteRule,
    ValueMatch,
    owner_at,
)


class _Whole(TypedDict, total=False):
    metadata: Metadata
    spec: Any


DECODE: Final = msgspec.json.Decoder(_Whole).decode  # metadata and spec: an API server keeps all else out of a spec

GROUP: Final = "gateway.networking.k8s.io"
MOST_WEIGHT: Final = 1_000_000
_DURATION: Final = re.compile(r"(?:[0-9]{1,5}(?:h|ms|m|s)){1,4}")
_UNITS_MS: Final = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")
_HOSTNAME: Final = re.compile(r"(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


_REF: Final = "group kind name namespace"
PARENT_REFS: Final = fields(f"{_REF} port sectionName")
_VALUES: Final = fields("name type value")
_HEADERS: Final = fields("remove", add=fields("name value"), set=fields("name value"))
_PATH: Final = fields("replaceFullPath replacePrefixMatch type")
_BACKEND: Final = f"{_REF} port weight"
_FILTER: Final = fields(
    "type",
    requestHeaderModifier=_HEADERS,
    responseHeaderModifier=_HEADERS,
    requestRedirect=fields("hostname port scheme statusCode", path=_PATH),
    urlRewrite=fields("hostname", path=_PATH),
    requestMirror=fields("percent", backendRef=fields(_BACKEND), fraction=fields("denominator numerator")),
    cors=fields("allowCredentials allowHeaders allowMethods allowOrigins exposeHeaders maxAge"),
    externalAuth=fields(
        "protocol",
        backendRef=fields(_BACKEND),
        forwardBody=fields("maxSize"),
        grpc=fields("allowedHeaders"),
        http=fields("allowedHeaders allowedResponseHeaders path"),
    ),
    extensionRef=fields("group kind name"),
)
_L7_RULE: Final = fields(
    "name",
    filters=_FILTER,
    backendRefs=fields(_BACKEND, filters=_FILTER),
    sessionPersistence=fields("absoluteTimeout idleTimeout sessionName type", cookieConfig=fields("lifetimeType")),
)
HTTP_RULES: Final[Fields] = _L7_RULE | fields(
    "",
    matches=fields("method", headers=_VALUES, path=fields("type value"), queryParams=_VALUES),
    retry=fields("attempts backoff codes"),
    timeouts=fields("backendRequest request"),
)
GRPC_RULES: Final[Fields] = _L7_RULE | fields("", matches=fields("", headers=_VALUES, method=fields("method service type")))
L4_RULES: Final = fields("name", backendRefs=fields(_BACKEND))
ROUTE_STATUS: Final = fields("", parents=fields("controllerName", conditions=CONDITIONS, parentRef=PARENT_REFS))


def backend_services(event: RouteObserved) -> Iterable[str]:
    """The Services of a route, whose EndpointSlices it needs in the log."""
    refs = (ref for ref in _backends(event) if (ref.group, ref.kind) == ("", "Service"))
    return {owner_at(event.root, ref) for ref in refs}


def _backends(event: RouteObserved) -> Iterable[BackendRef]:
    if isinstance(event, L4RouteObserved):
        return [ref for each in event.rules for ref in each.backends]
    if not isinstance(event, L7RouteObserved):
        return []
    mirrors = [part.mirror.backend for each in event.rules for part in each.filters if part.mirror]
    return [*(ref for each in event.rules for ref in each.backends), *mirrors]


def hostname(field: Field) -> str:
    """A name such as "shop.example.com" or "*.example.com", in lower case; "" where it is absent or faulty."""
    text = field.text().lower()
    if text and not (len(text) <= 253 and _HOSTNAME.fullmatch(text)):
        field.fail("a hostname such as shop.example.com or *.example.com (names in other scripts in their xn-- form)")
        return ""
    return text


def parents(spec: Field, root: Root) -> tuple[ParentRef, ...]:
    """`parentRefs` of a route."""
    return tuple(parent(item, root) for item in spec["parentRefs"].items())


def parent(item: Field, root: Root) -> ParentRef:
    """One reference to a Gateway or ListenerSet."""
    namespace = item["namespace"].text()
    if not item["name"].text():
        item["name"].fail("the name of a Gateway or ListenerSet")
    return ParentRef(
        group=item["group"].text() if item["group"].value is not None else GROUP,
        kind=item["kind"].text() or "Gateway",
        namespace=namespace or root.namespace,
        name=item["name"].text(),
        section=item["sectionName"].text(),
        port=item["port"].number(0, 65535),
        explicit_namespace=bool(namespace),
    )


def reference(item: Field, root: Root, kind: str = "") -> ObjectRef:
    """A reference to an object, in the namespace of `root` where it names none.   kind: where it names none."""
    return ObjectRef(
        group=item["group"].text(),
        kind=item["kind"].text() or kind,
        namespace=item["namespace"].text() or root.namespace,
        name=item["name"].text(),
    )


def backend(item: Field, root: Root) -> BackendRef:
    """One of `backendRefs`."""
    return BackendRef(
        group=item["group"].text(),
        kind=item["kind"].text() or "Service",
        namespace=item["namespace"].text() or root.namespace,
        name=item["name"].text(),
        port=item["port"].number(0, 65535),
        weight=item["weight"].number(0, MOST_WEIGHT, 1),
        filters=filters(item["filters"], root),
    )


def backends(field: Field, root: Root) -> tuple[BackendRef, ...]:
    """`backendRefs` of a rule."""
    return tuple(backend(item, root) for item in field.items())


def l4_rules(spec: Field, root: Root) -> tuple[L4Rule, ...]:
    """`rules` of a TCPRoute, UDPRoute or TLSRoute."""
    return tuple(L4Rule(name=item["name"].text(), backends=backends(item["backendRefs"], root)) for item in spec["rules"].items())


def http_rules(spec: Field, root: Root) -> tuple[RouteRule, ...]:
    """`rules` of an HTTPRoute; without any, one that matches everything and has no backend, as an API server would make it."""
    return tuple(_http_rule(item, root) for item in spec["rules"].items())


def _http_rule(item: Field, root: Root) -> RouteRule:
    return rule(item, root, tuple(_http_match(each) for each in item["matches"].items()) or (Match(),))


def rule(item: Field, root: Root, matches: tuple[Match, ...]) -> RouteRule:
    """A rule of an HTTPRoute or GRPCRoute."""
    timeouts, retries = item["timeouts"], item["retry"]
    return RouteRule(
        name=item["name"].text(),
        matches=matches,
        filters=filters(item["filters"], root),
        backends=backends(item["backendRefs"], root),
        request_ms=duration_ms(timeouts["request"]),
        backend_request_ms=duration_ms(timeouts["backendRequest"]),
        retry=_retry(retries) if retries.value is not None else None,
        persistence=_persistence(item["sessionPersistence"]) if item["sessionPersistence"].value is not None else None,
    )


def _retry(item: Field) -> Retry:
    codes = tuple(code.number(400, 599, 500) for code in item["codes"].items())
    return Retry(codes=codes, attempts=item["attempts"].number(0, 1000, 1), backoff_ms=duration_ms(item["backoff"]) or 0)


def _persistence(item: Field) -> Persistence:
    return Persistence(
        kind=item["type"].word(("Cookie", "Header"), "Cookie"),
        name=_token(item["sessionName"]),
        lifetime=item["cookieConfig"]["lifetimeType"].word(("Session", "Permanent"), "Session"),
        absolute_ms=duration_ms(item["absoluteTimeout"]) or 0,
        idle_ms=duration_ms(item["idleTimeout"]) or 0,
    )


# ── matches ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _http_match(item: Field) -> Match:
    path = item["path"]
    kind = path["type"].word(("Exact", "PathPrefix", "RegularExpression"), "PathPrefix")
    value = path["value"].text() or "/"
    if kind != "RegularExpression" and not value.startswith("/"):
        path["value"].fail("a path that begins with /")
    if kind == "RegularExpression":
        _checked(path["value"])
    return Match(
        path=PathMatch(kind=kind, value=value.rstrip("/") or "/" if kind == "PathPrefix" else value),
        method=item["method"].word(_METHODS, ""),
        headers=value_matches(item["headers"]),
        queries=value_matches(item["queryParams"]),
    )


def value_matches(field: Field) -> tuple[ValueMatch, ...]:
    """`headers` or `queryParams` of a match; of several for one name the first counts, as the API says."""
    found: dict[str, ValueMatch] = {}
    for item in field.items():
        kind = item["type"].word(("Exact", "RegularExpression"), "Exact")
        if kind == "RegularExpression":
            _checked(item["value"])
        name = _token(item["name"])
        found.setdefault(name.lower(), ValueMatch(name=name, value=item["value"].text(), kind=kind))
    return tuple(found.values())


def _checked(field: Field) -> None:
    """Note a fault where the text is no regular expression."""
    try:
        re.compile(field.text())
    except re.error as error:
        field.fail(f"a regular expression ({error})")


def _token(field: Field) -> str:
    text = field.text()
    if text and not _TOKEN.fullmatch(text):
        field.fail("a name as HTTP has it: letters, digits and !#$%&'*+-.^_`|~")
        return ""
    return text


# ── filters ────────────────────────────────────────────────────────────────────────────────────────────────────────


def filters(field: Field, root: Root) -> tuple[Filter, ...]:
    """`filters` of a rule or of a backend."""
    return tuple(_filter(item, root) for item in field.items())


def _filter(item: Field, root: Root) -> Filter:
    kind = item["type"].text()
    match kind:
        case "RequestHeaderModifier":
            return Filter(type=kind, headers=_headers(item["requestHeaderModifier"]))
        case "ResponseHeaderModifier":
            return Filter(type=kind, headers=_headers(item["responseHeaderModifier"]))
        case "RequestRedirect":
            return Filter(type=kind, redirect=_redirect(item["requestRedirect"]))
        case "URLRewrite":
            rewrite = item["urlRewrite"]
            return Filter(type=kind, rewrite=Rewrite(hostname=hostname(rewrite["hostname"]), path=_path_change(rewrite["path"])))
        case "RequestMirror":
            return Filter(type=kind, mirror=_mirror(item["requestMirror"], root))
        case "CORS":
            return Filter(type=kind, cors=_cors(item["cors"]))
        case "ExtensionRef":
            return Filter(type=kind, extension=reference(item["extensionRef"], root))
    return Filter(type=kind)


def _headers(item: Field) -> HeaderChange:
    remove = tuple(name for each in item["remove"].items() if (name := _token(each)))
    return HeaderChange(set=_named(item["set"]), add=_named(item["add"]), remove=remove)


def _named(field: Field) -> tuple[Header, ...]:
    return tuple(Header(name=_token(each["name"]), value=each["value"].text()) for each in field.items())


def _redirect(item: Field) -> Redirect:
    status = item["statusCode"].number(301, 308, 302)
    if status not in (301, 302, 303, 307, 308):
        item["statusCode"].fail("301, 302, 303, 307, 308")
    return Redirect(
        scheme=item["scheme"].word(("http", "https"), ""),
        hostname=hostname(item["hostname"]),
        path=_path_change(item["path"]),
        port=item["port"].number(0, 65535),
        status=status,
    )


def _path_change(item: Field) -> PathChange | None:
    if item.value is None:
        return None
    kind = item["type"].word(("ReplaceFullPath", "ReplacePrefixMatch"), "ReplaceFullPath")
    return PathChange(kind=kind, value=item["replaceFullPath" if kind == "ReplaceFullPath" else "replacePrefixMatch"].text())


def _mirror(item: Field, root: Root) -> Mirror:
    part = item["fraction"]
    if part.value is not None:
        bottom = part["denominator"].number(1, 2**31 - 1, 100)
        return Mirror(backend=backend(item["backendRef"], root), numerator=part["numerator"].number(0, bottom, 0), denominator=bottom)
    return Mirror(backend=backend(item["backendRef"], root), numerator=item["percent"].number(0, 100, 100))


def _cors(item: Field) -> Cors:
    def texts(name: str) -> tuple[str, ...]:
        return tuple(each.text() for each in item[name].items())

    return Cors(
        origins=texts("allowOrigins"),
        methods=texts("allowMethods"),
        headers=texts("allowHeaders"),
        exposed=texts("exposeHeaders"),
        credentials=item["allowCredentials"].flag(absent=False),
        max_age_s=item["maxAge"].number(1, 2**31 - 1, 5),
    )


def duration_ms(field: Field) -> int | None:
    """A duration as GEP-2257 has it ("10s", "1h30m", "500ms"), in milliseconds; None where it is absent."""
    text = field.text()
    if not text:
        return None
    if not _DURATION.fullmatch(text):
        field.fail("a duration such as 10s, 500ms or 1h30m")
        return None
    return sum(int(number) * _UNITS_MS[unit] for number, unit in re.findall(r"([0-9]+)(h|ms|m|s)", text))
