"""watcher: what clusters and folders of manifests say, as facts; and what follows from them, told in the clusters."""

import argparse
import asyncio
import gc
import re
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from services.watcher.core import HEARS, Watcher
from services.watcher.edge import FolderSource, Source, follow, nobody
from services.watcher.metrics import samples
from services.watcher.presence import Presence
from services.watcher.settings import ALIASES, OURS, Settings
from weir.model import (
    MODES,
    TARGETS,
)
from weir.service.exporter import exposed, of_world
from weir.service.process import lease_of, options, serve
from weir.service.runner import Runner
from weir.where import Where

if TYPE_CHECKING:
    from services.watcher.home import Home
    from services.watcher.sources.kube import Kube
    from services.watcher.writer.queue import Marks
    from services.watcher.writer.writer import Writer
    from weir.events import Event

_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")  # it stands before namespaces and names


def main() -> None:
    """Runs until SIGTERM."""
    gc.set_threshold(200_000, 50, 100)  # documents are large and without cycles: looking for some takes a third of a cold start
    chosen = given_options()
    marks = _marks() if chosen.cluster else None
    clusters = asyncio.run(_clusters(chosen.cluster, marks))
    folder = FolderSource(chosen.path) if chosen.path else None
    sources: list[Source] = [*clusters, *([folder] if folder else [])]
    home = _home(clusters)
    scopes = [cluster.scope for cluster in clusters] + [""] * bool(folder)
    watcher = Watcher(settings_of(chosen), scopes, home=lambda: home.name if home else "", late=partial(_late, clusters))
    writer = _writer(marks, chosen.status_hostname)
    told = marks.told if marks else nobody
    presence = Presence(told)
    runner = Runner(
        "watcher",
        watcher,
        (*HEARS, *_marking(marks)),
        Where(chosen.instance),
        heard=marks.heard if marks else None,
        lease=lease_of("watcher", chosen),
        listens=presence.beat,
        impaired=partial(_impaired, clusters, writer),
        read=home.read if home else None,
    )
    following = [partial(follow, source, watcher.said, told) for source in sources]
    running = home.edges() if home else []
    writing = [writer.run] if writer else []
    counted = exposed(chosen.metrics, of_world(partial(samples, folder, clusters, writer)))
    serve(runner, presence.run, *following, *running, *writing, *counted)


def given_options() -> argparse.Namespace:
    """Of the command line, and of files named there; ends the process where they say nothing to follow."""
    parser = options("watcher")
    parser.fromfile_prefix_chars = "@"
    parser.convert_arg_line_to_args = partial(_words, parser)  # type: ignore[method-assign]
    parser.epilog = "@FILE stands for the options in FILE, written as in a shell, on as many lines as you like; # begins a comment"
    parser.add_argument("path", nargs="*", help="a file or folder of manifests")
    parser.add_argument(
        "--cluster",
        action="append",
        default=[],
        metavar="NAME[=KUBECONFIG]",
        help="a cluster to follow, may be repeated; without a kubeconfig the one that this runs in",
    )
    words = f"a loadBalancerClass that is ours too, beside {OURS}; may be repeated (default: {', '.join(ALIASES)})"
    parser.add_argument("--class", dest="klass", action="append", metavar="NAME", help=words)
    parser.add_argument(
        "--default-class", action=argparse.BooleanOptionalAction, default=True, help="whether Services without a class are ours"
    )
    parser.add_argument("--mode", choices=MODES, default="default", help="lbmode of Services without one (default: %(default)s)")
    parser.add_argument("--targets", choices=TARGETS, default="endpoints", help="what serves Services that do not say it")
    parser.add_argument("--liveness", action="store_true", help="probe the backends of Services that do not say it")
    parser.add_argument("--external-ips", action="store_true", help="ask pools for the externalIPs of Services; else they are ignored")
    parser.add_argument("--status-hostname", default="", metavar="PREFIX", help="tell VIPs in clusters as hostnames PREFIX-ADDRESS")
    chosen = parser.parse_args()
    if not (chosen.path or chosen.cluster):
        parser.error("nothing to follow: expected a path, or --cluster")
    names = [word.partition("=")[0] for word in chosen.cluster]
    if wrong := [name for name in names if not _NAME.fullmatch(name) or names.count(name) > 1]:
        parser.error(f"--cluster {wrong[0]}: expected a name of small letters, digits and dashes, for each cluster another")
    return chosen


def _words(parser: argparse.ArgumentParser, line: str) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError as error:
        parser.error(f"{line!r}: {error}")


def settings_of(chosen: argparse.Namespace) -> Settings:
    """Of the options those that say how objects are read."""
    return Settings(
        classes=(OURS, *(chosen.klass or ALIASES)),
        default_class=chosen.default_class,
        mode=chosen.mode,
        targets=chosen.targets,
        liveness=chosen.liveness,
        external_ips=chosen.external_ips,
    )


async def _clusters(words: Sequence[str], marks: "Marks | None") -> "list[Kube]":
    """How each stands in the log is known once that is read: see home.py."""
    if not words:
        return []
    from services.watcher.sources.api import ConfigError, configured  # a folder needs no client
    from services.watcher.sources.kube import Kube

    clusters: list[Kube] = []
    for word in words:
        name, _, kubeconfig = word.partition("=")
        try:
            await configured(Path(kubeconfig) if kubeconfig else None)
        except ConfigError as error:
            sys.exit(f"weir-watcher: cluster {name}: {error}")
        clusters.append(Kube(name, Path(kubeconfig) if kubeconfig else None, marks))
    return clusters


def _home(clusters: "Sequence[Kube]") -> "Home | None":
    if not clusters:
        return None
    from services.watcher.home import Home

    return Home(clusters)


def _marks() -> "Marks":
    from services.watcher.writer.queue import Marks

    return Marks()


def _marking(marks: "Marks | None") -> "Sequence[type[Event]]":
    """The events that mark objects of clusters."""
    if not marks:
        return ()
    from services.watcher.writer.queue import HEARS as MARKING

    return MARKING


def _writer(marks: "Marks | None", host: str) -> "Writer | None":
    """What writes into clusters."""
    if not marks:
        return None
    from services.watcher.writer.writer import Writer

    return Writer(marks, host)


def _late(clusters: "Sequence[Kube]") -> frozenset[str]:
    return frozenset(cluster.scope for cluster in clusters if cluster.lost)


def _impaired(clusters: "Sequence[Kube]", writer: "Writer | None") -> str:
    """What cannot be seen or written, in words; "" for nothing."""
    return "; ".join(filter(None, [*(cluster.unseen for cluster in clusters), writer.undone if writer else ""]))


if __name__ == "__main__":
    main()
