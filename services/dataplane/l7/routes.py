"""Virtual hosts and their routes, as Envoy's route configuration.  Pure.

The order of rules is the planner's: Envoy takes the first route that matches, as the plan does.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import chain

from services.dataplane.l7.protobuf import Json, any_of, duration, extension
from weir.events import VirtualHostPlanned
from weir.model import (
    Cors,
    Filter,
    HeaderChange,
    Match,
    Mirror,
    PathChange,
    Persistence,
    ProxyRule,
    Redirect,
    Rewrite,
    UpstreamShare,
    ValueMatch,
)

CORS = "envoy.filters.http.cors"
SESSIONS = "envoy.filters.http.stateful_session"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_REDIRECTS = {301: "MOVED_PERMANENTLY", 302: "FOUND", 303: "SEE_OTHER", 307: "TEMPORARY_REDIRECT", 308: "PERMANENT_REDIRECT"}
# Requests that no backend has begun to work on are safe to send to another one.
_RETRY_UNSENT: Json = {"retry_on": "connect-failure,refused-stream", "num_retries": 2}
# Substitutions that values of headers may use; any other "%" is a percent sign.
_SUBSTITUTIONS = re.compile(r"%(?:REQ\(X-[A-Z0-9-]+\)|RESPONSE_DURATION|PROTOCOL|DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT)%", re.IGNORECASE)


def route_configuration(name: str, hosts: Sequence[object]) -> Json:
    """hosts: virtual hosts, in any JSON form."""
    return {
        "name": name,
        "virtual_hosts": hosts,
        "ignore_port_in_host_matching": True,
        "validate_clusters": False,  # a rule may name an upstream that is not planned: it answers 500
        "max_direct_response_body_size_bytes": 4096,
    }


def virtual_host(parts: Sequence[VirtualHostPlanned], seq: int, scheme: str, excluded: frozenset[str] = frozenset()) -> Json:
    """One hostname of one chain.   parts: of the list of rules, in order.   seq: of the newest.

    scheme: http or https, of the listener.   excluded: names of routes that Envoy does not accept; they answer 500.
    """
    first = parts[0]
    rules = [rule for part in parts for rule in part.rules]
    routes = list(chain.from_iterable(_routes(rule, scheme, first.port, excluded) for rule in rules))
    if first.status != 404:  # Envoy's own answer
        routes.append({"name": "unmatched", "match": {"prefix": "/"}, "direct_response": {"status": first.status}})
    return {
        "name": first.hostname,
        "domains": [first.hostname],
        "routes": routes,
        "retry_policy": _RETRY_UNSENT,
        "metadata": {"filter_metadata": {"weir": {"plan": str(seq)}}},
    }


def route_name(rule: ProxyRule) -> str:
    """ "HTTPRoute/shop/web/0", as access logs have it."""
    return f"{rule.route}/{rule.rule}"


def _routes(rule: ProxyRule, scheme: str, port: int, excluded: frozenset[str]) -> Iterable[Json]:
    name = route_name(rule)
    if f"match {name}" in excluded:
        return
    base: Json = {"name": name, "match": _match(rule.match)}
    shares = [share for share in rule.shares if share.weight]
    filters = () if name in excluded else rule.filters
    redirect = next((each.redirect for each in filters if each.redirect), None)
    if redirect:
        yield base | {"redirect": _redirect(redirect, rule.match, scheme, port)} | _header_changes(filters)
    elif shares and name not in excluded:
        yield base | {"route": _action(rule, shares)} | _header_changes(filters) | _extensions(rule)
    else:
        yield base | {"direct_response": {"status": 500 if name in excluded else rule.status}} | _header_changes(filters)


# ── matches ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _match(match: Match) -> Json:
    headers = [_header_match(header) for header in match.headers]
    if match.method:
        headers.insert(0, {"name": ":method", "string_match": {"exact": match.method}})
    queries = [{"name": query.name, "string_match": _string_match(query)} for query in match.queries]
    return _path_match(match) | ({"headers": headers} if headers else {}) | ({"query_parameters": queries} if queries else {})


def _path_match(match: Match) -> Json:
    path = match.path
    match path.kind:
        case "Exact":
            return {"path": path.value}
        case "RegularExpression":
            return {"safe_regex": {"regex": path.value}}
    prefix = path.value.rstrip("/")
    return {"path_separated_prefix": prefix} if prefix else {"prefix": "/"}


def _header_match(header: ValueMatch) -> Json:
    return {"name": header.name, "string_match": _string_match(header)}


def _string_match(value: ValueMatch) -> Json:
    return {"safe_regex": {"regex": value.value}} if value.kind == "RegularExpression" else {"exact": value.value}


# ── actions ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _action(rule: ProxyRule, shares: Sequence[UpstreamShare]) -> Json:
    action: Json = {"cluster_not_found_response_code": "INTERNAL_SERVER_ERROR"}
    if len(shares) == 1 and not shares[0].filters:
        action["cluster"] = shares[0].upstream
    else:
        action["weighted_clusters"] = {"clusters": [_weighted(share) for share in shares]}
    for each in rule.filters:
        if each.rewrite:
            action |= _rewrite(each.rewrite, rule.match)
    if host := _host_of(rule.filters):
        action["host_rewrite_literal"] = host
    if mirrors := _mirrors(rule):
        action["request_mirror_policies"] = mirrors
    return action | _times(rule)


def _weighted(share: UpstreamShare) -> Json:
    return {"name": share.upstream, "weight": share.weight} | _header_changes(share.filters) | _share_host(share)


def _share_host(share: UpstreamShare) -> Json:
    names = [each.rewrite.hostname for each in share.filters if each.rewrite and each.rewrite.hostname]
    host = names[0] if names else _host_of(share.filters)
    return {"host_rewrite_literal": host} if host else {}


def _times(rule: ProxyRule) -> Json:
    """Without a limit of its own a request may take as long as it moves: see `stream_idle_timeout` of the listener."""
    limits = [limit for limit in (rule.request_ms, None if rule.retry else rule.backend_request_ms) if limit]
    times: Json = {"timeout": duration(min(limits, default=0))}
    if retry := rule.retry:
        policy: Json = {
            "retry_on": "connect-failure,refused-stream,reset,retriable-status-codes",
            "retriable_status_codes": list(retry.codes),
            "num_retries": retry.attempts,
        }
        if retry.backoff_ms:
            policy["retry_back_off"] = {"base_interval": duration(retry.backoff_ms), "max_interval": duration(retry.backoff_ms * 10)}
        if rule.backend_request_ms:
            policy["per_try_timeout"] = duration(rule.backend_request_ms)
        times["retry_policy"] = policy
    return times


def _mirrors(rule: ProxyRule) -> list[Json]:
    wanted = [each.mirror for each in rule.filters if each.mirror]
    return [_mirror(share, mirror) for share, mirror in zip(rule.mirrors, wanted, strict=False)]


def _mirror(share: UpstreamShare, mirror: Mirror) -> Json:
    fraction = mirror.numerator * 1_000_000 // max(mirror.denominator, 1)
    return {
        "cluster": share.upstream,
        "runtime_fraction": {"default_value": {"numerator": min(fraction, 1_000_000), "denominator": "MILLION"}},
        "disable_shadow_host_suffix_append": True,
    }


def _rewrite(rewrite: Rewrite, match: Match) -> Json:
    host: Json = {"host_rewrite_literal": rewrite.hostname} if rewrite.hostname else {}
    return host | ({"regex_rewrite": _path_rewrite(rewrite.path, match)} if rewrite.path else {})


def _redirect(redirect: Redirect, match: Match, scheme: str, listener_port: int) -> Json:
    action: Json = {"response_code": _REDIRECTS.get(redirect.status, "FOUND")}
    if redirect.scheme:
        action["scheme_redirect"] = redirect.scheme
    if redirect.hostname:
        action["host_redirect"] = redirect.hostname
    if redirect.path and redirect.path.kind == "ReplaceFullPath":
        action["path_redirect"] = redirect.path.value
    elif redirect.path:
        action["regex_rewrite"] = _path_rewrite(redirect.path, match)
    port = redirect.port or _DEFAULT_PORTS.get(redirect.scheme, listener_port)
    usual = port == _DEFAULT_PORTS.get(redirect.scheme or scheme) and listener_port == _DEFAULT_PORTS[scheme]
    return action if usual else action | {"port_redirect": port}


def _path_rewrite(change: PathChange, match: Match) -> Json:
    """Whole segments: Envoy's `prefix_rewrite` leaves double slashes, and nothing where "/" must stay."""
    value = change.value.replace("\\", "\\\\")
    if change.kind == "ReplaceFullPath":
        return _regex_rewrite("^.*$", value)
    prefix, value = re.escape(match.path.value.rstrip("/")), value.rstrip("/")
    if not prefix or not value:
        return _regex_rewrite(f"^{prefix}/?(.*)$", rf"{value}/\1")
    return _regex_rewrite(f"^{prefix}(/.*)?$", rf"{value}\1")


