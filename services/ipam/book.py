"""One decision under way: whose claims are settled, who is still to be served, who is denied.

Everything is looked up by index, so that a decision costs what it touches.  A waiting claim is judged again only when something it
waits for changed: an address of its family became free, a VIP it requests changed holders, a holder named in its denial released
an address, or the claims that it may share with changed.
"""

from collections.abc import Iterable, Mapping
from heapq import heappop, heappush
from ipaddress import ip_address
from typing import NamedTuple

from services.ipam.claims import CLAIMANTS, Claim, share_word, share_words
from services.ipam.holdings import Holdings, words_of
from services.ipam.places import Refusal, drawn_from, places_for, pool_for, recorded_place
from services.ipam.pools import first_free, offers
from services.ipam.wants import Want, clash, families_of, match, may_share, wants_of
from weir.decider import World
from weir.events import AnyEvent, ClaimSettled, VipAllocated, VipDenied, VipFreed, VipReleased
from weir.model import FAMILIES, Family, family_of
from weir.ranges import ranges_of

_Turn = tuple[bool, int, str]  # preferences last, then who has waited longest, then by name


class _Asking(NamedTuple):
    """Wants of a claim that are not met; none, where an owner only has denials to be settled."""

    turn: _Turn
    owner: str
    claim: Claim | None
    wants: tuple[Want, ...]
    denials: Mapping[Family, VipDenied]  # those in force
    whole: bool  # all or nothing: dual-stack is required, and it holds nothing


