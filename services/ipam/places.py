"""An address for each want of a Service, or why there is none."""

from collections.abc import Container, Iterable, Sequence
from ipaddress import ip_address
from typing import Final, NamedTuple

from services.ipam.holdings import Holdings
from services.ipam.pools import first_addresses, first_free, offers, ranges
from services.ipam.wants import Want, clash, may_share
from weir.events import PoolObserved, ServiceObserved, VipAllocated, VipReleased
from weir.lbnodes import how_to_end
from weir.model import Family, family_of, shown
from weir.words import few

HOLDERS_TOLD: Final = 10


class Place(NamedTuple):
    """An address that can be taken."""

    vip: str
    pool: str


class Refusal(NamedTuple):
    """Why a Service gets no address now."""

    reason: str
    message: str
    holders: tuple[str, ...] = ()


_NO_NODE: Final = Refusal("NoNode", "no LB node has reported its addresses yet, which must not be given to a Service")


def places_for(
    holdings: Holdings, observed: ServiceObserved, wants: Iterable[Want]
) -> tuple[dict[Want, Place], dict[Family, list[Refusal]]]:
    """Places that can all be taken together, and the refusals of each family; changes nothing."""
    places: dict[Want, Place] = {}
    refusals: dict[Family, list[Refusal]] = {}
    if not holdings.addresses_known:
        return {}, {want.family: [_NO_NODE] for want in wants}
    for want in wants:
        if want.address:
            found = _asked_for(holdings, observed, want.address)
        else:
            found = _draw(holdings, observed, want, {place.vip for place in places.values()})
        if isinstance(found, Refusal):
            refusals.setdefault(want.family, []).append(found)
        else:
            places[want] = found
            holdings.count([found.vip], 1)  # not for the next want
    holdings.count([place.vip for place in places.values()], -1)
    return places, refusals


def drawn_from(holdings: Holdings, named: tuple[str, ...]) -> list[PoolObserved]:
    """Pools to draw from, the first first: named ones as named, else those that assign by themselves."""
    return [holdings.pools[name] for name in named if name in holdings.pools] if named else holdings.automatic


def pool_for(holdings: Holdings, observed: ServiceObserved, vip: str) -> PoolObserved | Refusal:
    """The pool that offers the address; or why the Service cannot be given it, whoever holds it."""
    address = ip_address(vip)
    pool = next((pool for pool in holdings.pools.values() if offers(pool, address)), None)
    if not pool:
        offered = few([text for pool in holdings.pools.values() for text in pool.addresses])
        return Refusal("AddressOutsidePools", f"{vip} is in no pool; pools offer {offered or 'none'}")
    if not holdings.serves(pool, observed):
        return Refusal("NotSelected", f"{vip} is of pool {pool.root.path}, whose selectors leave this Service out")
    if (machine := holdings.in_use_by(vip)) and not (pool.share_with_nodes and holdings.is_lbnodes_own(vip)):
        words = f"; pool {pool.root.path} can share it by ports: shareWithNodes" if holdings.is_lbnodes_own(vip) else ""
        return Refusal("AddressInUse", f"{vip} is {machine}{words}")
    return pool


def recorded_place(holdings: Holdings, observed: ServiceObserved, family: Family, missing: Iterable[Want]) -> Place | None:
    """A place at an address that the Service had before the log was lost, one of `family` first.

    missing: what the Service lacks; addresses that this asks for, or that are drawn for it again, are left to it.
    """
    if not holdings.addresses_known:
        return None
    asked = {*observed.requested, *observed.more_requested}
    spare = [vip for vip in holdings.recorded(observed.root.owner) if vip not in asked]
    for want in missing:
        drawn = [vip for vip in spare if not want.address and family_of(vip) in (want.families or (want.family,))]
        spare = [vip for vip in spare if vip not in drawn[:1]]
    serving = [pool for pool in holdings.pools.values() if holdings.serves(pool, observed)]
    spare.sort(key=lambda vip: family_of(vip) != family)
    return next((place for vip in spare if (place := _again(holdings, observed, vip, serving))), None)


def _asked_for(holdings: Holdings, observed: ServiceObserved, vip: str) -> Place | Refusal:
    pool = pool_for(holdings, observed, vip)
    if isinstance(pool, Refusal):
        kept = [held.vip for held in holdings.held(observed.root.owner)]
        return pool._replace(message=f"{pool.message}; the Service keeps {few(kept)}") if kept else pool
    held = holdings.vip(vip)
    if not held and (owners := holdings.kept_for(vip, observed.root.owner)):
        return Refusal("AddressHeld", f"{vip} was written down as that of {shown(owners[0])}", owners[:HOLDERS_TOLD])
    return (held and _apart(holdings, observed, held)) or Place(vip, pool.root.path)


def _draw(holdings: Holdings, observed: ServiceObserved, want: Want, besides: Container[str]) -> Place | Refusal:
    found = [_draw_of(holdings, observed, want, family, besides) for family in want.families or (want.family,)]
    return next((place for place in found if isinstance(place, Place)), found[0])


