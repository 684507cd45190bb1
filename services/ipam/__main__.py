"""ipam: gives every exposed Service its VIPs; and, as the one with the least to do, takes the snapshots of the log."""

from services.ipam.core import HEARS, Ipam
from services.ipam.metrics import samples
from weir.bus.snapshotter import keep_snapshots
from weir.service.exporter import exposed, of_world
from weir.service.runner import Runner, Where, lease_of, options, serve


def main() -> None:
    """Runs until SIGTERM."""
    chosen = options("ipam").parse_args()
    runner = Runner("ipam", Ipam(), HEARS, Where(chosen.instance), lease=lease_of("ipam", chosen))
    serve(runner, keep_snapshots, *exposed(chosen.metrics, of_world(samples)))


if __name__ == "__main__":
    main()
