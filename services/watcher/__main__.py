"""watcher: records what clusters and folders of manifests contain, and writes status back into the clusters."""

import gc
from functools import partial
from typing import TYPE_CHECKING

from services.watcher.core import HEARS, Watcher
from services.watcher.edge import Source, follow, nobody
from services.watcher.metrics import samples
from services.watcher.options import Options, read_options
from services.watcher.presence import Presence
from services.watcher.sources.folder import FolderSource
from weir.service.exporter import exposed, of_world
from weir.service.process import serve
from weir.service.runner import Runner
from weir.where import Where

if TYPE_CHECKING:
    from services.watcher.clusters import Clusters


def main() -> None:
    """Run until SIGTERM."""
    gc.set_threshold(200_000, 50, 100)  # documents are large and without cycles: looking for some takes a third of a cold start
    options = read_options()
    clusters = _clusters(options)
    folder = FolderSource(options.path) if options.path else None
    sources: list[Source] = [*(clusters.all if clusters else ()), *([folder] if folder else [])]
    scopes = [cluster.scope for cluster in clusters.all] if clusters else []
    watcher = Watcher(
        options.settings,
        scopes + [""] * bool(folder),
        home=lambda: clusters.home.name if clusters else "",
        late=clusters.late if clusters else frozenset,
    )
    appending = clusters.marks.appending if clusters else nobody
    presence = Presence(appending)
    runner = Runner(
        "watcher",
        watcher,
        (*HEARS, *(clusters.marking if clusters else ())),
        Where(options.instance),
        heard=clusters.marks.heard if clusters else None,
        lease=options.lease("watcher"),
        listens=presence.beat,
        impaired=clusters.impaired if clusters else str,
        read=clusters.home.read if clusters else None,
    )
    following = [partial(follow, source, watcher.inventory, appending) for source in sources]
    writing = [*clusters.home.edges(), clusters.writer.run] if clusters else []
    counted = partial(samples, folder, clusters.all if clusters else (), clusters.writer if clusters else None)
    serve(runner, presence.run, *following, *writing, *exposed(options.metrics, of_world(counted)))


def _clusters(options: Options) -> "Clusters | None":
    if not options.cluster:
        return None
    from services.watcher.clusters import Clusters

    return Clusters(options.clusters, options.status_hostname, tls=options.tls)


if __name__ == "__main__":
    main()