def _regex_rewrite(pattern: str, substitution: str) -> Json:
    return {"pattern": {"regex": pattern}, "substitution": substitution}


# ── headers, and filters of Envoy's that a route configures ────────────────────────────────────────────────────────


def _header_changes(filters: Iterable[Filter]) -> Json:
    fields: Json = {}
    for each in filters:
        if each.headers and each.type == "RequestHeaderModifier":
            fields |= _headers("request", each.headers)
        elif each.headers and each.type == "ResponseHeaderModifier":
            fields |= _headers("response", each.headers)
    return fields


def _headers(of: str, change: HeaderChange) -> Json:
    options = [_header(header.name, header.value, "OVERWRITE_IF_EXISTS_OR_ADD") for header in change.set if not _is_host(header.name)]
    options += [_header(header.name, header.value, "APPEND_IF_EXISTS_OR_ADD") for header in change.add if not _is_host(header.name)]
    added: Json = {f"{of}_headers_to_add": options} if options else {}
    return added | ({f"{of}_headers_to_remove": list(change.remove)} if change.remove else {})


def _header(name: str, value: str, action: str) -> Json:
    return {"header": {"key": name, "value": literal(value)}, "append_action": action, "keep_empty_value": True}


def literal(value: str) -> str:
    """A header's value as Envoy reads it: "%" begins a substitution there, and only a few are allowed."""
    done, out = 0, ""
    for found in _SUBSTITUTIONS.finditer(value):
        out += value[done : found.start()].replace("%", "%%") + found.group()
        done = found.end()
    return out + value[done:].replace("%", "%%")


