"""health: probes endpoints, and takes dead ones out of the kernel at once."""

from services.health.core import HEARS, INDEXES
from services.health.edge import Prober
from services.health.metrics import samples
from weir.decider import Recorder
from weir.pins import LAYOUT, Map
from weir.service.exporter import exposed
from weir.service.runner import Runner, Where, options, serve


def main() -> None:
    """Runs until SIGTERM."""
    chosen = options("health").parse_args()
    where = Where(chosen.instance)
    prober = Prober(Map.open(where.pins / f"v{LAYOUT}" / "backend_up"), chosen.node)
    runner = Runner("health", Recorder(INDEXES), HEARS, where, node=chosen.node, heard=prober.heard)
    serve(runner, prober.probe, prober.record, prober.tell_delays, *exposed(chosen.metrics, samples(prober.rounds)))


if __name__ == "__main__":
    main()
