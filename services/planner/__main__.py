"""planner: turns everything known into what the kernel should hold."""

from services.planner.core import HEARS, Planner
from services.planner.metrics import log_samples, samples
from weir.service.exporter import exposed, of_world
from weir.service.runner import Runner, Where, lease_of, options, serve


def main() -> None:
    """Runs until SIGTERM."""
    chosen = options("planner").parse_args()
    runner = Runner("planner", Planner(), HEARS, Where(chosen.instance), lease=lease_of("planner", chosen))
    serve(runner, *exposed(chosen.metrics, of_world(samples), log_samples))


if __name__ == "__main__":
    main()
