"""The plan for routers as FRR's configuration: sessions, what is offered in each, and the VIPs that this node tells of.

Written as the daemons print it, so that it can be compared with what they run.  Every word comes from a typed value: a number, an
address, or a name of letters, digits, `.`, `-` and `_`.
"""

import re
from bisect import bisect_right
from collections.abc import Container, Iterable, Iterator, Mapping
from hashlib import blake2b
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_address, ip_network, summarize_address_range
from typing import Final

from services.dataplane.bgp.config import BFD_DEFAULTS, Statement
from weir.decider import World
from weir.events import BgpRoutePlanned, BgpSessionPlanned, FrontendPlanned, ListenerPlanned, VipPlanned, key_of
from weir.model import PROXY, BgpOffer, BgpSession, Rejection, family_of

RANKS: Final = 4  # nodes that are told apart by preference; all behind them are the last
_FIRST: Final = 1  # the metric of rank 0 within FRR: after `match metric 0` FRR 8.4 aborts when it is to show what it runs
_MED_STEP: Final = 100
_PREFERENCE_STEP: Final = 10
_FAMILIES: Final = {"IPv4": ("ipv4", "ip"), "IPv6": ("ipv6", "ipv6")}
_WELL_KNOWN: Final = {  # IANA, Border Gateway Protocol (BGP) Well-known Communities
    "graceful-shutdown": 0xFFFF0000,
    "blackhole": 0xFFFF029A,
    "no-export": 0xFFFFFF01,
    "no-advertise": 0xFFFFFF02,
    "local-AS": 0xFFFFFF03,
    "no-peer": 0xFFFFFF04,
}
_RANK: Final = "weir_rank_"  # with signs that no name of a session has
_NOBODY: Final = "weir_none"  # the route map of what comes in: nothing is accepted
_ZEBRA: Final[list[Statement]] = [("ip nht resolve-via-default",), ("ipv6 nht resolve-via-default",)]  # a router may be behind that
_BEYOND: Final = 1 << 128  # any address
_NAME_MOST: Final = 40  # characters: FRR cuts the names of BFD profiles at 63

Network = IPv4Network | IPv6Network


Passwords = Mapping[str, str]  # by Secret, as sessions name it
Wanted = dict[str, list[Statement]]  # what each daemon should run, in the order in which it can be said


def planned_on(node: str, world: World) -> list[BgpSessionPlanned]:
    """The sessions of a node, by peer."""
    return sorted((each for each in world.of(BgpSessionPlanned) if node in each.nodes), key=lambda each: each.peer)


def passwords_in(ours: Iterable[BgpSessionPlanned], bgpd: str) -> dict[str, str]:
    """By Secret, what the file of bgpd has for these sessions."""
    said = dict(re.findall(r"^neighbor (\S+) password (\S+)$", bgpd, re.MULTILINE))
    return {each.session.password: said[at(each.session)] for each in ours if each.session.password and at(each.session) in said}


def doubled(planned: BgpSessionPlanned, ours: Iterable[BgpSessionPlanned]) -> str:
    """The peer that has the same router, and counts before it, as FRR has one session with each; "" for none."""
    first = next(each.peer for each in ours if at(each.session) == at(planned.session))
    return first if first != planned.peer else ""


def unserved(world: World, refused: Iterable[Rejection]) -> frozenset[str]:
    """The VIPs of which this node serves nothing, by what its kernel and its proxy refuse: routers are told of them by others."""
    entities = {each.entity for each in refused}
    if not entities:
        return frozenset()
    parts = [(frontend.vip, key_of(frontend)) for frontend in world.of(FrontendPlanned) if frontend.mode != PROXY]
    parts += [(vip, key_of(listener)) for listener in world.of(ListenerPlanned) for vip in listener.vips]
    whole = {planned.vip for planned in world.of(VipPlanned) if key_of(planned) in entities}
    lost, served = ({vip for vip, entity in parts if (entity in entities) == wanted} for wanted in (True, False))
    return frozenset(whole | (lost - served))


def render(node: str, world: World, passwords: Passwords, without: Container[str] = ()) -> Wanted:
    """What FRR should run on this node.  A session whose password is not there is none: a router would not answer it.

    without: VIPs that routers are not told of.
    """
    ours = planned_on(node, world)
    planned = [each for each in ours if (not each.session.password or each.session.password in passwords) and not doubled(each, ours)]
    return {
        "zebra": _ZEBRA,
        "bgpd": _bgpd(node, planned, told(node, world, planned, without), passwords) if planned else [],
        "bfdd": [line for each in planned for line in _profile(each)],
    }


