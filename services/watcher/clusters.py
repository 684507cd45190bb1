"""The clusters that are followed, and what writes into them.  Imported only where there are some: folders need no API client."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

from services.watcher.home import Home
from services.watcher.sources.api import ConfigError, configured
from services.watcher.sources.kube import Kube
from services.watcher.writer.queue import HEARS, Marks
from services.watcher.writer.writer import Writer


class Clusters:
    """All clusters, by name and kubeconfig (None: the one that this runs in).   host: see Writer.   tls: see Kube.

    Ends the process where a kubeconfig cannot be used.
    """

    marking = HEARS  # the events after which something may have to be written

    def __init__(self, kubeconfigs: Mapping[str, Path | None], host: str, *, tls: bool) -> None:
        asyncio.run(_check(kubeconfigs))
        self.marks = Marks()
        self.all = [Kube(name, kubeconfig, self.marks, tls=tls) for name, kubeconfig in kubeconfigs.items()]
        self.home = Home(self.all)
        self.writer = Writer(self.marks, host)

    def late(self) -> frozenset[str]:
        """The scopes of clusters that cannot be followed now."""
        return frozenset(cluster.scope for cluster in self.all if cluster.lost)

    def impaired(self) -> str:
        """What cannot be seen or written, in words; "" for nothing."""
        return "; ".join(filter(None, [*(cluster.unseen for cluster in self.all), self.writer.undone]))


async def _check(kubeconfigs: Mapping[str, Path | None]) -> None:
    for name, kubeconfig in kubeconfigs.items():
        try:
            await configured(kubeconfig)
        except ConfigError as error:
            sys.exit(f"weir-watcher: cluster {name}: {error}")