class Book:
    """See the module."""

    def __init__(self, world: World, now: int) -> None:
        self._world, self._now = world, now
        self._holdings = Holdings(world)
        self._queue: list[_Turn] = []
        self._asking: dict[_Turn, _Asking] = {}  # in the queue
        self._asked: dict[_Turn, _Asking] = {}  # had their turn, and still want something
        self._settled: set[str] = set()

    # ── what is to be settled ──────────────────────────────────────────────────────────────────────────────────────

    def settle(self, owner: str) -> None:
        """Release what `owner` holds and does not want; `conclude` gives what it wants and lacks."""
        if owner in self._settled:
            return
        self._settled.add(owner)
        claim, held = self._holdings.claim(owner), self._holdings.held(owner)
        missing, unwanted = self._match(claim, held) if claim else ([], held)
        if claim:
            unwanted, bare = self._without_kept(claim, missing, unwanted)
            again = [self._take_recorded(claim, want, missing) for want in bare]
        else:
            again = []
        for vip in unwanted:
            self._holdings.leave(vip.vip, owner)
        for vip in held:
            self._holdings.restate(vip.vip)
        self._ask(owner, claim, missing, whole=len(unwanted) == len(held) and not any(again))

    def settle_waiting(self, *words: str) -> None:
        """Settle the owners that wait for an address of a family, or in a namespace."""
        for word in words:
            for denial in self._world.find("waiting", word, VipDenied):
                self.settle(denial.owner)

    def settle_preferring(self, word: str = "") -> None:
        """Settle the owners whose second family is optional; of one share word, or all."""
        for owner in self._listed("prefers", word):
            self.settle(owner)

    def settle_requesting(self, address: str) -> None:
        """Settle the owners that request an address by name."""
        for owner in self._listed("asked", address):
            self.settle(owner)

    def reopen(self, owner: str, *objects: AnyEvent | None) -> None:
        """Let others stand beside an owner whose object changed, and beside those under the keys that it has or had."""
        held = {word for vip in self._holdings.held(owner) for word in words_of(vip)}
        self._holdings.reopened |= held.union(*map(share_words, objects))

    def restate(self, vips: Iterable[VipAllocated]) -> None:
        """Update VIPs after a change of their pool."""
        for vip in vips:
            self._holdings.restate(vip.vip)

    def free(self, released: Iterable[VipReleased]) -> None:
        """Reassign what every node has released: to the claims that wait, the oldest first, as far as it goes."""
        freed = list(released)
        for vip in freed:
            self._holdings.put(VipFreed(vip=vip.vip, pool=vip.pool, holders=vip.holders, root=vip.root))
        self._reassign([vip.vip for vip in reversed(freed)])
        for family in FAMILIES:
            self._prefer(family, [vip.vip for vip in freed if family_of(vip.vip) == family and not self._holdings.vip(vip.vip)])

    def conclude(self) -> list[AnyEvent]:
        """Serve all claims, then deny those that got nothing, once it is known who holds what.  Return all events."""
        self._serve()
        while self._affected():
            self._serve()
        for turn, asking in sorted(self._asked.items()):
            if not turn[0]:
                self._deny(asking)
        return self._holdings.events

    def _reassign(self, free: list[str]) -> None:
        """free: addresses, the last to be given first."""
        waiting = [denial for family in FAMILIES for denial in self._world.find("waiting", family, VipDenied)] if free else []
        for denial in sorted(waiting, key=lambda denial: (denial.since, denial.owner)):
            while free and self._holdings.vip(free[-1]):
                free.pop()
            if not free:
                return
            self.settle(denial.owner)
            self._serve()

    def _prefer(self, family: Family, free: list[str]) -> None:
        """Settle the owners whose second family is optional, where a pool had no room beside `free`; else they have what they want."""
        if not free or not self._world.count("prefers", ""):
            return
        pools = [pool for pool in self._holdings.pools.values() if any(offers(pool, ip_address(vip)) for vip in free)]
        self._holdings.count(free, 1)
        full = [pool for pool in pools if not first_free(pool, family, self._holdings.counted)]
        self._holdings.count(free, -1)
        if full:
            self.settle_preferring()

    def _listed(self, index: str, word: str) -> list[str]:
        """The owners of the objects that an index lists, by key."""
        return [event.root.owner for event in self._world.listed(index, word).values() if isinstance(event, CLAIMANTS)]

    # ── serving ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _ask(self, owner: str, claim: Claim | None, missing: list[Want], *, whole: bool) -> None:
        denials = self._holdings.denials(owner)
        whole = whole and claim is not None and claim.family_policy == "RequireDualStack"
        needed = tuple(want for want in missing if not want.optional)
        preferred = tuple(want for want in missing if want.optional)
        if needed or denials:
            self._push(_Asking(self._turn(owner), owner, claim, needed, denials, whole))
        if preferred:
            self._push(_Asking((True, 0, owner), owner, claim, preferred, {}, whole=False))

    def _turn(self, owner: str) -> _Turn:
        denials = self._holdings.denials(owner)
        return False, min((denial.since for denial in denials.values()), default=self._now), owner

    def _push(self, asking: _Asking) -> None:
        if asking.turn not in self._asking:
            heappush(self._queue, asking.turn)
        self._asking[asking.turn] = asking

    def _serve(self) -> None:
        while self._queue:
            turn = heappop(self._queue)
            asking = self._asking.pop(turn)
            wants = self._give(asking)
            if wants:
                self._asked[turn] = asking._replace(wants=wants)
            else:
                self._settle_denials(asking, asking.denials.keys())
            if len(wants) < len(asking.wants):
                self._match_again(asking.owner)

    def _match_again(self, owner: str) -> None:
        """What it was just given may fit another of its wants better, and what it held before may then fit the one that is left."""
        preference = (True, 0, owner)
        if [turn for turn in (self._turn(owner), preference) if self._asked.pop(turn, None)]:
            if preference in self._asking:
                self._asking[preference] = self._asking[preference]._replace(wants=())
            self._settled.discard(owner)
            self.settle(owner)

    def _give(self, asking: _Asking) -> tuple[Want, ...]:
        """What remains wanted."""
        if not asking.claim:
            return ()
        places, refusals = places_for(self._holdings, asking.claim, asking.wants)
        if asking.whole and refusals:
            return asking.wants
        for place in places.values():
            self._holdings.take(place.vip, place.pool, asking.claim)
        return tuple(want for want in asking.wants if want not in places)

    def _affected(self) -> bool:
        """Settle again those that the decisions since concern; return whether there are any."""
        holdings = self._holdings
        moved, lost, reopened = sorted(holdings.moved), sorted(holdings.lost), sorted(holdings.reopened)
        released = holdings.released
        holdings.moved, holdings.released, holdings.lost, holdings.reopened = set(), set(), set(), set()
        if released and holdings.silent:
            self.settle_waiting(*FAMILIES)  # their denials name the node that an address waits for
        for vip in moved:
            self.settle_requesting(vip)
        for denial in [denial for owner in lost for denial in self._world.find("named", owner, VipDenied)]:
            self.settle(denial.owner)
        for word in reopened:
            self._settle_sharers(word)
        in_pool = any(word.startswith("/") for word in reopened)
        for turn, asking in list(self._asked.items()) if reopened else ():
            if asking.claim and (in_pool or share_word(asking.claim) in reopened):
                self._push(self._asked.pop(turn))
        return bool(self._queue)

    def _settle_sharers(self, word: str) -> None:
        """Settle those that may share with others: under a key, or in a pool, which is open to all ("/name")."""
        namespace = word.partition("/")[0]
        if not namespace:
            self.settle_waiting(*FAMILIES)
        for denial in self._world.find("waiting", namespace, VipDenied) if namespace else ():
            claim = self._holdings.claim(denial.owner)
            if claim and share_word(claim) == word:
                self.settle(denial.owner)
        self.settle_preferring(word if namespace else "")

    # ── denials ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _deny(self, asking: _Asking) -> None:
        """Deny what the claim cannot get.  Where it gets all or nothing one missing family says enough.

        Of several reasons the one in the log stays while it holds: an address that another takes causes no event for those that wait.
        """
        if not asking.claim:
            return
        _, refusals = places_for(self._holdings, asking.claim, asking.wants)
        if asking.whole and refusals.keys() & asking.denials.keys():
            refusals = {family: refusals[family] for family in refusals if family in asking.denials}
        self._settle_denials(asking, asking.denials.keys() - refusals.keys())
        for family, found in refusals.items():
            known = asking.denials.get(family)
            if asking.whole and known and known.root == asking.claim.root and any(_still(known, each) for each in found):
                continue
            denied = VipDenied(owner=asking.owner, family=family, since=asking.turn[1], root=asking.claim.root, **found[0]._asdict())
            if denied != known:
                self._holdings.events.append(denied)

    def _settle_denials(self, asking: _Asking, families: Iterable[Family]) -> None:
        for family in sorted(families):
            root = asking.denials[family].root
            self._holdings.events.append(ClaimSettled(owner=asking.owner, family=family, root=root))

    # ── what is wanted ─────────────────────────────────────────────────────────────────────────────────────────────

    def _match(self, claim: Claim, held: list[VipAllocated]) -> tuple[list[Want], list[VipAllocated]]:
        """Wants that nothing held fits, and what is held and fits none."""
        pools = self._holdings.named(claim, claim.pools)
        families = families_of(claim, self._primary(claim, held, pools))
        unfit = [vip for vip in held if family_of(vip.vip) not in families or self._yields(claim, vip)]
        more = [(name, self._families_in(name, families)) for name in self._holdings.named(claim, claim.more_pools)]
        missing, unwanted = match(list(wants_of(claim, families, pools, more)), [vip for vip in held if vip not in unfit])
        return missing, unfit + unwanted

    def _without_kept(self, claim: Claim, missing: list[Want], unwanted: list[VipAllocated]) -> tuple[list[VipAllocated], list[Want]]:
        """`unwanted` less one for each requested address that nobody could be given: a typo takes no owner off the network.

        And the wants of such addresses that nothing held is left for.
        """
        named = [want for want in missing if want.address]
        hopeless = [want for want in named if isinstance(pool_for(self._holdings, claim, want.address), Refusal)]
        candidates = [vip for vip in unwanted if not self._yields(claim, vip)]
        bare = []
        for want in hopeless:
            candidates.sort(key=lambda vip: family_of(vip.vip) != want.family)
            if not candidates:
                bare.append(want)
            unwanted = [vip for vip in unwanted if vip not in candidates[:1]]
            candidates = candidates[1:]
        return unwanted, bare

    def _take_recorded(self, claim: Claim, want: Want, missing: list[Want]) -> bool:
        """Give the owner an address that it kept for `want` before the log was lost, if there is one."""
        if place := recorded_place(self._holdings, claim, want.family, missing):
            self._holdings.take(place.vip, place.pool, claim)
        return place is not None

    def _families_in(self, name: str, families: tuple[Family, ...]) -> tuple[Family, ...]:
        """Those wanted, the ones that the pool offers first."""
        pool = self._holdings.pools.get(name)
        offered = [found.family for found in ranges_of(pool.addresses)] if pool else []
        return tuple(dict.fromkeys([family for family in (*offered, *families) if family in families]))

    def _primary(self, claim: Claim, held: list[VipAllocated], named: tuple[str, ...]) -> Family:
        """The family of what it has and waits for, which does not change because a pool came; else of what the pools offer it."""
        if claim.families:
            return claim.families[0]
        # What it will not keep must not decide: the next event would choose again, and otherwise.
        kept = [vip for vip in held if (not named or vip.pool in named) and not self._yields(claim, vip)]
        known = {family_of(vip.vip) for vip in kept}
        if kept and claim.family_policy != "SingleStack":
            known |= self._holdings.denials(claim.owner).keys()
        pools = () if kept else drawn_from(self._holdings, named)
        offered = {found.family for pool in pools if self._holdings.serves(pool, claim) for found in ranges_of(pool.addresses)}
        return "IPv6" if (known or offered) == {"IPv6"} else "IPv4"

    def _yields(self, claim: Claim, vip: VipAllocated) -> bool:
        """Whether it cannot stay on its VIP beside the others.  Of two that clash the one that changed last goes."""
        others = [other for owner in vip.holders if owner != claim.owner and (other := self._holdings.claim(owner))]
        unfit = [other for other in others if not may_share(claim, other, vip.share) or clash(claim, other)]
        return any(other.changed < claim.changed for other in unfit)


def _still(known: VipDenied, refusal: Refusal) -> bool:
    """Whether it is the reason that the claim has, of those holders and maybe more."""
    return (known.reason, known.message) == (refusal.reason, refusal.message) and set(known.holders) <= set(refusal.holders)