def _is_host(name: str) -> bool:
    return name.lower() in ("host", ":authority")


def _host_of(filters: Iterable[Filter]) -> str:
    """Envoy refuses to set Host as a header: it has a field of its own."""
    changes = [each.headers for each in filters if each.headers and each.type == "RequestHeaderModifier"]
    return next((header.value for change in changes for header in (*change.set, *change.add) if _is_host(header.name)), "")


def _extensions(rule: ProxyRule) -> Json:
    configs: Json = {}
    for each in rule.filters:
        if each.cors:
            configs[CORS] = any_of("extensions.filters.http.cors.v3.CorsPolicy", _cors(each.cors))
    if rule.persistence:
        session = {"stateful_session": {"session_state": _session(rule.persistence)}}
        configs[SESSIONS] = any_of("extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute", session)
    return {"typed_per_filter_config": configs} if configs else {}


def _cors(cors: Cors) -> Json:
    policy: Json = {
        "allow_origin_string_match": [_origin(origin) for origin in cors.origins],
        "max_age": str(cors.max_age_s),
        "forward_not_matching_preflights": False,
    }
    for field, words in (("allow_methods", cors.methods), ("allow_headers", cors.headers), ("expose_headers", cors.exposed)):
        if words:
            policy[field] = ", ".join(words)
    return policy | ({"allow_credentials": True} if cors.credentials else {})


def _origin(origin: str) -> Json:
    if origin == "*" or "*" not in origin:
        return {"exact": origin}
    return {"safe_regex": {"regex": ".*".join(re.escape(part) for part in origin.split("*"))}}


def _session(persistence: Persistence) -> Json:
    if persistence.kind == "Header":
        return extension(
            "envoy.http.stateful_session.header",
            "extensions.http.stateful_session.header.v3.HeaderBasedSessionState",
            {"name": persistence.name},
        )
    cookie: Json = {"name": persistence.name, "path": "/"}
    if persistence.lifetime == "Permanent" and persistence.absolute_ms:
        cookie["ttl"] = duration(persistence.absolute_ms)
    return extension(
        "envoy.http.stateful_session.cookie",
        "extensions.http.stateful_session.cookie.v3.CookieBasedSessionState",
        {"cookie": cookie},
    )
