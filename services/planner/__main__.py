"""planner: turns everything known into what the kernel should hold."""

from services.planner.core import Planner
from services.planner.metrics import log_samples, samples
from weir.service.exporter import exposed, of_world
from weir.service.process import serve
from weir.service.runner import Runner
from weir.service.settings import Replicated, configured
from weir.where import Where


def main() -> None:
    """Runs until SIGTERM."""
    settings = configured("planner", Replicated)
    core = Planner()
    runner = Runner("planner", core, core.subscribes, Where(settings.instance), lease=settings.lease("planner"))
    serve(runner, *exposed(settings.metrics, of_world(samples), log_samples))


if __name__ == "__main__":
    main()
