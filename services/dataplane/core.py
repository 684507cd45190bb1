"""What this node should hold, by the plan.

Pure: everything is computed from the world.  Which ids entries have here, and what the kernel holds already, is in `l4/apply.py`.
"""

from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from msgspec.structs import replace

from services.dataplane.l4.layout import FrontendKey
from services.dataplane.l7 import resources as l7
from weir.decider import Change, Fact, Index, World
from weir.events import (
    AnnouncersPlanned,
    AnnouncersWithdrawn,
    AnyEvent,
    AppliedThrough,
    BackendsPlanned,
    BgpRoutePlanned,
    BgpSessionPlanned,
    BgpSessionsObserved,
    FrontendPlanned,
    HomeNamed,
    ListenerPlanned,
    MapPressure,
    PeersObserved,
    UpstreamPlanned,
    VipPlanned,
    VipTaken,
    VipWithdrawn,
    VirtualHostPlanned,
    endpoints_of,
)
from weir.lbnodes import ABOUT_NODES
from weir.model import (
    ALGORITHMS,
    BACKEND_STATES,
    MODES,
    NO_BACKENDS,
    PROXY,
    Algorithm,
    Backend,
    BackendSet,
    BackendState,
    Root,
    seen_from,
)
from weir.plan import PLAN, sets_of

PART = 500  # backend sets applied in one go
HEARS = (*PLAN, *ABOUT_NODES, AppliedThrough, PeersObserved, BgpSessionsObserved, VipTaken, MapPressure, HomeNamed)


def _limited(event: AnyEvent) -> Iterable[str]:
    return ("",) if isinstance(event, FrontendPlanned) and event.drain_timeout_s else ()


def _draining(event: AnyEvent) -> Iterable[str]:
    return (event.set,) if isinstance(event, BackendsPlanned) and any(backend.state == "draining" for backend in event.backends) else ()


def _health_port(event: AnyEvent) -> Iterable[str]:
    return (str(event.health_port),) if isinstance(event, FrontendPlanned) and event.health_port else ()


INDEXES: Mapping[str, Index] = {
    "set": sets_of,
    "endpoint": endpoints_of,
    "drain limit": _limited,
    "draining": _draining,
    "health port": _health_port,
    **l7.INDEXES,
}


@lru_cache(maxsize=4096)
def _nobody(namespace: str) -> Root:
    return Root(kind="", name="", namespace=namespace)


def without_root(fact: Fact) -> Fact:
    """Return an event as the agent keeps it: without its root, which the log has, and which would be a tenth of the agent's memory."""
    match fact.event:
        case (
            VipPlanned(root=root)
            | VipWithdrawn(root=root)
            | AnnouncersPlanned(root=root)
            | FrontendPlanned(root=root)
            | BackendsPlanned(root=root)
        ) as event:
            return fact._replace(event=replace(event, root=_nobody(root.space)))
    return fact


def planned(world: World) -> list[AnyEvent]:
    """Return the whole plan: every VIP, planned or withdrawn, frontend and chunk of backends, and all for a proxy and routers."""
    vips: list[AnyEvent] = [*world.of(VipPlanned), *world.of(VipWithdrawn), *world.of(AnnouncersPlanned)]
    kernel: list[AnyEvent] = [*vips, *world.of(FrontendPlanned), *world.of(BackendsPlanned)]
    routers: list[AnyEvent] = [*world.of(BgpSessionPlanned), *world.of(BgpRoutePlanned)]
    return [*kernel, *world.of(ListenerPlanned), *world.of(VirtualHostPlanned), *world.of(UpstreamPlanned), *routers]