def _bgpd(node: str, planned: list[BgpSessionPlanned], networks: Mapping[Network, int], passwords: Passwords) -> list[Statement]:
    router = f"router bgp {planned[0].session.local_asn}"
    bgpd: list[Statement] = [statement for each in planned for statement in _offered(node, each)]
    for rank in range(RANKS):
        entry = f"route-map {_RANK}{rank} permit 10"
        bgpd += [(entry,), (entry, f"set metric {_FIRST + rank}")]
    bgpd += [(f"route-map {_NOBODY} deny 10",), (router,), (router, f"bgp router-id {_router_id(node)}")]
    always = ("no bgp default ipv4-unicast", "bgp graceful-restart-disable", "no bgp network import-check")
    bgpd += [(router, line) for line in always]
    bgpd += [(router, line) for each in planned for line in _neighbor(each, planned[0].session.local_asn, passwords)]
    for family, (word, _) in _FAMILIES.items():
        inside = (router, f"address-family {word} unicast")
        lines = [line for each in planned if family in _families(each.session) for line in _activated(each)]
        lines += [f"network {net} route-map {_RANK}{rank}" for net, rank in networks.items() if _family(net) == family]
        bgpd += [(*inside, line) for line in lines]
    return bgpd


def told(node: str, world: World, planned: Iterable[BgpSessionPlanned], without: Container[str] = ()) -> dict[Network, int]:
    """Prefix -> the rank of this node for it: 0 where it is preferred to all others.  Of VIPs with one prefix the best counts."""
    offers = {offer: _reach(offer) for each in planned for offer in each.offers if node in offer.nodes}
    found: dict[Network, int] = {}
    for route in world.of(BgpRoutePlanned):
        if node in route.nodes and route.vip not in without:
            address = ip_address(route.vip)
            place = address.version, int(address)
            for offer, reach in offers.items():
                nearest = bisect_right(reach, (*place, _BEYOND)) - 1
                if nearest >= 0 and reach[nearest][0] == address.version and reach[nearest][2] >= int(address):
                    net = ip_network(f"{address}/{_length(offer, address.version)}", strict=False)
                    rank = min([other for other in route.nodes if other in offer.nodes].index(node), RANKS - 1)
                    found[net] = min(rank, found.get(net, rank))
    return found


def _reach(offer: BgpOffer) -> list[tuple[int, int, int]]:
    """The ranges of an offer that do not meet: IP version, first and last address as numbers, in order."""
    return sorted((net.version, int(net[0]), int(net[-1])) for family in (4, 6) for net in _merged(offer, family))


def _merged(offer: BgpOffer, version: int) -> Iterable[Network]:
    return collapse_addresses([net for net in _networks(offer) if net.version == version])  # type: ignore[type-var]


def _offered(node: str, planned: BgpSessionPlanned) -> Iterator[Statement]:
    """The prefix lists and the route map of what goes out in a session."""
    name, number = _name(planned.peer), 0
    offers = [offer for offer in planned.offers if node in offer.nodes]
    for place, offer in enumerate(offers):
        for family in _families(planned.session):
            word = _FAMILIES[family][1]
            entries = dict.fromkeys(_entry(net, _length(offer, net.version)) for net in _networks(offer) if _family(net) == family)
            yield from ((f"{word} prefix-list {name}:{place} {entry}",) for entry in entries)
            for rank in range(RANKS if offer.active_backup else 1) if entries else ():
                number += 10
                entry = f"route-map {name} permit {number}"
                yield (entry,)
                yield entry, f"match {word} address prefix-list {name}:{place}"
                if offer.active_backup:
                    yield entry, f"match metric {_FIRST + rank}"
                yield from ((entry, line) for line in _attributes(offer, planned.session, rank))
    if not number:
        yield (f"route-map {name} deny 10",)


def _attributes(offer: BgpOffer, session: BgpSession, rank: int) -> Iterator[str]:
    yield f"set metric {min(offer.med + rank * _MED_STEP, 2**32 - 1)}"
    if session.local_asn == session.peer_asn:  # it goes to no other AS (RFC 4271, 5.1.5)
        yield f"set local-preference {max(offer.local_pref - rank * _PREFERENCE_STEP, 0)}"
    small = sorted((each for each in offer.communities if each.count(":") < 2), key=_number)
    large = sorted((each for each in offer.communities if each.count(":") == 2), key=_numbers)
    if small:
        yield f"set community {' '.join(small)} additive"
    if large:
        yield f"set large-community {' '.join(large)} additive"
    if offer.prepend:
        yield f"set as-path prepend {' '.join([str(session.local_asn)] * offer.prepend)}"


