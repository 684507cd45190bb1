"""What the kernel of this node should hold, read off the plan.

Pure: everything is computed from the world; which ids the entries have here, and what the kernel holds already, is `apply.py`'s.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from hashlib import blake2b

from msgspec.structs import replace

from services.dataplane.l4.layout import FrontendKey
from services.dataplane.l7 import resources as l7
from weir.decider import Change, Fact, Index, World
from weir.events import (
    AnyEvent,
    AppliedThrough,
    BackendsPlanned,
    FrontendPlanned,
    MapPressure,
    VipPlanned,
    VipTaken,
    VipWithdrawn,
    endpoints_of,
)
from weir.lbnodes import ABOUT_NODES
from weir.model import Algorithm, Backend, Root, seen_from
from weir.plan import PLAN, sets_of

PART = 500  # backend sets applied in one go
HEARS = (*PLAN, *ABOUT_NODES, AppliedThrough, VipTaken, MapPressure)


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
    """As the agent keeps it: which object a fact goes back to is asked of the log, and would be a tenth of the agent's memory."""
    match fact.event:
        case VipPlanned(root=root) | VipWithdrawn(root=root) | FrontendPlanned(root=root) | BackendsPlanned(root=root) as event:
            return fact._replace(event=replace(event, root=_nobody(root.space)))
    return fact


def planned(world: World) -> list[AnyEvent]:
    """The whole plan: every VIP, given or withdrawn, frontend and chunk of backends."""
    return [*world.of(VipPlanned), *world.of(VipWithdrawn), *world.of(FrontendPlanned), *world.of(BackendsPlanned)]


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
        """What `changes` touch; the world holds them already."""
        touched = cls()
        for change in changes:
            touched._turn(change.before, change.fact.event)
        touched._widen(world)
        return touched

    @classmethod
    def between(cls, before: Mapping[str, Fact], after: World) -> "Touched":
        """What of the plan differs between what was applied and a world."""
        touched = cls()
        for key in before.keys() | after.facts.keys():
            facts = [fact and fact[:2] for fact in (before.get(key), after.facts.get(key))]
            if facts[0] != facts[1]:  # the same, said again later, is a newer plan for the kernel too
                touched._turn(*(fact[1] if fact else None for fact in facts))
        touched._widen(after)
        return touched

    @classmethod
    def all(cls, world: World) -> Iterator["Touched"]:
        """The whole plan, in parts: at 100,000 backends the names alone are much.  VIPs last."""
        sets = world.words("set")
        for start in range(0, len(sets), PART):
            part = cls()
            part.sets = set(sets[start : start + PART])
            part.frontends = {frontend_key(frontend) for name in part.sets for frontend in world.find("set", name, FrontendPlanned)}
            part._widen(world)
            yield part
        last = cls()
        last.vips = {*(event.vip for event in world.of(VipPlanned)), *(event.vip for event in world.of(VipWithdrawn))}
        yield last

    def _turn(self, before: AnyEvent | None, after: AnyEvent | None) -> None:
        """Of endpoints those that came or went: the others keep their ids, and the frontends that their replies belong to."""
        came, went = (set(endpoints_of(event)) if event else set() for event in (after, before))
        self.endpoints |= came ^ went
        if isinstance(before, BackendsPlanned):
            self.left |= {(before.set, endpoint) for endpoint in went - came}
        for event in (before, after):
            match event:
                case VipPlanned(vip=vip) | VipWithdrawn(vip=vip):
                    self.vips.add(vip)
                case FrontendPlanned():
                    self.frontends.add(frontend_key(event))
                    self.sets.update(part.name for part in event.sets)
                case BackendsPlanned():
                    self.sets.add(event.set)

    def _widen(self, world: World) -> None:
        """A set reaches its frontends; a frontend that came or went reaches the endpoints that it alone may serve."""
        if self.frontends:
            chunks = [chunk for name in self.sets for chunk in world.find("set", name, BackendsPlanned)]
            self.endpoints |= {endpoint for chunk in chunks for endpoint in endpoints_of(chunk)}
        self.frontends |= {frontend_key(frontend) for name in self.sets for frontend in world.find("set", name, FrontendPlanned)}

    def __bool__(self) -> bool:
        return bool(self.vips or self.frontends or self.sets or self.endpoints)


def frontend_key(frontend: FrontendPlanned) -> FrontendKey:
    """The key of a planned frontend in the kernel."""
    return FrontendKey(frontend.vip, frontend.port, frontend.protocol)


def members_on(node: str, frontend: FrontendPlanned, backends: list[Backend]) -> list[Backend]:
    """The `members` that serve on `node`, in the state that its own probes find them in.

    Where a frontend is local and all of its own leave, these serve on (KEP-1669).
    """
    backends = [backend if (state := seen_from(node, backend)) == backend.state else replace(backend, state=state) for backend in backends]
    if not frontend.local:
        return backends
    ours = [backend for backend in backends if backend.node == node]
    if any(backend.state != "draining" for backend in ours):
        return ours
    return [replace(backend, state="active") for backend in ours]


def eligible(backends: Iterable[Backend], algorithm: Algorithm) -> list[Backend]:
    """Those that have slots: the active ones, and those that are down as long as these are no more than half.

    The kernel steps over whom a probe found dead, so a backend that dies or flaps moves no flow of another.  Where more are down its
    steps might not reach one that lives: then the dead leave the table; when nobody is left they are in it all (all down = all up).
    Round robin has no flows to keep in their places, and its dead may stand side by side, so there they leave at once.
    """
    backends = list(backends)
    active, down = ([b for b in backends if b.state == state] for state in ("active", "down"))
    return [*active, *down] if algorithm == "maglev" and len(down) <= len(active) else active or down


def frontends_of(world: World, endpoint: str) -> list[FrontendPlanned]:
    """The frontends that a backend serves, by key."""
    sets = sorted({chunk.set for chunk in world.find("endpoint", endpoint, BackendsPlanned)})
    return [frontend for name in sets for frontend in world.find("set", name, FrontendPlanned)]


def serves(world: World, endpoint: str, name: str) -> bool:
    """Whether the backend set `name` holds `endpoint`."""
    return any(chunk.set == name for chunk in world.find("endpoint", endpoint, BackendsPlanned))


def table_name(frontend: FrontendPlanned) -> str:
    """What its lookup table is shared by: frontends of the same sets, in the same proportions."""
    if len(frontend.sets) == 1:
        return frontend.sets[0].name
    return " ".join(f"{part.weight}*{part.name}" for part in frontend.sets)


def set_number(name: str) -> int:
    """A set's key in the kernel: 64 bits of its name's hash, so that every node and every life agrees without talking."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")
