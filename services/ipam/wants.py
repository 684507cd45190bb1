"""What a claim asks for, address by address, and who may stand beside it on one VIP.

ipFamilyPolicy is read as Kubernetes has it (KEP-563).  SingleStack: one family.  PreferDualStack: the second family whenever a pool
has it, now or later, and no complaint while none has.  RequireDualStack: a Service that holds nothing gets nothing until both can
be given, as the API server refuses to make half of one: clients would otherwise see an address that is not yet the whole answer.
What it holds already it keeps.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from services.ipam.claims import Claim, Port
from weir.events import VipAllocated
from weir.model import FAMILIES, Family, Share, family_of


class Want(NamedTuple):
    """One address."""

    family: Family
    address: str = ""  # this very one; else one drawn
    pools: tuple[str, ...] = ()  # from one of these, the first that has room; empty: from those that assign by themselves
    families: tuple[Family, ...] = ()  # any of these will do, the first that can be had; empty: `family` alone
    optional: bool = False
    nth: int = 0  # of several that are alike otherwise


def families_of(claim: Claim, primary: Family) -> tuple[Family, ...]:
    """The families a claim wants, in its order.  primary: the one it gets where it names none."""
    asked = tuple(dict.fromkeys(map(family_of, claim.requested)))
    named = claim.families or asked or (primary,)
    return named if claim.family_policy == "SingleStack" else tuple(dict.fromkeys((*named, *FAMILIES)))


def wants_of(
    claim: Claim, families: Sequence[Family], pools: tuple[str, ...], more: Sequence[tuple[str, tuple[Family, ...]]]
) -> Iterator[Want]:
    """Addresses asked for by name, one from each pool of `more`, and one drawn from `pools` for each family that has none by name.

    The order is that in which they are served, and in which what is held is matched to them.
    """
    asked = [address for address in dict.fromkeys(claim.requested) if family_of(address) in families]
    yield from (Want(family_of(address), address) for address in dict.fromkeys((*asked, *claim.more_requested)))
    yield from (Want(of[0], pools=(pool,), families=of) for pool, of in more)
    for i, family in enumerate(families):
        if family not in map(family_of, asked):
            yield Want(family, pools=pools, optional=i > 0 and claim.family_policy == "PreferDualStack")
    yield from (Want(families[0], pools=pools, nth=nth) for nth in range(1, claim.more_drawn + 1))


def match(wants: Sequence[Want], held: Sequence[VipAllocated]) -> tuple[list[Want], list[VipAllocated]]:
    """Wants that nothing held fits, and what is held and fits none.

    As much as can be is kept (augmenting paths, Kuhn 1955); an earlier want never goes without for a later one's sake.
    """
    given: dict[str, Want] = {}

    def find(want: Want, tried: set[str]) -> bool:
        for vip in held:
            if vip.vip not in tried and _fits(want, vip):
                tried.add(vip.vip)
                if vip.vip not in given or find(given[vip.vip], tried):
                    given[vip.vip] = want
                    return True
        return False

    missing = [want for want in wants if not find(want, set())]
    return missing, [vip for vip in held if vip.vip not in given]


def _fits(want: Want, vip: VipAllocated) -> bool:
    """Whether `vip` is what is wanted.  Pools that no longer offer it do not matter: what is held stays."""
    if want.address:
        return want.address == vip.vip
    return family_of(vip.vip) in (want.families or (want.family,)) and (not want.pools or vip.pool in want.pools)


def may_share(one: Claim, other: Claim, share: Share) -> bool:
    """Whether both may stand on one VIP: same namespace and key, or a pool that asks for neither; none exclusive.

    Their ports are another matter.
    """
    agreed = one.share_key and one.share_key == other.share_key and one.root.space == other.root.space
    return (share == "ports" or bool(agreed)) and not one.exclusive and not other.exclusive


def clash(one: Claim, other: Claim) -> Port | None:
    """The first port and protocol that both serve."""
    return next((port for port in one.ports if port in other.ports), None)
