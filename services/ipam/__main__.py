"""ipam: gives every exposed Service and every Gateway its VIPs; and, as the one with the least to do, takes the snapshots of the log."""

from services.ipam.core import SUBSCRIBES, Ipam
from services.ipam.metrics import samples
from weir.bus.snapshotter import keep_snapshots
from weir.service.exporter import exposed, of_world
from weir.service.process import serve
from weir.service.runner import Runner
from weir.service.settings import Replicated, configured
from weir.where import Where


def main() -> None:
    """Runs until SIGTERM."""
    settings = configured("ipam", Replicated)
    runner = Runner("ipam", Ipam(), SUBSCRIBES, Where(settings.instance), lease=settings.lease("ipam"))
    serve(runner, keep_snapshots, *exposed(settings.metrics, of_world(samples)))


if __name__ == "__main__":
    main()
