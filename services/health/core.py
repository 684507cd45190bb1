"""Which backends are probed and how, when one is down, and for how long one that flaps is not probed.  No clock.

Times are milliseconds of any clock that only ever goes forward; they arrive as integers.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from weir.decider import Change, Index, World
from weir.events import (
    AnyEvent,
    BackendsPlanned,
    BackendsWithdrawn,
    EndpointDown,
    EndpointUp,
    FrontendPlanned,
    FrontendWithdrawn,
    UpstreamPlanned,
    UpstreamWithdrawn,
    key_of,
)
from weir.model import Probe, Protocol
from weir.pins import PROTOCOLS

TIMEOUT_LEAST_MS = 100
CALM_MS = 60_000  # without a death: one flap is forgiven
FLAPS_MOST = 8
HOLD_MOST_S = 60
TICK_MS = 20
_CHECKS_MOST = ("https", "http", "tcp", "ping")
HEARS = (FrontendPlanned, UpstreamPlanned, BackendsPlanned, EndpointDown)
Entry = FrontendPlanned | UpstreamPlanned  # what refers to backend sets, of the kernel and of the proxy


class Target(NamedTuple):
    """A backend to probe, once however many frontends it serves."""

    address: str
    port: int
    protocol: Protocol


class Streak(NamedTuple):
    """The result of the last probes of a backend.   against: how many in a row contradict `up`."""

    up: bool
    against: int = 0
    flaps: int = 0  # deaths in short succession
    free_ms: int = 0  # when the hold of the last death ends

    @property
    def held_s(self) -> int:
        """Seconds without probes after the last death: none for the first, then 1, 2, 4 …"""
        return min(1 << self.flaps - 2, HOLD_MOST_S) if self.flaps > 1 else 0


def _set_of(event: AnyEvent) -> Iterable[str]:
    match event:
        case FrontendPlanned(sets=sets, probe=Probe()) | UpstreamPlanned(sets=sets, probe=Probe()):
            return (part.name for part in sets)
        case BackendsPlanned(set=name):
            return (name,)
    return ()


INDEXES: Mapping[str, Index] = {"set": _set_of}


class Wanted:
    """Every backend that a frontend or upstream wants probed, by the plan; it keeps nothing of chunks without probes."""

    def __init__(self, world: World) -> None:
        self._of_chunk: dict[str, dict[Target, Probe]] = {}
        self._wishes: dict[Target, dict[str, Probe]] = {}  # by chunk
        entries: list[Entry] = [*world.of(FrontendPlanned), *world.of(UpstreamPlanned)]
        for name in sorted({part.name for entry in entries if entry.probe for part in entry.sets}):
            for chunk in world.find("set", name, BackendsPlanned):
                self._take(key_of(chunk), _of_chunk(world, key_of(chunk)))

    def learn(self, world: World, changes: Iterable[Change]) -> dict[Target, Probe | None]:
        """Return how the targets that `changes` touch are probed now; None: no longer.  The world holds the changes already.

        Cost: by the touched chunks alone.
        """
        touched: dict[Target, None] = {}
        for chunk in {chunk: None for change in changes for chunk in _chunks(world, change)}:
            touched |= dict.fromkeys(self._take(chunk, _of_chunk(world, chunk)))
        return {target: self.probe(target) for target in touched}

    def targets(self) -> Iterable[Target]:
        """Return all targets."""
        return self._wishes.keys()

    def probe(self, target: Target) -> Probe | None:
        """Return how `target` is probed: of several requests the most frequent, then the one that checks more than a connection."""
        wishes = self._wishes.get(target)
        return min(wishes.values(), key=_eagerness) if wishes else None

    def _take(self, chunk: str, new: dict[Target, Probe]) -> Iterable[Target]:
        """Record what `chunk` wants now; return the targets for which that is a change."""
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
    """Return the keys of the chunks whose probing may differ after `change`."""
    event, before = change.fact.event, change.before
    match event:
        case BackendsPlanned() | BackendsWithdrawn():
            return (change.key,)
        case FrontendPlanned() | FrontendWithdrawn() | UpstreamPlanned() | UpstreamWithdrawn():
            names = {name for name, _ in _probing(event) ^ _probing(before)}
            return [key_of(chunk) for name in sorted(names) for chunk in world.find("set", name, BackendsPlanned)]
    return ()


def _probing(event: AnyEvent | None) -> set[tuple[str, Probe]]:
    """Return the sets that `event` wants probed, and how."""
    return {(part.name, event.probe) for part in event.sets} if isinstance(event, Entry) and event.probe else set()


def _of_chunk(world: World, key: str) -> dict[Target, Probe]:
    chunk = world.get(key)
    if not isinstance(chunk, BackendsPlanned) or chunk.protocol not in PROTOCOLS:
        return {}
    entries: list[Entry] = [*world.find("set", chunk.set, FrontendPlanned), *world.find("set", chunk.set, UpstreamPlanned)]
    probes = [entry.probe for entry in entries if entry.probe]
    if not probes:
        return {}
    probe = min(probes, key=_eagerness)
    return {Target(backend.address, backend.port, chunk.protocol): probe for backend in chunk.backends}


def _eagerness(probe: Probe) -> tuple[int, int, int, int, str, str, str]:
    return probe.interval_s, probe.retries, _rank(probe.kind), probe.port, probe.path, probe.host, probe.expect


def _rank(kind: str) -> int:
    """Return 0 for the kind that checks most; kinds of later versions, which this one cannot probe, come last."""
    return _CHECKS_MOST.index(kind) if kind in _CHECKS_MOST else len(_CHECKS_MOST)


def planned(world: World) -> bool:
    """Return whether there is any plan."""
    return bool(world.of(FrontendPlanned))


def step(streak: Streak, *, good: bool, probe: Probe, now_ms: int) -> tuple[Streak, bool]:
    """Return the streak after one probe, and whether the backend just turned: it takes `retries` in a row either way."""
    if good == streak.up:
        return streak._replace(against=0), False
    if streak.against + 1 < probe.retries:
        return streak._replace(against=streak.against + 1), False
    return streak._replace(up=True, against=0) if good else _died(streak, now_ms), True


def _died(streak: Streak, now_ms: int) -> Streak:
    """Return the streak of a backend that is down, and held down twice as long as the last time unless it was calm in between.

    A penalty per flap that decays with time and suppresses up to a ceiling: RFC 2439, section 4.2, in whole steps.
    So in T seconds a backend dies at most 9 + 2 * T / 60 times, and one that is steady again is up within 60 s and its thresholds.
    """
    calm = max(0, now_ms - streak.free_ms) // CALM_MS
    held = Streak(up=False, flaps=min(max(0, streak.flaps - calm) + 1, FLAPS_MOST))
    return held._replace(free_ms=now_ms + held.held_s * 1000)


def wait_ms(streak: Streak, probe: Probe, now_ms: int) -> int:
    """Return the time from the start of one probe, at `now_ms`, to the next: in doubt, the rest of the thresholds fit into one interval.

    So a dead backend is out within two intervals, whenever in between it died.  While it is held it is not probed.
    """
    return max(probe.interval_s * 1000 // (probe.retries if streak.against else 1), streak.free_ms - now_ms)


def timeout_ms(probe: Probe) -> int:
    """Return how long a probe may take: not longer than until the next, but long enough for a far backend."""
    return min(probe.timeout_s * 1000, max(probe.interval_s * 1000 // probe.retries, TIMEOUT_LEAST_MS))


def attended_ms(passed_ms: int) -> int:
    """Return what part of the time since the last turn counts against a backend: not the time that this process was stopped or starved."""
    return min(passed_ms, 2 * TICK_MS)


def unrecorded(world: World, transitions: Iterable[EndpointDown | EndpointUp]) -> list[AnyEvent]:
    """Return the `transitions`, in order, that the log does not have yet: each must change what came before it."""
    down: dict[str, bool] = {}
    events: list[AnyEvent] = []
    for event in transitions:
        name = key_of(event)
        is_down = isinstance(event, EndpointDown)
        if down.get(name, world.get(name) is not None) != is_down:
            events.append(event)
        down[name] = is_down
    return events
