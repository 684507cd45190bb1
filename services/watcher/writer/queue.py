"""Which objects of clusters may have to be written: marked by events of the log and by changes in the clusters themselves.

The status hooks of kinds define which events mark which objects (`Status.marks`); this queue knows no kind.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from itertools import count
from typing import Final, NamedTuple

from services.watcher.kinds.kind import Kind
from services.watcher.kinds.registry import BY_WORD, KINDS
from services.watcher.sources.kube import Kube
from services.watcher.writer.status import SETTLE_S, Mark, Marking
from weir.decider import Change, World
from weir.events import AnyEvent, Event, key_of


def _hooks() -> dict[type[Event], list[tuple[Kind, Marking]]]:
    found: defaultdict[type[Event], list[tuple[Kind, Marking]]] = defaultdict(list)
    for kind in KINDS:
        for event, hook in (kind.status.marks if kind.status else {}).items():
            found[event].append((kind, hook))
    return dict(found)


_HOOKS: Final = _hooks()
HEARS: Final = tuple(_HOOKS)  # the events that mark objects


class Target(NamedTuple):
    """One object of a cluster."""

    cluster: str  # Kube.scope
    kind: str
    namespace: str  # as the cluster names it
    name: str


class Marks:
    """The marked objects, each once.  Of those that are due, urgent kinds come first.

    clusters: those followed, by scope; each adds itself.   world: the log as of the last call of `heard`.
    """

    def __init__(self) -> None:
        self.clusters: dict[str, Kube] = {}
        self.world = World()
        self._queue: asyncio.PriorityQueue[tuple[bool, int, Target]] = asyncio.PriorityQueue()
        self._numbers = count()
        self._marked: dict[Target, asyncio.TimerHandle] = {}

    async def next(self) -> Target:
        """Return the next object that is due; it may be marked again from now on."""
        *_, target = await self._queue.get()
        del self._marked[target]
        return target

    def mark(self, target: Target, delay_s: float = SETTLE_S) -> None:
        """Make an object due after `delay_s`, or sooner where it already is to be.  Ignores clusters that are not followed."""
        if target.cluster not in self.clusters:
            return
        due = asyncio.get_running_loop().time() + delay_s
        timer = self._marked.get(target)
        if timer and timer.when() <= due:
            return
        if timer:
            timer.cancel()
        self._marked[target] = asyncio.get_running_loop().call_later(delay_s, self._due, target)

    def _due(self, target: Target) -> None:
        status = BY_WORD[target.kind].status
        self._queue.put_nowait((not (status and status.urgent), next(self._numbers), target))

    @property
    def home(self) -> str:
        """The scope of the home cluster, where LB nodes are reported; "" where it is not followed any more."""
        return next((cluster.scope for cluster in self.clusters.values() if not cluster.source), "")

    # ── from clusters: `Listener` of kube.py ───────────────────────────────────────────────────────────────────────

    def follows(self, cluster: Kube) -> None:
        """Add a cluster."""
        self.clusters[cluster.scope] = cluster

    def changed(self, cluster: Kube, kind: str, namespace: str, name: str) -> None:
        """Mark an object that changed in its cluster."""
        self.mark(Target(cluster.scope, kind, namespace, name))

    def listed(self, cluster: Kube) -> None:
        """Mark every object that may have to be written there, also those that it should have and does not."""
        for unit in cluster.seen:
            kind, *where = unit.removeprefix(cluster.scope + "/").split("/")
            namespace, name = where if len(where) == 2 else ("", where[0])
            for each in KINDS:
                if each.word == kind or (each.status and each.status.beside == kind):
                    self.mark(Target(cluster.scope, each.word, namespace, name))
        for each in KINDS:
            for mark in each.status.missing(self.world) if each.status and each.status.missing else ():
                target = self._target(each, mark)
                if target.cluster == cluster.scope:
                    self.mark(target)

    # ── from the log ───────────────────────────────────────────────────────────────────────────────────────────────

    async def heard(self, world: World, changes: Sequence[Change] | None, _: int) -> None:
        """Take events of the log; None: everything may be new."""
        self.world = world
        if changes is None:
            for cluster in self.clusters.values():
                self.listed(cluster)
        for change in changes or ():
            for event in (change.before, change.fact.event):
                if event:
                    self._mark_for(event, change.before)

    def appending(self, events: Sequence[AnyEvent]) -> None:
        """Take events that this process is about to append: it does not receive them from the log."""
        for event in events:
            self._mark_for(event, self.world.get(key_of(event)))

    def _mark_for(self, event: AnyEvent, before: AnyEvent | None) -> None:
        for kind, hook in _HOOKS.get(type(event), ()):
            for mark in hook(self.world, event, before):
                self.mark(self._target(kind, mark), mark.delay_s)

    def _target(self, kind: Kind, mark: Mark) -> Target:
        return Target(f"@{mark.source}" if mark.source else self.home, kind.word, mark.namespace, mark.name)
