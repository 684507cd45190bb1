"""Which listener, rule and upstream would take a request, from the plan; and why the rules before it would not.

The order of everything is that of the proxy: the most specific server name and hostname, then the first rule that matches.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import parse_qsl, urlsplit

from weir.decider import World
from weir.events import ListenerPlanned, VirtualHostPlanned
from weir.model import Chain, Match, PathMatch, ProxyRule, ValueMatch
from weir.view.errors import NotFound, Unanswerable
from weir.view.value import View

_PORTS = {"http": 80, "https": 443}


class Request(View, frozen=True):
    """A request as a client sends it.  Header names are in lower case."""

    method: str
    host: str
    port: int
    tls: bool
    path: str
    query: tuple[tuple[str, str], ...]
    headers: dict[str, str]


class Considered(View, frozen=True):
    """A rule that was looked at.  why: what of it does not match; "" where it takes the request."""

    route: str
    rule: str
    match: str
    why: str


class Decision(View, frozen=True):
    """What happens to a request.

    status: of the answer that the proxy gives itself; 0 where an upstream answers.
    upstreams: "shop/web:80 90%"; what goes to a backend that cannot be referred to is "answered 500 10%".
    """

    gateway: str
    listener: str
    hostname: str
    route: str
    rule: str
    filters: tuple[str, ...]
    upstreams: tuple[str, ...]
    status: int
    considered: tuple[Considered, ...]


def request_of(method: str, url: str, headers: Sequence[str] = ()) -> Request:
    """Parse a request as curl takes it.   headers: "Name: value".   Raises Unanswerable."""
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise Unanswerable(f"invalid URL {url!r}: expected http://HOST/PATH or https://HOST/PATH")
    named: dict[str, str] = {}
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon or not name.strip():
            raise Unanswerable(f"invalid header {header!r}: expected NAME: VALUE")
        named[name.strip().lower()] = value.strip()
    return Request(
        method=method.upper(),
        host=(named.get("host") or parts.hostname).partition(":")[0].lower(),
        port=parts.port or _PORTS[parts.scheme],
        tls=parts.scheme == "https",
        path=parts.path or "/",
        query=tuple(parse_qsl(parts.query, keep_blank_values=True)),
        headers={"host": parts.netloc.rpartition("@")[2]} | named,
    )


def decide(world: World, gateway: str, request: Request) -> Decision:
    """What the Gateway ("shop/edge") or IngressClass ("weir") does with the request.  Raises NotFound where it does not listen there."""
    listener, chain = _chain(world, gateway, request)
    name = f"{request.port}/{chain.name}"
    hosts = [each for each in world.of(VirtualHostPlanned) if _is_of(each, listener, chain)]
    hostname = _closest({each.hostname for each in hosts}, request.host)
    if hostname is None:
        return _answered(gateway, name, "", 404, [])
    parts = sorted((each for each in hosts if each.hostname == hostname), key=lambda each: each.part)
    considered: list[Considered] = []
    for rule in (rule for part in parts for rule in part.rules):
        why = _mismatch(rule.match, request)
        considered.append(Considered(route=rule.route, rule=rule.rule, match=_words(rule.match), why=why))
        if not why:
            return _taken(gateway, name, hostname, rule, considered)
    return _answered(gateway, name, hostname, parts[0].status, considered)


def _chain(world: World, gateway: str, request: Request) -> tuple[ListenerPlanned, Chain]:
    owner = f"{'Gateway' if '/' in gateway else 'IngressClass'}/{gateway}"
    listeners = [each for each in world.of(ListenerPlanned) if each.owner == owner]
    if not listeners:
        raise NotFound(f"gateway {gateway!r} not found, or it has no HTTP listener")
    listener = next((each for each in listeners if each.port == request.port), None)
    if not listener:
        raise NotFound(f"gateway {gateway} does not listen on port {request.port}: {', '.join(str(each.port) for each in listeners)}")
    usable = [each for each in listener.chains if bool(each.tls) == request.tls and each.http]
    names = {name or "*": each for each in usable for name in (each.hostnames or ("*",))}
    closest = _closest(names, request.host) if request.tls else next(iter(names), None)
    if closest is None:
        raise NotFound(f"port {request.port} of gateway {gateway} has no listener for {'TLS to ' if request.tls else ''}{request.host}")
    return listener, names[closest]


def _is_of(host: VirtualHostPlanned, listener: ListenerPlanned, chain: Chain) -> bool:
    return (host.owner, host.port, host.chain) == (listener.owner, listener.port, chain.name)


def _closest(patterns: Iterable[str], host: str) -> str | None:
    """The most specific pattern for a host: itself, the longest wildcard, "*"."""
    found = [each for each in patterns if each in ("*", host) or (each.startswith("*.") and host.endswith(each[1:]))]
    return max(found, key=lambda each: (not each.startswith("*"), len(each)), default=None)


def _taken(gateway: str, listener: str, hostname: str, rule: ProxyRule, considered: list[Considered]) -> Decision:
    redirect = next((each.redirect for each in rule.filters if each.redirect), None)
    total = sum(share.weight for share in rule.shares)
    shares = [(_target(share.upstream, rule.status), share.weight) for share in rule.shares if share.weight]
    upstreams = tuple(f"{target} {100 * weight // total}%" for target, weight in shares)
    return Decision(
        gateway=gateway,
        listener=listener,
        hostname=hostname,
        route=rule.route,
        rule=rule.rule,
        filters=tuple(each.type for each in rule.filters),
        upstreams=() if redirect else upstreams,
        status=redirect.status if redirect else 0 if rule.shares else rule.status,
        considered=tuple(considered),
    )


def _target(upstream: str, status: int) -> str:
    """The Service and port of an upstream, "shop/edge shop/web:80 http1"; what is answered where there is none."""
    return upstream.split()[1] if " " in upstream else f"answered {status}"


def _answered(gateway: str, listener: str, hostname: str, status: int, considered: list[Considered]) -> Decision:
    return Decision(
        gateway=gateway,
        listener=listener,
        hostname=hostname,
        route="",
        rule="",
        filters=(),
        upstreams=(),
        status=status,
        considered=tuple(considered),
    )


# ── matching ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _mismatch(match: Match, request: Request) -> str:
    """What does not match, in words; "" where everything does."""
    if not _path_matches(match.path, request.path):
        return f"path {request.path}"
    if match.method and match.method != request.method:
        return f"method {request.method}"
    for header in match.headers:
        if not _value_matches(header, request.headers, header.name.lower()):
            return f"header {header.name}"
    first = dict(reversed(request.query))
    for parameter in match.queries:
        if not _value_matches(parameter, first, parameter.name):
            return f"query parameter {parameter.name}"
    return ""


def _path_matches(path: PathMatch, found: str) -> bool:
    if path.kind == "Exact":
        return found == path.value
    if path.kind == "RegularExpression":
        return re.fullmatch(path.value, found) is not None
    return path.value == "/" or found == path.value or found.startswith(f"{path.value.rstrip('/')}/")


def _value_matches(wanted: ValueMatch, found: Mapping[str, str], name: str) -> bool:
    if name not in found:
        return False
    return re.fullmatch(wanted.value, found[name]) is not None if wanted.kind == "RegularExpression" else found[name] == wanted.value


def _words(match: Match) -> str:
    """A match in short: "GET prefix /cart, header x"."""
    kind = {"Exact": "", "PathPrefix": "prefix ", "RegularExpression": "regex "}.get(match.path.kind, f"{match.path.kind} ")
    words = [f"{match.method} {kind}{match.path.value}".strip()]
    words += [f"header {each.name}" for each in match.headers] + [f"query {each.name}" for each in match.queries]
    return ", ".join(words)
