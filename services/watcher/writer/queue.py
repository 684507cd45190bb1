"""Which objects of clusters are to be looked at, because facts or the clusters themselves say that something may have to be written."""

import asyncio
from collections.abc import Sequence
from itertools import count
from typing import Final, NamedTuple

from services.watcher.kinds.kind import Kind
from services.watcher.kinds.lbnode import LBNODE
from services.watcher.kinds.lbservice import LBSERVICE
from services.watcher.kinds.service import SERVICE
from services.watcher.kinds.vippool import VIPPOOL
from services.watcher.sources.kube import Kube
from weir.decider import Change, World
from weir.events import (
    AnyEvent,
    AppliedThrough,
    EndpointDown,
    EndpointSliceGone,
    EndpointSliceObserved,
    EndpointUp,
    ManifestAccepted,
    ManifestRejected,
    NodeAddressesObserved,
    NodeGone,
    NodeHeard,
    NodeLeft,
    NodeObserved,
    NodeRetired,
    NodeSeen,
    NodeSilent,
    PoolObserved,
    RecordGone,
    StatusPlanned,
    StatusWithdrawn,
    VipAllocated,
    VipFreed,
    VipReleased,
    key_of,
)
from weir.lbnodes import counted
from weir.model import (
    Owner,
    Root,
    source_of,
)

SETTLE_S: Final = 0.02  # what follows from one change comes as several facts
COUNT_S: Final = 5.0  # how often the count of a Service's backends is written at most


class Target(NamedTuple):
    """One object of a cluster."""

    cluster: str  # Kube.scope
    kind: str
    namespace: str  # as the cluster names it
    name: str


class Marks:
    """Marked objects, each once; of those that are due, Services first: clients wait for these.  `world`: as last heard."""

    def __init__(self, clusters: Sequence[Kube]) -> None:
        self.clusters = {cluster.scope: cluster for cluster in clusters}
        self.world = World()
        self._queue: asyncio.PriorityQueue[tuple[bool, int, Target]] = asyncio.PriorityQueue()
        self._numbers = count()
        self._marked: dict[Target, asyncio.TimerHandle] = {}
        for cluster in clusters:
            cluster.looked = self.looked
            cluster.listed = self.mark_all

    async def next(self) -> Target:
        """The next that is due; it may be marked again from now on."""
        *_, target = await self._queue.get()
        del self._marked[target]
        return target

    def mark(self, target: Target, delay_s: float = SETTLE_S) -> None:
        """It is due after `delay_s`, or sooner where it is to be sooner already.  Of a cluster that is not followed nothing is."""
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
        self._queue.put_nowait((target.kind != SERVICE.word, next(self._numbers), target))

    def looked(self, cluster: Kube, kind: str, namespace: str, name: str) -> None:
        """An object that Weir writes to became different in the cluster."""
        self.mark(Target(cluster.scope, kind, namespace, name))

    @property
    def home(self) -> str:
        """The scope of the cluster whose names stand in the log as they are, where LB nodes are told; "" where it is followed no more."""
        return next((cluster.scope for cluster in self.clusters.values() if not cluster.source), "")

    async def heard(self, world: World, changes: Sequence[Change] | None, _: int) -> None:
        """Facts came; None: everything may be new."""
        self.world = world
        if changes is None:
            for cluster in self.clusters.values():
                self.mark_all(cluster)
        for change in changes or ():
            for event in (change.before, change.fact.event):
                if event:
                    self._mark_for(event, change.before)

    def told(self, events: Sequence[AnyEvent]) -> None:
        """The watcher is about to state these, and will not hear them."""
        for event in events:
            self._mark_for(event, self.world.get(key_of(event)))

    def mark_all(self, cluster: Kube) -> None:
        """All that may have to be written there, records and nodes that it has not yet too."""
        for unit in cluster.seen:
            kind, *where = unit.removeprefix(cluster.scope + "/").split("/")
            namespace, name = where if len(where) == 2 else ("", where[0])
            target = Target(cluster.scope, kind, namespace, name)
            self.mark(target)
            if kind == SERVICE.word:
                self.mark(target._replace(kind=LBSERVICE.word))
        for seen in counted(self.world) if cluster.scope == self.home else ():
            self.mark(Target(cluster.scope, LBNODE.word, "", seen.node))

    def _mark_for(self, event: AnyEvent, before: AnyEvent | None) -> None:
        match event:
            case StatusPlanned(owner=owner) | StatusWithdrawn(owner=owner):
                self._mark_service(owner)
            case VipAllocated() | VipReleased() | VipFreed():
                for service in event.holders:
                    self._mark_service(service)
                self.mark(self._target(VIPPOOL, source_of(event.pool), "", event.pool.rpartition(":")[2]))
                if isinstance(event, VipAllocated) and event.in_use_by:
                    for seen in counted(self.world):
                        self.mark(Target(self.home, LBNODE.word, "", seen.node))
            case PoolObserved(root=root):
                self._mark_named(VIPPOOL, root)
            case ManifestRejected(root=Root(kind="VIPPool") as root):
                self._mark_named(VIPPOOL, root)
            case ManifestAccepted() if isinstance(before, ManifestRejected) and before.root:
                self._mark_named(VIPPOOL, before.root)
            case NodeSeen(node=node) | NodeAddressesObserved(node=node):
                self.mark(Target(self.home, LBNODE.word, "", node))
            case NodeSilent(lbnode=node) | NodeHeard(lbnode=node) | NodeRetired(lbnode=node) | NodeLeft(lbnode=node):
                self.mark(Target(self.home, LBNODE.word, "", node))
                for released in self.world.of(VipReleased):
                    for service in released.holders:
                        self._mark_service(service)
            case AppliedThrough(node=node, rejected=rejected) if rejected or not isinstance(before, AppliedThrough):
                self.mark(Target(self.home, LBNODE.word, "", node))
            case NodeObserved(root=root) | NodeGone(root=root):
                self.mark(Target(self.home, LBNODE.word, "", root.path))
            case RecordGone(root=root):  # until now it was kept as it is
                self.mark(self._target(LBSERVICE, root.source, root.namespace, root.name))
            case EndpointSliceObserved():
                self._mark_record(event.owner)
            case EndpointSliceGone() if isinstance(before, EndpointSliceObserved):
                self._mark_record(before.owner)
            case EndpointDown(address=address) | EndpointUp(address=address):
                for found in self.world.find("endpoint", address, EndpointSliceObserved):
                    self._mark_record(found.owner)

    def _mark_service(self, owner: str) -> None:
        self.mark(self._of(SERVICE, owner))
        self.mark(self._of(LBSERVICE, owner))

    def _mark_record(self, owner: str) -> None:
        self.mark(self._of(LBSERVICE, owner), COUNT_S)

    def _mark_named(self, kind: Kind, root: Root) -> None:
        self.mark(self._target(kind, root.source, "", root.name))

    def _of(self, kind: Kind, text: str) -> Target:
        owner = Owner.parse(text)
        return self._target(kind, owner.source, owner.namespace, owner.name)

    def _target(self, kind: Kind, source: str, namespace: str, name: str) -> Target:
        return Target(f"@{source}" if source else self.home, kind.word, namespace, name)
