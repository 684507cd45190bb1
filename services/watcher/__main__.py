"""watcher: what the cluster or a folder of manifests says, as facts."""

import gc
from functools import partial

from services.watcher.core import HEARS, Watcher
from services.watcher.edge import FolderSource, follow
from services.watcher.metrics import samples
from weir.exporter import exposed, of_world
from weir.service import Runner, Where, options, serve


def main() -> None:
    """Runs until SIGTERM."""
    gc.set_threshold(200_000, 50, 100)  # documents are large and without cycles: looking for some takes a third of a cold start
    parser = options("watcher")
    parser.add_argument("path", nargs="+", help="a file or folder of manifests")
    chosen = parser.parse_args()
    watcher, source = Watcher(), FolderSource(chosen.path)
    counted = exposed(chosen.metrics, of_world(partial(samples, source)))
    serve(Runner("watcher", watcher, HEARS, Where(chosen.instance)), partial(follow, source, watcher.said), *counted)


if __name__ == "__main__":
    main()
