"""planner: turns everything known into what the kernel should hold."""

from services.planner.core import HEARS, Planner
from weir.service import Runner, Where, options, serve


def main() -> None:
    """Runs until SIGTERM."""
    chosen = options("planner").parse_args()
    serve(Runner("planner", Planner(), HEARS, Where(chosen.instance)))


if __name__ == "__main__":
    main()
