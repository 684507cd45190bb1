"""health: probes backends, and takes dead ones out of the kernel at once."""

from services.health.core import HEARS, INDEXES
from services.health.edge import Prober
from services.health.metrics import samples
from weir.decider import Recorder
from weir.pins import LAYOUT, Map
from weir.service.exporter import exposed
from weir.service.process import serve
from weir.service.runner import Runner
from weir.service.settings import Common, configured
from weir.where import Where


def main() -> None:
    """Run until SIGTERM."""
    settings = configured("health", Common)
    where = Where(settings.instance)
    prober = Prober(Map.open(where.pins / f"v{LAYOUT}" / "backend_up"), settings.node)
    runner = Runner("health", Recorder(INDEXES), HEARS, where, node=settings.node, heard=prober.heard)
    serve(runner, prober.probe, prober.record, prober.write_delays, *exposed(settings.metrics, samples(prober.rounds)))


if __name__ == "__main__":
    main()
