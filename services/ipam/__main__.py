"""ipam: gives every exposed Service its VIPs."""

from services.ipam.core import HEARS, Ipam
from services.ipam.metrics import samples
from weir.exporter import exposed, of_world
from weir.service import Runner, Where, lease_of, options, serve


def main() -> None:
    """Runs until SIGTERM."""
    chosen = options("ipam").parse_args()
    runner = Runner("ipam", Ipam(), HEARS, Where(chosen.instance), lease=lease_of("ipam", chosen))
    serve(runner, *exposed(chosen.metrics, of_world(samples)))


if __name__ == "__main__":
    main()