class Touched:
    """The parts of the plan that some changes concern: VIPs, frontends by key, backend sets by name, endpoints by name."""

    def __init__(self) -> None:
        self.vips: set[str] = set()
        self.frontends: set[FrontendKey] = set()
        self.sets: set[str] = set()
        self.endpoints: set[str] = set()
        self.left: set[tuple[str, str]] = set()  # set and endpoint: it was in a chunk of the set, and is not in that chunk now

    @classmethod
    def by(cls, world: World, changes: Iterable[Change]) -> "Touched":
        """Return what `changes` touch; the world holds them already."""
        touched = cls()
        for change in changes:
            touched._turn(change.before, change.fact.event)
        touched._widen(world)
        return touched

    @classmethod
    def between(cls, before: Mapping[str, Fact], after: World) -> "Touched":
        """Return what of the plan differs between what was applied and a world."""
        touched = cls()
        for key in before.keys() | after.facts.keys():
            facts = [fact and fact[:2] for fact in (before.get(key), after.facts.get(key))]
            if facts[0] != facts[1]:  # the same event at a later sequence is a newer plan for the kernel, too
                touched._turn(*(fact[1] if fact else None for fact in facts))
        touched._widen(after)
        return touched

    @classmethod
    def all(cls, world: World) -> Iterator["Touched"]:
        """Yield the whole plan in parts: with 100,000 backends the names alone take much memory.  VIPs come last."""
        sets = world.words("set")
        for start in range(0, len(sets), PART):
            part = cls()
            part.sets = set(sets[start : start + PART])
            part.frontends = {frontend_key(frontend) for name in part.sets for frontend in world.find("set", name, FrontendPlanned)}
            part._widen(world)
            yield part
        last = cls()
        last.frontends = {frontend_key(frontend) for frontend in world.of(FrontendPlanned) if not frontend.sets}  # of a proxy
        last.vips = {*(event.vip for event in world.of(VipPlanned)), *(event.vip for event in world.of(VipWithdrawn))}
        yield last

    def _turn(self, before: AnyEvent | None, after: AnyEvent | None) -> None:
        """Note one change; of endpoints only those that were added or removed, since the others keep their ids."""
        came, went = (set(endpoints_of(event)) if event else set() for event in (after, before))
        self.endpoints |= came ^ went
        if isinstance(before, BackendsPlanned):
            self.left |= {(before.set, endpoint) for endpoint in went - came}
        for event in (before, after):
            match event:
                case VipPlanned(vip=vip) | VipWithdrawn(vip=vip) | AnnouncersPlanned(vip=vip) | AnnouncersWithdrawn(vip=vip):
                    self.vips.add(vip)
                case FrontendPlanned():
                    self.frontends.add(frontend_key(event))
                    self.sets.update(part.name for part in event.sets)
                case BackendsPlanned():
                    self.sets.add(event.set)

    def _widen(self, world: World) -> None:
        """Add the frontends of touched sets, and the endpoints that a frontend that was added or removed may be the only one to serve."""
        if self.frontends:
            chunks = [chunk for name in self.sets for chunk in world.find("set", name, BackendsPlanned)]
            self.endpoints |= {endpoint for chunk in chunks for endpoint in endpoints_of(chunk)}
        self.frontends |= {frontend_key(frontend) for name in self.sets for frontend in world.find("set", name, FrontendPlanned)}

    def __bool__(self) -> bool:
        return bool(self.vips or self.frontends or self.sets or self.endpoints)


def frontend_key(frontend: FrontendPlanned) -> FrontendKey:
    """Return the key of a planned frontend in the kernel."""
    return FrontendKey(frontend.vip, frontend.port, frontend.protocol)


class Share(NamedTuple):
    """A backend set of one frontend: its part of the new flows, and its backends by address and port."""

    weight: int
    backends: list[Backend]


def shares(world: World, frontend: FrontendPlanned) -> list[Share]:
    """Return a frontend's backend sets, all chunks of each."""
    return [Share(part.weight, sorted(_backends(world, part), key=_address)) for part in frontend.sets]


