"""One decision under way: who is to be settled, who is still to be served, who is to be told.

Everything is looked up by index, so that a decision costs what it touches.  Who waits is judged anew only when something he waits for
moved: an address of his family became free, a VIP he asked for by name changed hands, a Service he was told of let go, or the
Services he may share with changed.
"""

from collections.abc import Iterable, Mapping
from heapq import heappop, heappush
from ipaddress import ip_address
from typing import NamedTuple

from services.ipam.holdings import Holdings, words_of
from services.ipam.places import Refusal, drawn_from, places_for, pool_for, recorded_place
from services.ipam.pools import first_free, offers
from services.ipam.wants import Want, clash, families_of, match, may_share, share_word, wants_of
from weir.decider import World
from weir.events import AnyEvent, ClaimSettled, ServiceObserved, VipAllocated, VipDenied, VipFreed, VipReleased
from weir.events.base import ObjectEvent
from weir.model import FAMILIES, Family, family_of
from weir.ranges import ranges_of

_Turn = tuple[bool, int, str]  # preferences last, then who has waited longest, then by name


class _Asking(NamedTuple):
    """What a Service asks for and has not; nothing, where it only has claims to be settled."""

    turn: _Turn
    service: str
    observed: ServiceObserved | None
    wants: tuple[Want, ...]
    claims: Mapping[Family, VipDenied]  # what it was told
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

    def settle(self, service: str) -> None:
        """Takes back what `service` has and does not ask for; what it asks for and has not, `conclude` gives."""
        if service in self._settled:
            return
        self._settled.add(service)
        observed, held = self._holdings.exposed(service), self._holdings.held(service)
        missing, unwanted = self._match(observed, held) if observed else ([], held)
        if observed:
            unwanted, bare = self._without_kept(observed, missing, unwanted)
            again = [self._take_recorded(observed, want, missing) for want in bare]
        else:
            again = []
        for vip in unwanted:
            self._holdings.leave(vip.vip, service)
        for vip in held:
            self._holdings.restate(vip.vip)
        self._ask(service, observed, missing, whole=len(unwanted) == len(held) and not any(again))

    def settle_waiting(self, *words: str) -> None:
        """The same for those who wait for an address of a family, or in a namespace."""
        for word in words:
            for claim in self._world.find("waiting", word, VipDenied):
                self.settle(claim.owner)

    def settle_preferring(self, word: str = "") -> None:
        """The same for those whose second family is optional; of one share word, or all."""
        for observed in self._world.find("prefers", word, ServiceObserved):
            self.settle(observed.root.owner)

    def reopen(self, service: str, said: Iterable[ServiceObserved]) -> None:
        """What a Service serves changed: others may now stand beside it, and beside those under the keys that it said it has."""
        held = {word for vip in self._holdings.held(service) for word in words_of(vip)}
        self._holdings.reopened |= held | {share_word(each) for each in said} - {""}

    def restate(self, vips: Iterable[VipAllocated]) -> None:
        """Says of VIPs what became of their pool."""
        for vip in vips:
            self._holdings.restate(vip.vip)

    def free(self, released: Iterable[VipReleased]) -> None:
        """Gives on what every node has let go of: to those who wait, the oldest first, as far as it goes."""
        freed = list(released)
        for vip in freed:
            self._holdings.put(VipFreed(vip=vip.vip, pool=vip.pool, holders=vip.holders, root=vip.root))
        self._give_on([vip.vip for vip in reversed(freed)])
        for family in FAMILIES:
            self._prefer(family, [vip.vip for vip in freed if family_of(vip.vip) == family and not self._holdings.vip(vip.vip)])

    def conclude(self) -> list[AnyEvent]:
        """Serves all who ask, then tells those who got nothing, when it is plain who holds what.  Returns all events."""
        self._serve()
        while self._affected():
            self._serve()
        for turn, asking in sorted(self._asked.items()):
            if not turn[0]:
                self._tell(asking)
        return self._holdings.events

    def _give_on(self, free: list[str]) -> None:
        """free: addresses, the last to be given first."""
        waiting = [claim for family in FAMILIES for claim in self._world.find("waiting", family, VipDenied)] if free else []
        for claim in sorted(waiting, key=lambda claim: (claim.since, claim.owner)):
            while free and self._holdings.vip(free[-1]):
                free.pop()
            if not free:
                return
            self.settle(claim.owner)
            self._serve()

    def _prefer(self, family: Family, free: list[str]) -> None:
        """Asks those whose second family is optional, where a pool had no room beside `free`; else they have what they want."""
        if not free or not self._world.count("prefers", ""):
            return
        pools = [pool for pool in self._holdings.pools.values() if any(offers(pool, ip_address(vip)) for vip in free)]
        self._holdings.count(free, 1)
        full = [pool for pool in pools if not first_free(pool, family, self._holdings.counted)]
        self._holdings.count(free, -1)
        if full:
            self.settle_preferring()

    # ── serving ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _ask(self, service: str, observed: ServiceObserved | None, missing: list[Want], *, whole: bool) -> None:
        claims = self._holdings.claims(service)
        whole = whole and observed is not None and observed.family_policy == "RequireDualStack"
        needed = tuple(want for want in missing if not want.optional)
        preferred = tuple(want for want in missing if want.optional)
        if needed or claims:
            self._push(_Asking(self._turn(service), service, observed, needed, claims, whole))
        if preferred:
            self._push(_Asking((True, 0, service), service, observed, preferred, {}, whole=False))

    def _turn(self, service: str) -> _Turn:
        claims = self._holdings.claims(service)
        return False, min((claim.since for claim in claims.values()), default=self._now), service

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
                self._settle_claims(asking, asking.claims.keys())
            if len(wants) < len(asking.wants):
                self._match_again(asking.service)

    def _match_again(self, service: str) -> None:
        """What it was just given may fit another want of it better, and what it held before then the one it still asks for."""
        preference = (True, 0, service)
        if [turn for turn in (self._turn(service), preference) if self._asked.pop(turn, None)]:
            if preference in self._asking:
                self._asking[preference] = self._asking[preference]._replace(wants=())
            self._settled.discard(service)
            self.settle(service)

    def _give(self, asking: _Asking) -> tuple[Want, ...]:
        """What remains wanted."""
        if not asking.observed:
            return ()
        places, refusals = places_for(self._holdings, asking.observed, asking.wants)
        if asking.whole and refusals:
            return asking.wants
        for place in places.values():
            self._holdings.take(place.vip, place.pool, asking.observed)
        return tuple(want for want in asking.wants if want not in places)

    def _affected(self) -> bool:
        """Asks again those whom what was decided since concerns; whether there are any."""
        holdings = self._holdings
        moved, lost, reopened = sorted(holdings.moved), sorted(holdings.lost), sorted(holdings.reopened)
        released = holdings.released
        holdings.moved, holdings.released, holdings.lost, holdings.reopened = set(), set(), set(), set()
        if released and holdings.silent:
            self.settle_waiting(*FAMILIES)  # their claims name the node that an address waits for
        for observed in [observed for vip in moved for observed in self._world.find("asked", vip, ObjectEvent)]:
            self.settle(observed.root.owner)
        for claim in [claim for service in lost for claim in self._world.find("named", service, VipDenied)]:
            self.settle(claim.owner)
        for word in reopened:
            self._settle_sharers(word)
        in_pool = any(word.startswith("/") for word in reopened)
        for turn, asking in list(self._asked.items()) if reopened else ():
            if asking.observed and (in_pool or share_word(asking.observed) in reopened):
                self._push(self._asked.pop(turn))
        return bool(self._queue)

    def _settle_sharers(self, word: str) -> None:
        """Asks those who may stand beside others: under a key, or in a pool, which is open to all ("/name")."""
        namespace = word.partition("/")[0]
        if not namespace:
            self.settle_waiting(*FAMILIES)
        for claim in self._world.find("waiting", namespace, VipDenied) if namespace else ():
            observed = self._holdings.exposed(claim.owner)
            if observed and share_word(observed) == word:
                self.settle(claim.owner)
        self.settle_preferring(word if namespace else "")

    # ── telling ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _tell(self, asking: _Asking) -> None:
        """Claims as they should stand.  Of a Service that gets all or nothing one missing family says enough.

        Of several reasons the one in the log stays while it holds: an address that another takes wakes nobody who waits.
        """
        if not asking.observed:
            return
        _, refusals = places_for(self._holdings, asking.observed, asking.wants)
        if asking.whole and refusals.keys() & asking.claims.keys():
            refusals = {family: refusals[family] for family in refusals if family in asking.claims}
        self._settle_claims(asking, asking.claims.keys() - refusals.keys())
        for family, found in refusals.items():
            known = asking.claims.get(family)
            if asking.whole and known and known.root == asking.observed.root and any(_still(known, each) for each in found):
                continue
            denied = VipDenied(owner=asking.service, family=family, since=asking.turn[1], root=asking.observed.root, **found[0]._asdict())
            if denied != known:
                self._holdings.events.append(denied)

    def _settle_claims(self, asking: _Asking, families: Iterable[Family]) -> None:
        for family in sorted(families):
            root = asking.claims[family].root
            self._holdings.events.append(ClaimSettled(owner=asking.service, family=family, root=root))

    # ── what is wanted ─────────────────────────────────────────────────────────────────────────────────────────────

    def _match(self, observed: ServiceObserved, held: list[VipAllocated]) -> tuple[list[Want], list[VipAllocated]]:
        """Wants that nothing held fits, and what is held and fits none."""
        pools = self._holdings.named(observed, observed.pools)
        families = families_of(observed, self._primary(observed, held, pools))
        unfit = [vip for vip in held if family_of(vip.vip) not in families or self._gives_way(observed, vip)]
        more = [(name, self._families_in(name, families)) for name in self._holdings.named(observed, observed.more_pools)]
        missing, unwanted = match(list(wants_of(observed, families, pools, more)), [vip for vip in held if vip not in unfit])
        return missing, unfit + unwanted

    def _without_kept(
        self, observed: ServiceObserved, missing: list[Want], unwanted: list[VipAllocated]
    ) -> tuple[list[VipAllocated], list[Want]]:
        """`unwanted` less one for each requested address that nobody could be given: a typo takes no Service off the network.

        And the wants of such addresses that nothing held is left for.
        """
        named = [want for want in missing if want.address]
        hopeless = [want for want in named if isinstance(pool_for(self._holdings, observed, want.address), Refusal)]
        candidates = [vip for vip in unwanted if not self._gives_way(observed, vip)]
        bare = []
        for want in hopeless:
            candidates.sort(key=lambda vip: family_of(vip.vip) != want.family)
            if not candidates:
                bare.append(want)
            unwanted = [vip for vip in unwanted if vip not in candidates[:1]]
            candidates = candidates[1:]
        return unwanted, bare

    def _take_recorded(self, observed: ServiceObserved, want: Want, missing: list[Want]) -> bool:
        """Give the Service an address that it kept for `want` before the log was lost, if there is one."""
        if place := recorded_place(self._holdings, observed, want.family, missing):
            self._holdings.take(place.vip, place.pool, observed)
        return place is not None

    def _families_in(self, name: str, families: tuple[Family, ...]) -> tuple[Family, ...]:
        """Those wanted, the ones that the pool offers first."""
        pool = self._holdings.pools.get(name)
        offered = [found.family for found in ranges_of(pool.addresses)] if pool else []
        return tuple(dict.fromkeys([family for family in (*offered, *families) if family in families]))

    def _primary(self, observed: ServiceObserved, held: list[VipAllocated], named: tuple[str, ...]) -> Family:
        """The family of what it has and waits for, which does not change because a pool came; else of what the pools offer it."""
        if observed.families:
            return observed.families[0]
        # What it will not keep must not decide: it would be chosen anew, and otherwise, with the next event.
        kept = [vip for vip in held if (not named or vip.pool in named) and not self._gives_way(observed, vip)]
        known = {family_of(vip.vip) for vip in kept}
        if kept and observed.family_policy != "SingleStack":
            known |= self._holdings.claims(observed.root.owner).keys()
        pools = () if kept else drawn_from(self._holdings, named)
        offered = {found.family for pool in pools if self._holdings.serves(pool, observed) for found in ranges_of(pool.addresses)}
        return "IPv6" if (known or offered) == {"IPv6"} else "IPv4"

    def _gives_way(self, observed: ServiceObserved, vip: VipAllocated) -> bool:
        """Whether it cannot stay on its VIP beside the others.  Of two that clash the one that was changed last goes."""
        others = [other for service in vip.holders if service != observed.root.owner and (other := self._holdings.exposed(service))]
        unfit = [other for other in others if not may_share(observed, other, vip.share) or clash(observed, other)]
        return any(self._world.seq(other) < self._world.seq(observed) for other in unfit)


def _still(known: VipDenied, refusal: Refusal) -> bool:
    """Whether it is the reason that the claim has, of those holders and maybe more."""
    return (known.reason, known.message) == (refusal.reason, refusal.message) and set(known.holders) <= set(refusal.holders)
