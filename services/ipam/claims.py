"""What an object asks of ipam.  The only module that knows kinds: all others see claims and their owners.

A Service that is exposed has a claim, a Gateway of a class that Weir serves, and an IngressClass that it serves.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from weir.decider import World
from weir.events import (
    AnyEvent,
    Event,
    GatewayClassGone,
    GatewayClassObserved,
    GatewayGone,
    GatewayObserved,
    IngressClassGone,
    IngressClassObserved,
    RecordObserved,
    ServiceGone,
    ServiceObserved,
    object_key,
    record_key,
)
from weir.model import Family, FamilyPolicy, Root, name_in, parse_address

CLAIMANTS: Final = (ServiceObserved, GatewayObserved, IngressClassObserved)
SUBSCRIBES: Final[tuple[type[Event], ...]] = (*CLAIMANTS, GatewayClassObserved)

POOL: Final = "weir.dev/pool"  # annotations of a Gateway or IngressClass; those of a Service are fields of its event
SHARE_KEY: Final = "weir.dev/share-key"
EXCLUSIVE: Final = "weir.dev/exclusive"
ADDRESSES: Final = ("weir.dev/staticIP", "weir.dev/ips")  # of an IngressClass, which has no field for them

Port = tuple[int, str]  # number and protocol


class Claim(NamedTuple):
    """The addresses that an owner asks for, and with whom it shares them."""

    root: Root
    changed: int  # the sequence of the event that this follows from
    ports: tuple[Port, ...]
    families: tuple[Family, ...] = ()  # in order of preference; empty: whatever a pool gives
    family_policy: FamilyPolicy = "SingleStack"
    requested: tuple[str, ...] = ()  # these very addresses, instead of one drawn for each family
    more_requested: tuple[str, ...] = ()  # these beside those requested or drawn
    pools: tuple[str, ...] = ()  # to draw from, the first that has room; empty: every one that assigns by itself
    more_pools: tuple[str, ...] = ()  # one address more from each of these
    more_drawn: int = 0  # addresses of the first family drawn beside those requested or drawn
    share_key: str = ""  # claims of one namespace with the same key may stand on one VIP, on different ports
    exclusive: bool = False  # the VIP is shared with nobody, whatever the key
    labels: Mapping[str, str] = {}  # for the selectors of pools

    @property
    def owner(self) -> str:
        """ "Service/shop/web"."""
        return self.root.owner

    @property
    def noun(self) -> str:
        """What the owner is called in messages."""
        return self.root.kind


def claim_of(world: World, owner: str) -> Claim | None:
    """The claim of an owner, None where it asks for nothing."""
    event = world.get(object_key(owner))
    match event:
        case ServiceObserved(exposed=True):
            return _of_service(event, world.seq(event))
        case GatewayObserved() if _is_ours(world, event):
            return _of_gateway(event, world.seq(event))
        case IngressClassObserved(ours=True, parameters=None):
            return _of_class(event, world.seq(event))
    return None


def owners(world: World) -> list[str]:
    """All that may have a claim."""
    return [event.root.owner for kind in CLAIMANTS for event in world.of(kind)]


def changed(world: World, event: AnyEvent) -> list[str]:
    """The owners whose claim may differ after `event`."""
    match event:
        case ServiceObserved(root=root) | ServiceGone(root=root) | GatewayObserved(root=root) | GatewayGone(root=root):
            return [root.owner]
        case IngressClassObserved(root=root) | IngressClassGone(root=root):
            return [root.owner]
        case GatewayClassObserved(root=root) | GatewayClassGone(root=root):
            return [gateway.root.owner for gateway in world.of(GatewayObserved) if _class_of(gateway) == root.owner]
    return []


def requested_by(event: AnyEvent) -> Iterable[str]:
    """Addresses that an object asks for by name."""
    match event:
        case ServiceObserved(requested=requested, more_requested=more):
            return (*requested, *more)
        case GatewayObserved():
            return _addresses(event)
        case IngressClassObserved(requested=requested):
            return _asked(requested)
    return ()


def prefers(event: AnyEvent) -> Iterable[str]:
    """Of an object whose second family is optional "", and the word of those that it may share with."""
    match event:
        case ServiceObserved(exposed=True, family_policy="PreferDualStack"):
            return ("", share_word(_of_service(event, 0)))
    return ()


def share_words(event: AnyEvent | None) -> set[str]:
    """The words of those that an object may share with."""
    match event:
        case ServiceObserved():
            return {share_word(_of_service(event, 0))} - {""}
        case GatewayObserved():
            return {share_word(_of_gateway(event, 0))} - {""}
    return set()


def record_of(world: World, owner: str) -> tuple[str, ...]:
    """The VIPs that were recorded of an owner in its cluster; of Services alone."""
    record = world.get(record_key(owner)) if owner.startswith("Service/") else None
    return record.vips if isinstance(record, RecordObserved) else ()


def share_word(claim: Claim) -> str:
    """The index word of those that may share with this claim; "" where none may."""
    return f"{claim.root.space}/{claim.share_key}" if claim.share_key and not claim.exclusive else ""


def _of_service(event: ServiceObserved, seq: int) -> Claim:
    return Claim(
        root=event.root,
        changed=seq,
        ports=tuple((port.port, port.protocol) for port in event.ports),
        families=event.families,
        family_policy=event.family_policy,
        requested=event.requested,
        more_requested=event.more_requested,
        pools=event.pools,
        more_pools=event.more_pools,
        share_key=event.share_key,
        exclusive=event.exclusive,
        labels=event.labels,
    )


def _of_gateway(event: GatewayObserved, seq: int) -> Claim:
    """An address without a value is any address; one of a Gateway without addresses is drawn, too."""
    requested = _addresses(event)
    drawn = sum(each.type == "IPAddress" and not each.value for each in event.addresses)
    return Claim(
        root=event.root,
        changed=seq,
        ports=tuple(dict.fromkeys((each.port, "UDP" if each.protocol == "UDP" else "TCP") for each in event.listeners)),
        requested=requested,
        more_drawn=drawn if requested else max(drawn - 1, 0),
        pools=_pools(event.requested),
        share_key=event.requested.get(SHARE_KEY, ""),
        exclusive=event.requested.get(EXCLUSIVE) == "yes",
        labels=event.labels,
    )


def _addresses(event: GatewayObserved) -> tuple[str, ...]:
    """The addresses that a Gateway names, in canonical form; what is none is for its status to report."""
    found = (parse_address(each.value) for each in event.addresses if each.type == "IPAddress" and each.value)
    return tuple(dict.fromkeys(str(address) for address in found if address))


def _of_class(event: IngressClassObserved, seq: int) -> Claim:
    """One address for all Ingresses of the class, whether there are any or not: it stays when the last one goes."""
    return Claim(
        root=event.root,
        changed=seq,
        ports=((80, "TCP"), (443, "TCP")),
        requested=_asked(event.requested),
        pools=_pools(event.requested),
        exclusive=event.requested.get(EXCLUSIVE) == "yes",
    )


def _pools(requested: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.lower() for part in _parts(requested.get(POOL, ""))))


def _asked(requested: Mapping[str, str]) -> tuple[str, ...]:
    """The addresses that annotations name; what is none is left out."""
    found = (parse_address(part) for name in ADDRESSES for part in _parts(requested.get(name, "")))
    return tuple(dict.fromkeys(str(address) for address in found if address))


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _class_of(event: GatewayObserved) -> str:
    return f"GatewayClass/{name_in(event.root.source, event.class_name)}"


def _is_ours(world: World, event: GatewayObserved) -> bool:
    """Whether its class is, and it asks for nothing that Weir does not have: parameters, addresses that are names."""
    found = world.get(object_key(_class_of(event)))
    served = not event.parameters and all(each.type == "IPAddress" for each in event.addresses)
    return served and isinstance(found, GatewayClassObserved) and found.ours
