"""An address for each want of a claim, or why there is none."""

from collections.abc import Container, Iterable, Sequence
from ipaddress import ip_address
from typing import Final, NamedTuple

from services.ipam.claims import Claim
from services.ipam.holdings import Holdings
from services.ipam.pools import first_addresses, first_free, offers, ranges
from services.ipam.wants import Want, clash, may_share
from weir.events import PoolObserved, VipAllocated, VipReleased
from weir.lbnodes import how_to_end
from weir.model import Family, family_of, shown
from weir.words import few

MOST_HOLDERS: Final = 10


class Place(NamedTuple):
    """An address that can be taken."""

    vip: str
    pool: str


class Refusal(NamedTuple):
    """Why a claim gets no address now."""

    reason: str
    message: str
    holders: tuple[str, ...] = ()


def places_for(holdings: Holdings, claim: Claim, wants: Iterable[Want]) -> tuple[dict[Want, Place], dict[Family, list[Refusal]]]:
    """Places that can all be taken together, and the refusals of each family; changes nothing."""
    places: dict[Want, Place] = {}
    refusals: dict[Family, list[Refusal]] = {}
    if not holdings.addresses_known:
        no_node = Refusal("NoNode", f"no LB node has reported its addresses yet, which must not be given to a {claim.noun}")
        return {}, {want.family: [no_node] for want in wants}
    for want in wants:
        if want.address:
            found = _asked_for(holdings, claim, want.address)
        else:
            found = _draw(holdings, claim, want, {place.vip for place in places.values()})
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


def pool_for(holdings: Holdings, claim: Claim, vip: str) -> PoolObserved | Refusal:
    """The pool that offers the address; or why the claim cannot be given it, whoever holds it."""
    address = ip_address(vip)
    pool = next((pool for pool in holdings.pools.values() if offers(pool, address)), None)
    if not pool:
        offered = few([text for pool in holdings.pools.values() for text in pool.addresses])
        return Refusal("AddressOutsidePools", f"{vip} is in no pool; pools offer {offered or 'none'}")
    if not holdings.serves(pool, claim):
        return Refusal("NotSelected", f"{vip} is of pool {pool.root.path}, whose selectors leave this {claim.noun} out")
    if (machine := holdings.in_use_by(vip)) and not (pool.share_with_nodes and holdings.is_lbnodes_own(vip)):
        words = f"; pool {pool.root.path} can share it by ports: shareWithNodes" if holdings.is_lbnodes_own(vip) else ""
        return Refusal("AddressInUse", f"{vip} is {machine}{words}")
    return pool


def recorded_place(holdings: Holdings, claim: Claim, family: Family, missing: Iterable[Want]) -> Place | None:
    """A place at an address that the owner had before the log was lost, one of `family` first.

    missing: wants of the claim that nothing fits; addresses that these request, or that are drawn for them again, are left to them.
    """
    if not holdings.addresses_known:
        return None
    asked = {*claim.requested, *claim.more_requested}
    spare = [vip for vip in holdings.recorded(claim.owner) if vip not in asked]
    for want in missing:
        drawn = [vip for vip in spare if not want.address and family_of(vip) in (want.families or (want.family,))]
        spare = [vip for vip in spare if vip not in drawn[:1]]
    serving = [pool for pool in holdings.pools.values() if holdings.serves(pool, claim)]
    spare.sort(key=lambda vip: family_of(vip) != family)
    return next((place for vip in spare if (place := _again(holdings, claim, vip, serving))), None)


def _asked_for(holdings: Holdings, claim: Claim, vip: str) -> Place | Refusal:
    pool = pool_for(holdings, claim, vip)
    if isinstance(pool, Refusal):
        kept = [held.vip for held in holdings.held(claim.owner)]
        return pool._replace(message=f"{pool.message}; the {claim.noun} keeps {few(kept)}") if kept else pool
    held = holdings.vip(vip)
    if not held and (owners := holdings.kept_for(vip, claim.owner)):
        return Refusal("AddressHeld", f"{vip} is recorded for {shown(owners[0])}", owners[:MOST_HOLDERS])
    return (held and _apart(holdings, claim, held)) or Place(vip, pool.root.path)


def _draw(holdings: Holdings, claim: Claim, want: Want, besides: Container[str]) -> Place | Refusal:
    found = [_draw_of(holdings, claim, want, family, besides) for family in want.families or (want.family,)]
    return next((place for place in found if isinstance(place, Place)), found[0])


