"""What is planned and not there yet, counted when asked; and how large the log is, which one service has to say."""

from collections.abc import Iterator

from weir.bus.client import Bus
from weir.bus.reader import LogError
from weir.bus.snapshots import SNAPSHOTS
from weir.bus.subjects import STATE, STREAM
from weir.decider import World
from weir.events import FrontendPlanned, StatusPlanned
from weir.service.metrics import Sample
from weir.service.runner import Runner


def samples(world: World) -> Iterator[Sample]:
    """For `weir_services` and `weir_frontends_planned`."""
    told = world.of(StatusPlanned)
    programmed = sum(all(condition.status for condition in each.conditions if condition.type == "Programmed") for each in told)
    yield Sample("weir_services", ("programmed",), programmed)
    yield Sample("weir_services", ("unprogrammed",), len(told) - programmed)
    yield Sample("weir_frontends_planned", (), len(world.of(FrontendPlanned)))


async def log_samples(runner: Runner) -> list[Sample]:
    """For `weir_log_*`; none while the log is away, so that an alarm can tell that from an empty one."""
    try:
        async with await Bus.connect(runner.where.nats_url(), runner.author) as bus:
            streams = {name: await bus.stream(name) for name in (STREAM, STATE, SNAPSHOTS)}
    except LogError:
        return []
    found = []
    for name, info in streams.items():
        found.append(Sample("weir_log_events", (name,), info["state"]["messages"]))
        found.append(Sample("weir_log_bytes", (name,), info["state"]["bytes"]))
        if info["config"]["max_bytes"] > 0:
            found.append(Sample("weir_log_limit_bytes", (name,), info["config"]["max_bytes"]))
    return found