def shares_on(node: str, world: World, frontend: FrontendPlanned) -> list[Share]:
    """Return the `shares` that serve on `node`, in the state that its own probes find backends in.

    Where a frontend is local and all backends on the node are draining, these keep serving (KEP-1669).
    """
    seen = [Share(part.weight, [_on(node, backend) for backend in part.backends]) for part in shares(world, frontend)]
    if not frontend.local:
        return seen
    ours = [Share(part.weight, [backend for backend in part.backends if backend.node == node]) for part in seen]
    if any(backend.state != "draining" for part in ours for backend in part.backends):
        return ours
    return [Share(part.weight, [replace(backend, state="active") for backend in part.backends]) for part in ours]


def eligible(parts: Iterable[Share], algorithm: Algorithm) -> list[Share]:
    """Return the backends that have slots: the active ones, and those that are down as long as they have no more than half of the share.

    The kernel steps over a backend that a probe found dead, so one that dies or flaps moves no flow of another.  Where more are down its
    steps might not reach a live one: then the dead leave the table; when all are dead, they are all in it (all down = all up).
    Round robin has no flows to keep in their places, and its dead may stand side by side, so there they leave at once.
    """
    parts = [part for part in parts if part.weight > 0]
    active, down = ([_only(part, state) for part in parts] for state in ("active", "down"))
    both = [(part.weight, part.backends, dead.backends) for part, dead in zip(active, down, strict=True)]
    excess = sum(Fraction(weight * (len(dead) - len(live)), len(dead) + len(live)) for weight, live, dead in both if live or dead)
    if algorithm == "maglev" and excess <= 0:
        return [Share(weight, live + dead) for weight, live, dead in both]
    return active if any(part.backends for part in active) else down


def unknown_words(frontend: FrontendPlanned, backends: Iterable[Backend]) -> str:
    """Name the words of a frontend and its backends that this version does not know, and those it does; "" where it knows them all."""
    words = [
        ("mode", frontend.mode, (*MODES, PROXY)),
        ("algorithm", frontend.algorithm, ALGORITHMS),
        ("no_backend", frontend.no_backend, NO_BACKENDS),
        *(("state of a backend", state, BACKEND_STATES) for state in sorted({backend.state for backend in backends})),
    ]
    return "; ".join(f"{what} {word!a}: expected one of {', '.join(known)}" for what, word, known in words if word not in known)


def _only(part: Share, state: BackendState) -> Share:
    return Share(part.weight, [backend for backend in part.backends if backend.state == state])


def _on(node: str, backend: Backend) -> Backend:
    state = seen_from(node, backend)
    return backend if state == backend.state else replace(backend, state=state)


def _chunks(world: World, part: BackendSet) -> list[BackendsPlanned]:
    return [chunk for chunk in world.find("set", part.name, BackendsPlanned) if chunk.chunks == part.chunks]


def _backends(world: World, part: BackendSet) -> Iterator[Backend]:
    return (backend for chunk in _chunks(world, part) for backend in chunk.backends)


def _address(backend: Backend) -> tuple[str, int]:
    return backend.address, backend.port


def frontends_of(world: World, endpoint: str) -> list[FrontendPlanned]:
    """Return the frontends that a backend serves."""
    sets = sorted({chunk.set for chunk in world.find("endpoint", endpoint, BackendsPlanned)})
    return [frontend for name in sets for frontend in world.find("set", name, FrontendPlanned)]


def serves(world: World, endpoint: str, name: str) -> bool:
    """Return whether the backend set `name` holds `endpoint`."""
    return any(chunk.set == name for chunk in world.find("endpoint", endpoint, BackendsPlanned))


def table_name(frontend: FrontendPlanned) -> str:
    """Return the name of a frontend's lookup table, which frontends of the same sets in the same proportions share."""
    if len(frontend.sets) == 1:
        return frontend.sets[0].name
    return " ".join(f"{part.weight}*{part.name}" for part in frontend.sets)


def set_number(name: str) -> int:
    """Return a table's key in the kernel: 64 bits of its name's hash, the same on every node and in every process."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")