def _draw_of(holdings: Holdings, observed: ServiceObserved, want: Want, family: Family, besides: Container[str]) -> Place | Refusal:
    """A VIP to share, of the Services with the same key or of a pool that asks for none; else the first free address."""
    pools = [pool for pool in drawn_from(holdings, want.pools) if any(ranges(pool, family))]
    serving = [pool for pool in pools if holdings.serves(pool, observed)]
    names = [pool.root.path for pool in serving]
    for vip in holdings.recorded(observed.root.owner):
        if vip not in besides and family_of(vip) == family and (place := _again(holdings, observed, vip, serving)):
            return place
    if place := _beside(holdings, observed, [vip for vip in holdings.shared(observed) if vip.pool in names], family, besides):
        return place
    for pool in serving:
        if pool.share == "ports" and (place := _beside(holdings, observed, holdings.given_from(pool.root.path), family, besides)):
            return place
        if vip := _first_free(holdings, observed, pool, family):
            return Place(vip, pool.root.path)
    if not pools:
        named = f" named {few(want.pools)}" if want.pools else ""
        return Refusal("NoPool", f"no pool{named} offers {family} addresses")
    if not serving:
        return Refusal("NotSelected", f"the selectors of {few([pool.root.path for pool in pools])} leave this Service out")
    message = f"every {family} address of {few(sorted(names))} is held"
    if any(pool.share == "ports" for pool in serving):
        message += ", and none is free on the ports asked for"
    if own := [vip for vip in holdings.of_lbnodes if family_of(vip) == family and any(offers(pool, ip_address(vip)) for pool in serving)]:
        message += f"; {few(own)} of LB nodes or their gateways is given to nobody unasked"
    if holdings.silent:
        releasing = [vip for vip in holdings.releasing() if vip.pool in names and family_of(vip.vip) == family]
        message += _stuck(holdings, releasing)
    return Refusal("PoolExhausted", message, _holders(holdings, observed, serving, family))


def _again(holdings: Holdings, observed: ServiceObserved, vip: str, pools: Iterable[PoolObserved]) -> Place | None:
    """The place at an address that the Service had before the log was lost, if one of `pools` still offers it."""
    held = holdings.vip(vip)
    if holdings.in_use_by(vip) or (held and (observed.root.owner in held.holders or _apart(holdings, observed, held))):
        return None
    return next((Place(vip, pool.root.path) for pool in pools if offers(pool, ip_address(vip))), None)


def _first_free(holdings: Holdings, observed: ServiceObserved, pool: PoolObserved, family: Family) -> str:
    """The first address that nobody has, no machine either, and that was not written down as another's; "" where there is none."""
    kept: list[str] = []
    while vip := str(first_free(pool, family, holdings.counted) or ""):
        if not (holdings.kept_for(vip, observed.root.owner) or holdings.in_use_by(vip)):
            break
        kept.append(vip)
        holdings.count([vip], 1)
    holdings.count(kept, -1)
    return vip


def _beside(
    holdings: Holdings, observed: ServiceObserved, vips: Iterable[VipAllocated], family: Family, besides: Container[str]
) -> Place | None:
    """The first of `vips` that the Service can stand on beside its holders."""
    for vip in vips:
        offered = family_of(vip.vip) == family and not vip.orphaned and not vip.in_use_by
        if offered and vip.vip not in besides and observed.root.owner not in vip.holders and not _apart(holdings, observed, vip):
            return Place(vip.vip, vip.pool)
    return None


def _apart(holdings: Holdings, observed: ServiceObserved, held: VipAllocated | VipReleased) -> Refusal | None:
    """Why the Service cannot stand on this VIP beside its holders."""
    others = [other for service in held.holders if (other := holdings.exposed(service))]
    share = pool.share if (pool := holdings.pools.get(held.pool)) else "key"
    if isinstance(held, VipReleased) or not all(may_share(observed, other, share) for other in others):
        apart = observed.share_key and any(other.root.space != observed.root.space for other in others)
        words = "; a share key counts within a namespace, a pool with `share: ports` is shared by all" if apart else ""
        words += _stuck(holdings, [held] if isinstance(held, VipReleased) else [])
        return Refusal("AddressHeld", f"{held.vip} is held by {shown(held.holders[0])}{words}", held.holders[:HOLDERS_TOLD])
    for other in others:
        if port := clash(observed, other):
            message = f"{held.vip} serves {port.port}/{port.protocol} for {other.root.path}"
            return Refusal("PortHeld", message, (other.root.owner,))
    return None


def _stuck(holdings: Holdings, releasing: Sequence[VipReleased]) -> str:
    """Which silent node keeps released addresses from being reassigned, "" for none."""
    silent = holdings.silent
    if not (silent and releasing):
        return ""
    vips = few([vip.vip for vip in releasing])
    return f"; {vips} is released, and waits for {few(silent)}, of which nothing is heard; {how_to_end(silent[0])}"


def _holders(holdings: Holdings, observed: ServiceObserved, pools: Iterable[PoolObserved], family: Family) -> tuple[str, ...]:
    """Who holds the first addresses of the pools, and there what this Service asks for: enough to know whom to ask."""
    first = [str(address) for pool in pools for address in first_addresses(pool, family, HOLDERS_TOLD)]
    held = [vip for address in first[:HOLDERS_TOLD] if (vip := holdings.vip(address))]
    return tuple(dict.fromkeys(_in_the_way(holdings, observed, vip) for vip in held))


def _in_the_way(holdings: Holdings, observed: ServiceObserved, vip: VipAllocated | VipReleased) -> str:
    clashing = (service for service in vip.holders if (other := holdings.exposed(service)) and clash(observed, other))
    return next(clashing, vip.holders[0])
