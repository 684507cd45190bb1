"""Virtual hosts: the rules of all routes on a port by hostname, in the API's order of precedence."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from msgspec.structs import replace

from services.planner.gateway.attach import Attached
from services.planner.gateway.hostnames import ANY, closest, covers, specificity
from services.planner.gateway.listeners import Entry
from services.planner.gateway.upstreams import Share, planned_share
from weir.events import GrpcRouteObserved, L7RouteObserved, VirtualHostPlanned
from weir.model import BackendRef, Filter, Match, ProxyRule, Root, RouteRule

PART: Final = 200  # rules in one event
PLAIN: Final = "http"  # the chain of a port without TLS
_PATHS: Final = {"Exact": 0, "RegularExpression": 1, "PathPrefix": 2}

Resolve = Callable[[Root, BackendRef, str], Share]
Candidate = tuple[tuple[object, ...], ProxyRule]


def virtual_hosts(gateway: Root, attached: Iterable[Attached], entries: Sequence[Entry], resolve: Resolve) -> list[VirtualHostPlanned]:
    """Every hostname of every HTTP port of a Gateway.

    A name belongs to the listener with the most specific hostname, whoever else covers it (listener isolation).  Within a listener
    a hostname's own rules come first, then those of less specific hostnames.
    """
    alike: dict[tuple[int, str], list[Entry]] = {}
    for entry in entries:
        if entry.serves and entry.listener.protocol in ("HTTP", "HTTPS"):
            alike.setdefault((entry.listener.port, entry.listener.protocol), []).append(entry)
    rules = _rules(attached, resolve)
    planned: list[VirtualHostPlanned] = []
    for of_port in alike.values():
        names = {entry.listener.hostname.lower() for entry in of_port}
        for entry in of_port:
            planned += _of_listener(gateway, entry, names, rules.get(id(entry), {}))
    return planned


def chain_of(entry: Entry) -> str:
    """The chain that serves an HTTP listener: all plain ones of a port share one."""
    return PLAIN if entry.listener.protocol == "HTTP" else entry.name


def _rules(attached: Iterable[Attached], resolve: Resolve) -> dict[int, dict[str, list[Candidate]]]:
    """Listener -> hostname -> its rules with their place in the order."""
    found: defaultdict[int, defaultdict[str, list[Candidate]]] = defaultdict(lambda: defaultdict(list))
    known: dict[int, list[Candidate]] = {}
    for each in attached:
        if not isinstance(each.route, L7RouteObserved):
            continue
        candidates = known.get(id(each.route)) or known.setdefault(id(each.route), _candidates(each.route, resolve))
        for hostname in each.hostnames:
            found[id(each.entry)][hostname] += candidates
    return {entry: dict(of_entry) for entry, of_entry in found.items()}


def _candidates(route: L7RouteObserved, resolve: Resolve) -> list[Candidate]:
    root, grpc = route.root, isinstance(route, GrpcRouteObserved)
    found: list[Candidate] = []
    for number, rule in enumerate(route.rules):
        planned = plan_rule(root, number, rule, resolve, grpc=grpc)
        for place, match in enumerate(rule.matches or (Match(),)):
            found.append((_precedence(match, root, number, place), replace(planned, match=match)))
    return found


def plan_rule(root: Root, number: int, rule: RouteRule, resolve: Resolve, *, grpc: bool) -> ProxyRule:
    """A rule with its backends resolved; its match is the caller's."""
    shares = [resolve(root, ref, "h2" if grpc else "") for ref in rule.backends if ref.weight]
    mirrors = [resolve(root, each.mirror.backend, "h2" if grpc else "") for each in rule.filters if each.mirror]
    usable = any(share.upstream for share in shares) and not unknown_filters(rule)
    return ProxyRule(
        route=root.owner,
        rule=rule.name or str(number),
        match=Match(),
        filters=rule.filters,
        shares=tuple(map(planned_share, shares)) if usable else (),
        mirrors=tuple(planned_share(each, mirror=True) for each in mirrors),
        request_ms=rule.request_ms,
        backend_request_ms=rule.backend_request_ms,
        retry=rule.retry,
        persistence=rule.persistence,
    )


KNOWN_FILTERS: Final = (*("RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect", "URLRewrite", "RequestMirror", "CORS"),)


def unknown_filters(rule: RouteRule) -> list[Filter]:
    """Filters that nobody applies: requests of such a rule are answered 500, as the API asks."""
    return [each for each in rule.filters if each.type not in KNOWN_FILTERS]


def _precedence(match: Match, root: Root, rule: int, place: int) -> tuple[object, ...]:
    """Exact paths, then longer prefixes, a method, more headers, more query parameters, the older route, its name, the earlier rule."""
    return (
        _PATHS.get(match.path.kind, 1),
        -len(match.path.value),
        not match.method,
        -len(match.headers),
        -len(match.queries),
        root.created,
        root.space,
        root.name,
        rule,
        place,
    )


def _of_listener(gateway: Root, entry: Entry, names: set[str], rules: dict[str, list[Candidate]]) -> list[VirtualHostPlanned]:
    """names: hostnames of the listeners of its port and protocol, its own among them."""
    listener = entry.listener
    of_listener = listener.hostname.lower()
    mine = [name for name in rules if closest(names, name) == of_listener]
    planned: list[VirtualHostPlanned] = []
    wild = sorted(
        (name for name in rules if name == ANY or name.startswith("*.")), key=specificity, reverse=True
    )  # only these cover others
    for name in sorted({*mine, of_listener}, key=lambda name: (specificity(name), name)):
        wider = [other for other in wild if other != name and covers(other, name)]
        ordered = [rule for each in (name, *wider) for _, rule in sorted(rules.get(each, ()), key=lambda candidate: candidate[0])]
        planned += _parts(gateway, listener.port, chain_of(entry), name, ordered)
    if listener.protocol == "HTTPS":
        planned += _misdirected(gateway, entry, names - {of_listener}, {event.hostname for event in planned})
    return planned


def _misdirected(gateway: Root, entry: Entry, others: set[str], served: set[str]) -> list[VirtualHostPlanned]:
    """421 for names that another listener of the port has (RFC 9110 15.5.20): a client reused a connection of this one.

    An IngressClass may have thousands of listeners, so there it is every name that this one does not have.
    """
    return [
        VirtualHostPlanned(
            port=entry.listener.port, chain=chain_of(entry), hostname=name or "*", owner=gateway.owner, status=421, root=gateway
        )
        for name in ((ANY,) if gateway.kind == "IngressClass" else sorted(others))
        if (name or "*") not in served
    ]


def _parts(gateway: Root, port: int, chain: str, name: str, rules: list[ProxyRule]) -> list[VirtualHostPlanned]:
    pieces = [rules[start : start + PART] for start in range(0, len(rules), PART)] or [[]]
    return [
        VirtualHostPlanned(
            port=port,
            chain=chain,
            hostname="*" if name == ANY else name,
            part=number,
            parts=len(pieces),
            owner=gateway.owner,
            rules=tuple(piece),
            root=gateway,
        )
        for number, piece in enumerate(pieces)
    ]
