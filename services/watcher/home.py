"""The home cluster: the one whose names are in the log without a prefix; those of any other have its name before them ("east:shop").

It is the first cluster that this log ever followed, recorded by name: a source is identified by its name, not by the order of options.
Nothing of a cluster is observed before the log has been read, as its objects have no names in the log until then.
"""

import asyncio
from collections.abc import Sequence
from functools import partial

from services.watcher.sources.kube import Kube
from weir.decider import World
from weir.events import HomeNamed
from weir.service.process import Edge
from weir.service.runner import Runner


class HomeError(Exception):
    """The log names another cluster than the one that this process began with.  React: end; the next life of the process starts with it."""


class Home:
    """clusters: as they are given, at least one.   name: "" until the log has been read."""

    def __init__(self, clusters: Sequence[Kube]) -> None:
        self._clusters = clusters
        self._settled = asyncio.Event()
        self.name = ""

    def read(self, world: World) -> None:
        """The log was read to its head, as `world`.  Raises HomeError."""
        name = next((event.cluster for event in world.of(HomeNamed)), self._clusters[0].name)
        if self.name not in ("", name):
            raise HomeError(f"the log has the names of cluster {name} without a prefix, not those of {self.name}")
        self.name = name
        for cluster in self._clusters:
            cluster.source = "" if cluster.name == name else cluster.name
        self._settled.set()

    def edges(self) -> list[Edge]:
        """Follow each cluster, once it is known how its names stand in the log."""
        return [partial(self._follow, cluster) for cluster in self._clusters]

    async def _follow(self, cluster: Kube, runner: Runner) -> None:
        await self._settled.wait()
        await cluster.run(runner)
