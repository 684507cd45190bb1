"""How probing goes, read off the rounds when asked."""

from collections.abc import Iterator

from services.health.rounds import Rounds
from weir.events import EndpointDown
from weir.metrics import Sample
from weir.service import Runner


def samples(rounds: Rounds, runner: Runner) -> Iterator[Sample]:
    """For `weir_backends_*` and `weir_probe*`."""
    yield Sample("weir_backends_probed", (), len(rounds.watches))
    yield Sample("weir_backends_down", (), sum(event.node == runner.node for event in runner.world.of(EndpointDown)))
    yield Sample("weir_probes_total", (), rounds.probes)
    yield Sample("weir_probes_late_total", (), rounds.probes_late)
    yield Sample("weir_probes_impossible_total", (), rounds.probes_impossible)
    yield Sample("weir_probe_lag_seconds", (), rounds.probe_lag_ms / 1000)
