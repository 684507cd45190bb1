"""Which backends are probed and how, and when one is down: consecutive thresholds, no clock."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from weir.decider import Index, World
from weir.events import AnyEvent, BackendsPlanned, EndpointDown, EndpointUp, FrontendPlanned, key_of
from weir.model import Probe, Protocol

TIMEOUT_LEAST_MS = 100
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


def _set_of(event: AnyEvent) -> Iterable[str]:
    match event:
        case FrontendPlanned(backends=name, probe=Probe()) | BackendsPlanned(set=name):
            return (name,)
    return ()


INDEXES: Mapping[str, Index] = {"set": _set_of}


def targets(world: World) -> dict[Target, Probe]:
    """Every backend that a frontend wants probed; of several wishes for one the most frequent."""
    wanted: dict[Target, Probe] = {}
    for frontend in world.of(FrontendPlanned):
        if not frontend.probe:
            continue
        for chunk in world.find("set", frontend.backends, BackendsPlanned):
            for backend in chunk.backends:
                target = Target(backend.address, backend.port, chunk.protocol)
                wanted[target] = min(
                    wanted.get(target, frontend.probe), frontend.probe, key=lambda probe: (probe.interval_s, probe.retries)
                )
    return wanted


def planned(world: World) -> bool:
    """Whether there is any plan at all."""
    return bool(world.of(FrontendPlanned))


def step(streak: Streak, *, good: bool, probe: Probe) -> tuple[Streak, bool]:
    """The streak after one probe, and whether the backend just turned: `retries` in a row are needed either way."""
    if good == streak.up:
        return Streak(streak.up), False
    if streak.against + 1 < probe.retries:
        return Streak(streak.up, streak.against + 1), False
    return Streak(good), True


def wait_ms(streak: Streak, probe: Probe) -> int:
    """From the start of one probe to that of the next: in doubt the rest of the thresholds fit into one interval.

    So a dead backend is out within two intervals, whenever in between it died.
    """
    return probe.interval_s * 1000 // (probe.retries if streak.against else 1)


def timeout_ms(probe: Probe) -> int:
    """How long a probe may take: never longer than until the next, but never too short for a far backend."""
    return min(probe.timeout_s * 1000, max(probe.interval_s * 1000 // probe.retries, TIMEOUT_LEAST_MS))


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
