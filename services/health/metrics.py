"""Metrics of probing, read from the scheduler on each scrape."""

from services.health.rounds import Rounds
from weir.events import EndpointDown
from weir.service.exporter import Source
from weir.service.metrics import Sample
from weir.service.runner import Runner


def samples(rounds: Rounds) -> Source:
    """Make the source of `weir_backends_*` and `weir_probe*`."""

    async def source(runner: Runner) -> list[Sample]:
        return [
            Sample("weir_backends_probed", (), len(rounds.watches)),
            Sample("weir_backends_down", (), sum(event.node == runner.node for event in runner.world.of(EndpointDown))),
            Sample("weir_probes_total", ("good",), rounds.probes - rounds.probes_failed),
            Sample("weir_probes_total", ("failed",), rounds.probes_failed),
            Sample("weir_probe_seconds", (), rounds.answered_s),
            Sample("weir_probes_late_total", (), rounds.probes_late),
            Sample("weir_probes_impossible_total", (), rounds.probes_impossible),
            Sample("weir_probe_lag_seconds", (), rounds.probe_lag_ms / 1000),
        ]

    return source