def _draw_of(holdings: Holdings, claim: Claim, want: Want, family: Family, besides: Container[str]) -> Place | Refusal:
    """A VIP to share, of claims with the same key or of a pool that needs none; else the first free address."""
    pools = [pool for pool in drawn_from(holdings, want.pools) if any(ranges(pool, family))]
    serving = [pool for pool in pools if holdings.serves(pool, claim)]
    names = [pool.root.path for pool in serving]
    for vip in holdings.recorded(claim.owner):
        if vip not in besides and family_of(vip) == family and (place := _again(holdings, claim, vip, serving)):
            return place
    if place := _beside(holdings, claim, [vip for vip in holdings.shared(claim) if vip.pool in names], family, besides):
        return place
    for pool in serving:
        if pool.share == "ports" and (place := _beside(holdings, claim, holdings.given_from(pool.root.path), family, besides)):
            return place
        if vip := _first_free(holdings, claim, pool, family):
            return Place(vip, pool.root.path)
    if not pools:
        named = f" named {few(want.pools)}" if want.pools else ""
        return Refusal("NoPool", f"no pool{named} offers {family} addresses")
    if not serving:
        return Refusal("NotSelected", f"the selectors of {few([pool.root.path for pool in pools])} leave this {claim.noun} out")
    message = f"every {family} address of {few(sorted(names))} is held"
    if any(pool.share == "ports" for pool in serving):
        message += ", and none is free on the ports asked for"
    if own := [vip for vip in holdings.of_lbnodes if family_of(vip) == family and any(offers(pool, ip_address(vip)) for pool in serving)]:
        message += f"; {few(own)} of LB nodes or their gateways is given only on request"
    if holdings.silent:
        releasing = [vip for vip in holdings.releasing() if vip.pool in names and family_of(vip.vip) == family]
        message += _stuck(holdings, releasing)
    return Refusal("PoolExhausted", message, _holders(holdings, claim, serving, family))


def _again(holdings: Holdings, claim: Claim, vip: str, pools: Iterable[PoolObserved]) -> Place | None:
    """The place at an address that the owner had before the log was lost, if one of `pools` still offers it."""
    held = holdings.vip(vip)
    if holdings.in_use_by(vip) or (held and (claim.owner in held.holders or _apart(holdings, claim, held))):
        return None
    return next((Place(vip, pool.root.path) for pool in pools if offers(pool, ip_address(vip))), None)


def _first_free(holdings: Holdings, claim: Claim, pool: PoolObserved, family: Family) -> str:
    """The first address that is nobody's, no machine's either, and that is not recorded for another owner; "" where there is none."""
    kept: list[str] = []
    while vip := str(first_free(pool, family, holdings.counted) or ""):
        if not (holdings.kept_for(vip, claim.owner) or holdings.in_use_by(vip)):
            break
        kept.append(vip)
        holdings.count([vip], 1)
    holdings.count(kept, -1)
    return vip


def _beside(holdings: Holdings, claim: Claim, vips: Iterable[VipAllocated], family: Family, besides: Container[str]) -> Place | None:
    """The first of `vips` that the claim can share with its holders."""
    for vip in vips:
        offered = family_of(vip.vip) == family and not vip.orphaned and not vip.in_use_by
        if offered and vip.vip not in besides and claim.owner not in vip.holders and not _apart(holdings, claim, vip):
            return Place(vip.vip, vip.pool)
    return None


def _apart(holdings: Holdings, claim: Claim, held: VipAllocated | VipReleased) -> Refusal | None:
    """Why the claim cannot share this VIP with its holders."""
    others = [other for owner in held.holders if (other := holdings.claim(owner))]
    share = pool.share if (pool := holdings.pools.get(held.pool)) else "key"
    if isinstance(held, VipReleased) or not all(may_share(claim, other, share) for other in others):
        apart = claim.share_key and any(other.root.space != claim.root.space for other in others)
        words = "; a share key counts within a namespace, a pool with `share: ports` is shared by all" if apart else ""
        words += _stuck(holdings, [held] if isinstance(held, VipReleased) else [])
        return Refusal("AddressHeld", f"{held.vip} is held by {shown(held.holders[0])}{words}", held.holders[:MOST_HOLDERS])
    for other in others:
        if port := clash(claim, other):
            message = f"{held.vip} serves {port[0]}/{port[1]} for {shown(other.owner)}"
            return Refusal("PortHeld", message, (other.owner,))
    return None


def _stuck(holdings: Holdings, releasing: Sequence[VipReleased]) -> str:
    """Which silent node keeps released addresses from being reassigned, "" for none."""
    silent = holdings.silent
    if not (silent and releasing):
        return ""
    vips = few([vip.vip for vip in releasing])
    return f"; {vips} is released, and waits for {few(silent)}, of which nothing is heard; {how_to_end(silent[0])}"


def _holders(holdings: Holdings, claim: Claim, pools: Iterable[PoolObserved], family: Family) -> tuple[str, ...]:
    """Who holds the first addresses of the pools, or on them what this claim asks for: enough to know whom to ask."""
    first = [str(address) for pool in pools for address in first_addresses(pool, family, MOST_HOLDERS)]
    held = [vip for address in first[:MOST_HOLDERS] if (vip := holdings.vip(address))]
    return tuple(dict.fromkeys(_in_the_way(holdings, claim, vip) for vip in held))


def _in_the_way(holdings: Holdings, claim: Claim, vip: VipAllocated | VipReleased) -> str:
    clashing = (owner for owner in vip.holders if (other := holdings.claim(owner)) and clash(claim, other))
    return next(clashing, vip.holders[0])
