"""Which backends are probed and how, when one is down, and for how long a flapping one is left alone: no clock.

Times are milliseconds of any clock that only ever goes forward; they arrive as integers.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from weir.decider import Change, Index, World
from weir.events import AnyEvent, BackendsPlanned, BackendsWithdrawn, EndpointDown, EndpointUp, FrontendPlanned, FrontendWithdrawn, key_of
from weir.model import Probe, Protocol
from weir.pins import PROTOCOLS

TIMEOUT_LEAST_MS = 100
CALM_MS = 60_000  # without a death: one flap is forgiven
FLAPS_MOST = 8
HOLD_MOST_S = 60
TICK_MS = 20
_ASKS_MOST = ("https", "http", "tcp", "ping")
HEARS = (FrontendPlanned, BackendsPlanned, EndpointDown)


class Target(NamedTuple):
    """A backend to probe, once however many frontends it serves."""

    address: str
    port: int
    protocol: Protocol


class Streak(NamedTuple):
    """What the last probes of a backend said.  against: how many in a row spoke against `up`."""

    up: bool
    against: int = 0
    flaps: int = 0  # deaths that followed upon one another
    free_ms: int = 0  # when the hold of the last death ends

    @property
    def held_s(self) -> int:
        """The hold of the last death: none for the first, then 1, 2, 4 … s."""
        return min(1 << self.flaps - 2, HOLD_MOST_S) if self.flaps > 1 else 0


def _set_of(event: AnyEvent) -> Iterable[str]:
    match event:
        case FrontendPlanned(sets=sets, probe=Probe()):
            return (part.name for part in sets)
        case BackendsPlanned(set=name):
            return (name,)
    return ()


INDEXES: Mapping[str, Index] = {"set": _set_of}


class Wanted:
    """Every backend that a frontend wants probed, kept in step with the plan; of chunks that nobody probes it holds nothing."""

    def __init__(self, world: World) -> None:
        self._of_chunk: dict[str, dict[Target, Probe]] = {}
        self._wishes: dict[Target, dict[str, Probe]] = {}  # by chunk
        for name in sorted({part.name for frontend in world.of(FrontendPlanned) if frontend.probe for part in frontend.sets}):
            for chunk in world.find("set", name, BackendsPlanned):
                self._take(key_of(chunk), _of_chunk(world, key_of(chunk)))

    def learn(self, world: World, changes: Iterable[Change]) -> dict[Target, Probe | None]:
        """What `changes`, which the world holds already, make of the targets they touch; None: not to be probed any more.

        Costs what the touched chunks cost, however many there are beside them.
        """
        touched: dict[Target, None] = {}
        for chunk in {chunk: None for change in changes for chunk in _chunks(world, change)}:
            touched |= dict.fromkeys(self._take(chunk, _of_chunk(world, chunk)))
        return {target: self.probe(target) for target in touched}

    def targets(self) -> Iterable[Target]:
        """All of them."""
        return self._wishes.keys()

    def probe(self, target: Target) -> Probe | None:
        """How `target` is probed: of several wishes the most frequent, then the one that asks for more than a connection."""
        wishes = self._wishes.get(target)
        return min(wishes.values(), key=_eagerness) if wishes else None

    def _take(self, chunk: str, new: dict[Target, Probe]) -> Iterable[Target]:
        """Records what `chunk` wants now; gives the targets of which that is news."""
        old = self._of_chunk.pop(chunk, {})
        if new:
            self._of_chunk[chunk] = new
        changed = [target for target in {**old, **new} if old.get(target) != new.get(target)]
        for target in changed:
            wishes = self._wishes.setdefault(target, {})
            if target in new:
                wishes[chunk] = new[target]
            else:
                del wishes[chunk]
            if not wishes:
                del self._wishes[target]
        return changed


def _chunks(world: World, change: Change) -> Iterable[str]:
    """Keys of the chunks whose probing may differ after `change`."""
    event, before = change.fact.event, change.before
    match event:
        case BackendsPlanned() | BackendsWithdrawn():
            return (change.key,)
        case FrontendPlanned() | FrontendWithdrawn():
            names = {name for name, _ in _probing(event) ^ _probing(before)}
            return [key_of(chunk) for name in sorted(names) for chunk in world.find("set", name, BackendsPlanned)]
    return ()


def _probing(event: AnyEvent | None) -> set[tuple[str, Probe]]:
    """The sets that `event` wants probed, and how."""
    probe = event.probe if isinstance(event, FrontendPlanned) else None
    return {(part.name, probe) for part in event.sets} if isinstance(event, FrontendPlanned) and probe else set()


def _of_chunk(world: World, key: str) -> dict[Target, Probe]:
    chunk = world.get(key)
    if not isinstance(chunk, BackendsPlanned) or chunk.protocol not in PROTOCOLS:
        return {}
    probes = [frontend.probe for frontend in world.find("set", chunk.set, FrontendPlanned) if frontend.probe]
    if not probes:
        return {}
    probe = min(probes, key=_eagerness)
    return {Target(backend.address, backend.port, chunk.protocol): probe for backend in chunk.backends}


def _eagerness(probe: Probe) -> tuple[int, int, int, int, str, str, str]:
    return probe.interval_s, probe.retries, _rank(probe.kind), probe.port, probe.path, probe.host, probe.expect


def _rank(kind: str) -> int:
    """The one that asks for more comes first; kinds of later versions, which nobody here can probe, last."""
    return _ASKS_MOST.index(kind) if kind in _ASKS_MOST else len(_ASKS_MOST)


def planned(world: World) -> bool:
    """Whether there is any plan at all."""
    return bool(world.of(FrontendPlanned))


def step(streak: Streak, *, good: bool, probe: Probe, now_ms: int) -> tuple[Streak, bool]:
    """The streak after one probe, and whether the backend just turned: `retries` in a row are needed either way."""
    if good == streak.up:
        return streak._replace(against=0), False
    if streak.against + 1 < probe.retries:
        return streak._replace(against=streak.against + 1), False
    return streak._replace(up=True, against=0) if good else _died(streak, now_ms), True


def _died(streak: Streak, now_ms: int) -> Streak:
    """Down, and held down twice as long as the last time unless it was calm in between.

    A penalty per flap that decays with time and suppresses up to a ceiling: RFC 2439, section 4.2, in whole steps.
    So in T seconds a backend dies at most 9 + 2 * T / 60 times, and one that is steady again is up within 60 s and its thresholds.
    """
    calm = max(0, now_ms - streak.free_ms) // CALM_MS
    held = Streak(up=False, flaps=min(max(0, streak.flaps - calm) + 1, FLAPS_MOST))
    return held._replace(free_ms=now_ms + held.held_s * 1000)


def wait_ms(streak: Streak, probe: Probe, now_ms: int) -> int:
    """From the start of one probe, at `now_ms`, to that of the next: in doubt the rest of the thresholds fit into one interval.

    So a dead backend is out within two intervals, whenever in between it died.  While it is held it is not asked at all.
    """
    return max(probe.interval_s * 1000 // (probe.retries if streak.against else 1), streak.free_ms - now_ms)


def timeout_ms(probe: Probe) -> int:
    """How long a probe may take: never longer than until the next, but never too short for a far backend."""
    return min(probe.timeout_s * 1000, max(probe.interval_s * 1000 // probe.retries, TIMEOUT_LEAST_MS))


def attended_ms(passed_ms: int) -> int:
    """Of the time since we last looked, what counts against a backend: while we were stopped or starved, nobody listened to it."""
    return min(passed_ms, 2 * TICK_MS)


def unrecorded(world: World, transitions: Iterable[EndpointDown | EndpointUp]) -> list[AnyEvent]:
    """Of `transitions`, in order, those that the log does not hold yet: each must change what came before it."""
    down: dict[str, bool] = {}
    events: list[AnyEvent] = []
    for event in transitions:
        name = key_of(event)
        is_down = isinstance(event, EndpointDown)
        if down.get(name, world.get(name) is not None) != is_down:
            events.append(event)
        down[name] = is_down
    return events