def _neighbor(planned: BgpSessionPlanned, router_asn: int, passwords: Passwords) -> Iterator[str]:
    session = planned.session
    about = f"neighbor {at(session)}"
    yield f"{about} {'interface ' if session.interface else ''}remote-as {session.peer_asn}"
    if session.local_asn != router_asn:
        yield f"{about} local-as {session.local_asn} no-prepend replace-as"
    if session.bfd:
        yield f"{about} bfd"
        yield f"{about} bfd profile {_name(planned.peer)}"
    if session.password:
        yield f"{about} password {passwords[session.password]}"
    if session.port != 179:
        yield f"{about} port {session.port}"
    if session.hops > 1 and session.local_asn != session.peer_asn:
        yield f"{about} ebgp-multihop {session.hops}"
    if session.source_address:
        yield f"{about} update-source {session.source_address}"
    yield f"{about} timers {session.keepalive_s} {session.hold_s}"
    yield f"{about} timers connect {session.connect_s}"


def _activated(planned: BgpSessionPlanned) -> Iterator[str]:
    about = f"neighbor {at(planned.session)}"
    yield from (f"{about} activate", f"{about} route-map {_NOBODY} in", f"{about} route-map {_name(planned.peer)} out")


def _profile(planned: BgpSessionPlanned) -> Iterator[Statement]:
    """How BFD runs in a session; FRR prints nothing that is its default."""
    if bfd := planned.session.bfd:
        profile: Statement = ("bfd", f"profile {_name(planned.peer)}")
        yield profile
        values = {"detect-multiplier": bfd.multiplier, "transmit-interval": bfd.interval_ms, "receive-interval": bfd.interval_ms}
        yield from ((*profile, f"{word} {value}") for word, value in values.items() if value != BFD_DEFAULTS[word])


def at(session: BgpSession) -> str:
    """What FRR calls the router of a session."""
    return session.address or session.interface


def names_of(planned: BgpSessionPlanned) -> set[str]:
    """What statements about a session name."""
    return {at(planned.session), _name(planned.peer)}


def concerns(statement: Statement) -> set[str]:
    """The names, of routers and of ours, of those that a statement is about."""
    words = " ".join(statement).split(" ")
    own = {word.partition(":")[0] for word in words if word.startswith("weir-")}
    return own | {words[place + 1] for place, word in enumerate(words) if word == "neighbor"}


def _families(session: BgpSession) -> tuple[str, ...]:
    """An unnumbered session carries both (RFC 8950)."""
    return (family_of(session.address),) if session.address else tuple(_FAMILIES)


def _networks(offer: BgpOffer) -> list[Network]:
    return [net for text in offer.ranges or ("0.0.0.0/0", "::/0") for net in _split(text)]


def _split(text: str) -> Iterable[Network]:
    first, dash, last = text.partition("-")
    return summarize_address_range(ip_address(first), ip_address(last)) if dash else (ip_network(first, strict=False),)


def _entry(net: Network, length: int) -> str:
    """The prefixes of this length in `net`; where it is smaller, the one that it is in."""
    if net.prefixlen >= length:
        return f"permit {net.supernet(new_prefix=length)}"
    return f"permit {net} ge {length}" + ("" if length == net.max_prefixlen else f" le {length}")


def _length(offer: BgpOffer, version: int) -> int:
    return offer.length if version == 4 else offer.length_v6


def _family(net: Network) -> str:
    return f"IPv{net.version}"


def _name(peer: str) -> str:
    word = re.sub("[^A-Za-z0-9.-]", "_", peer)
    return f"weir-{word}" if len(word) <= _NAME_MOST else f"weir-{word[:_NAME_MOST]}_{blake2b(peer.encode(), digest_size=4).hexdigest()}"


def _number(community: str) -> int:
    high, _, low = community.partition(":")
    return _WELL_KNOWN[community] if community in _WELL_KNOWN else int(high) << 16 | int(low)


def _numbers(community: str) -> tuple[int, ...]:
    return tuple(map(int, community.split(":")))


def _router_id(node: str) -> str:
    """The same for a node for ever, whatever addresses it gets: FRR would take the highest of these, and end all sessions for it."""
    first, *rest = blake2b(node.encode(), digest_size=4).digest()
    return ".".join(map(str, (1 + first % 126, *rest)))  # one of a host (RFC 4271, 6.2)
