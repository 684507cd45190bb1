"""What Weir writes into clusters, as facts demand: status and Kubernetes Events, finalizers of Services, records, use of pools, nodes.

Everything is applied server-side under Weir's own name, so that what others wrote stays; only what differs is written.  An object that
is marked is looked at once, whatever became of it meanwhile.
"""

import asyncio
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar, Final

import msgspec
import structlog

from services.watcher.kinds.kind import Kind, Seen
from services.watcher.kinds.lbnode import LBNODE
from services.watcher.kinds.lbservice import LBSERVICE
from services.watcher.kinds.service import SERVICE
from services.watcher.kinds.vippool import VIPPOOL
from services.watcher.sources.api import UNREACHABLE, ApiError
from services.watcher.sources.kube import Kube
from services.watcher.writer.backoff import Contention
from services.watcher.writer.conditions import (
    CONTENDED,
    FINALIZER,
    Json,
    Note,
    digest,
    is_held,
    is_programmed,
    node_status,
    own,
    pool_status,
    record_status,
    same,
    service_notes,
    service_status,
)
from services.watcher.writer.kube_events import Notes, NotTold
from services.watcher.writer.queue import Marks, Target
from weir.decider import World
from weir.events import (
    AnyEvent,
    AppliedThrough,
    EndpointDown,
    EndpointSliceObserved,
    ManifestRejected,
    NodeObserved,
    NodeRetired,
    NodeSeen,
    PoolObserved,
    ServiceObserved,
    StatusPlanned,
    VipAllocated,
    key,
    object_key,
    record_key,
)
from weir.lbnodes import conflicts, counted, is_down, is_silent
from weir.model import (
    Owner,
    name_in,
    owner_of,
)
from weir.service.runner import Runner
from weir.view.services import counts

WORKERS: Final = 16
RETRY_FIRST_S, RETRY_MOST_S = 0.5, 30.0
PENDING_S: Final = 1.0  # what waits for nodes is told after so long

log = structlog.get_logger()


class Writer:
    """Writes for all clusters.  host: VIPs are told as hostnames HOST-VIP; "" as addresses."""

    hears: ClassVar = (StatusPlanned, VipAllocated, AppliedThrough, EndpointDown)  # beside what each watcher folds

    def __init__(self, clusters: Sequence[Kube], host: str = "") -> None:
        self.marks = Marks(clusters)
        self._host = host
        self._busy: set[Target] = set()
        self._retry_s: dict[Target, float] = {}
        self._contention = Contention()
        self._pending_s: dict[Target, float] = {}  # since when a status waits for nodes
        self._notes = Notes()
        self._lbnodes: set[Target] = set()  # that exist: one that is missing later was deleted by somebody
        self._runner: Runner | None = None
        self._refused: dict[Target, str] = {}  # what may not be written

    @property
    def _world(self) -> World:
        return self.marks.world

    # ── looking ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self, runner: Runner) -> None:
        """Writes, for ever; only while this process acts."""
        self._runner = runner
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work(runner))

    async def _work(self, runner: Runner) -> None:
        while True:
            target = await self.marks.next()
            if not runner.following:  # all is looked at when it acts again
                continue
            if target in self._busy:
                self.marks.mark(target, RETRY_FIRST_S)
                continue
            self._busy.add(target)
            try:
                await self._look(target)
            finally:
                self._busy.discard(target)

    async def _look(self, target: Target) -> None:
        cluster = self.marks.clusters[target.cluster]
        if target.kind in cluster.absent or not cluster.complete:  # it is marked again when it can be written
            return
        try:
            await {SERVICE.word: self._service, LBSERVICE.word: self._record, VIPPOOL.word: self._pool, LBNODE.word: self._node}[
                target.kind
            ](cluster, target)
        except ApiError as error:
            if error.code in (404, 409):  # gone, or another one by now: the watch will say which
                log.info("write_overtaken", **target._asdict(), reason=str(error))
            elif error.code in (400, 422):  # it will be refused until something else is to be written
                log.error("write_refused", **target._asdict(), reason=str(error))
            else:
                self._again(target, str(error))
                if error.forbidden:
                    self._refused[target] = str(error)
                if error.code == 401:
                    await cluster.log_in()
                return
        except (msgspec.MsgspecError, NotTold, *UNREACHABLE) as error:
            self._again(target, f"{type(error).__name__} {error}".strip())
            return
        self._retry_s.pop(target, None)
        self._refused.pop(target, None)

    @property
    def refused(self) -> int:
        """How many objects may not be written to."""
        return len(self._refused)

    @property
    def undone(self) -> str:
        """What may not be written, and why, in words; "" for nothing."""
        target, why = next(iter(self._refused.items()), (None, ""))
        if not target:
            return ""
        more = f" and {len(self._refused) - 1} more" if len(self._refused) > 1 else ""
        return f"cluster {target.cluster[1:]}: cannot write {target.kind} {'/'.join(filter(None, target[2:]))}{more}: {why}"

    def _again(self, target: Target, why: str) -> None:
        wait_s = self._retry_s.get(target, RETRY_FIRST_S)
        self._retry_s[target] = min(wait_s * 2, RETRY_MOST_S)
        log.warning("write_failed", **target._asdict(), reason=why, retry_ms=int(wait_s * 1000))
        self.marks.mark(target, wait_s * random.uniform(0.8, 1.2))

    # ── kinds ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _service(self, cluster: Kube, target: Target) -> None:
        seen = cluster.seen.get(cluster.unit(*target[1:]))
        if not seen:
            self._forget(target)
            return
        owner = owner_of(SERVICE.word, name_in(cluster.source, target.namespace), target.name)
        observed = self._world.get(object_key(owner))
        planned = self._planned(owner)
        held = is_held(self._world, owner)
        known = observed if isinstance(observed, ServiceObserved) else None
        if not planned and (not known or known.exposed):
            return  # the log does not know it yet, or nobody has decided
        if held and FINALIZER not in seen.metadata.finalizers and not seen.metadata.deletionTimestamp:
            await self._bind(cluster, target, seen)
        before = _decoded(seen)
        wanted = service_status(planned, known, before, now=_now(), host=self._host)
        if self._passes(target, planned):
            return
        ours = own(before)
        if (planned or ours["conditions"]) and not same(wanted, ours):  # an address alone is another controller's
            await self._say(cluster, target, seen, wanted, service_notes(planned, before, self._nodes()))
        await self._notes.tell(cluster, target, seen, _now())
        if not held and not planned and FINALIZER in seen.metadata.finalizers:
            await self._let_go(cluster, seen)

    async def _say(self, cluster: Kube, target: Target, seen: Seen, status: Json, notes: list[Note]) -> None:
        if wait_s := self._contention.wait_s(target, digest(status), _now_s()):
            self.marks.mark(target, wait_s)
            return
        self._notes.add(target, *notes)  # before the write: it may be carried out though its answer is lost
        await self._write(cluster, SERVICE, seen, {"status": status}, "status")
        if self._contention.wrote(target, digest(status), _now_s()):
            self._notes.add(target, CONTENDED)

    async def _bind(self, cluster: Kube, target: Target, seen: Seen) -> None:
        """Puts the finalizer on.  Without it all goes on: only a Service deleted while nobody watches is let go of later."""
        ours = (target, FINALIZER)
        if wait_s := self._contention.wait_s(ours, seen.metadata.uid, _now_s()):
            self.marks.mark(target, wait_s)
            return
        try:
            await self._write(cluster, SERVICE, seen, {"metadata": {"finalizers": [FINALIZER]}})
        except ApiError as error:
            if error.code not in (400, 403, 422):
                raise
            log.error("finalizer_refused", **target._asdict(), reason=str(error))
            self.marks.mark(target, RETRY_MOST_S)
        self._contention.wrote(ours, seen.metadata.uid, _now_s())

    def _forget(self, target: Target) -> None:
        self._refused.pop(target, None)
        self._pending_s.pop(target, None)
        self._retry_s.pop(target, None)
        self._notes.forget(target)
        self._contention.forget(target)
        self._contention.forget((target, FINALIZER))

    def _passes(self, target: Target, planned: StatusPlanned | None) -> bool:
        """Whether all that is to be told is that nodes have not read back yet: they mostly have before it could be read."""
        pending = planned is not None and any(each.type == "Programmed" and each.reason == "Pending" for each in planned.conditions)
        now_s = _now_s()
        since_s = self._pending_s.setdefault(target, now_s) if pending else self._pending_s.pop(target, now_s)
        if not pending or now_s - since_s >= PENDING_S:
            return False
        self.marks.mark(target, PENDING_S)
        return True

    async def _let_go(self, cluster: Kube, seen: Seen) -> None:
        """Takes the finalizer off, whoever put it there: one from a backup is nobody's to apply away."""
        await self._write(cluster, SERVICE, seen, {"metadata": {}})
        meta = seen.metadata
        left = cluster.seen.get(cluster.unit(SERVICE.word, meta.namespace, meta.name))
        if left and left.metadata.uid == meta.uid and FINALIZER in left.metadata.finalizers:
            others = [each for each in left.metadata.finalizers if each != FINALIZER]
            body = {"metadata": {"resourceVersion": left.metadata.resourceVersion, "finalizers": others}}
            cluster.saw(SERVICE, await cluster.api.merge(SERVICE.path(meta.namespace, meta.name), body))

    async def _record(self, cluster: Kube, target: Target) -> None:
        service = cluster.seen.get(cluster.unit(SERVICE.word, target.namespace, target.name))
        owner = owner_of(SERVICE.word, name_in(cluster.source, target.namespace), target.name)
        planned = self._planned(owner)
        seen = cluster.seen.get(cluster.unit(*target[1:]))
        observed = self._world.get(object_key(owner))
        if not service or not planned or (not planned.vips and self._returns(owner, seen)):
            unexposed = isinstance(observed, ServiceObserved) and not observed.exposed
            if seen and unexposed and not is_held(self._world, owner):
                await cluster.api.delete(LBSERVICE.path(target.namespace, target.name))
            return  # a record is also collected with its Service
        if seen and self._passes(target, planned):
            return
        if not seen:
            reference = {"apiVersion": "v1", "kind": SERVICE.word, "name": target.name, "uid": service.metadata.uid}
            seen = await self._made(cluster, LBSERVICE, target, {"ownerReferences": [reference]})
        nodes = self._nodes() if is_programmed(planned) else []
        before = _decoded(seen)
        wanted = record_status(planned, nodes, *self._counts(observed), before, _now())
        if not same(wanted, before):
            await self._write(cluster, LBSERVICE, seen, {"status": wanted}, "status")

    def _nodes(self) -> list[str]:
        """The LB nodes that hold what is programmed; a silent one does as well."""
        return [seen.node for seen in counted(self._world)]

    def _returns(self, owner: str, seen: Seen | None) -> bool:
        """Whether the addresses that a record names are to be given again: while the log has them from there, the record keeps them."""
        return bool(seen and _decoded(seen).get("vips")) and bool(self._world.get(record_key(owner)))

    def _retired(self, known: NodeSeen, world: World) -> list[AnyEvent]:
        """Somebody deleted the LBNode.  A node that is alive reports itself again, and gets another."""
        events: list[AnyEvent] = [NodeRetired(lbnode=known.node, reason="its LBNode was deleted")] if known in counted(world) else []
        self.marks.told(events)
        return events

    async def _pool(self, cluster: Kube, target: Target) -> None:
        seen = cluster.seen.get(cluster.unit(*target[1:]))
        name = name_in(cluster.source, target.name)
        pool = self._world.get(key("watcher", "vippool", "", name))
        rejected = self._world.get(key("watcher", "manifest", "", cluster.unit(*target[1:])))
        offers = pool if isinstance(pool, PoolObserved) else None
        refused = rejected if isinstance(rejected, ManifestRejected) else None
        if not seen or not (offers or refused):
            return
        before = _decoded(seen)
        wanted = pool_status(offers, refused, self._world.find("pool", name, VipAllocated), before, _now())
        if not same(wanted, before):
            await self._write(cluster, VIPPOOL, seen, {"status": wanted}, "status")

    async def _node(self, cluster: Kube, target: Target) -> None:
        known = next((each for each in counted(self._world) if each.node == target.name), None)
        applied = next((each for each in self._world.of(AppliedThrough) if each.node == target.name), None)
        seen = cluster.seen.get(cluster.unit(*target[1:]))
        if known and not seen and target in self._lbnodes and self._runner:
            self._lbnodes.discard(target)
            await self._runner.propose(partial(self._retired, known))
            return
        if not known:
            self._lbnodes.discard(target)
            if seen and cluster.scope == self.marks.home:
                await cluster.api.delete(LBNODE.path("", target.name))
            return
        seen = seen or await self._made(cluster, LBNODE, target, {})
        self._lbnodes.add(target)
        before = _decoded(seen)
        machine = self._world.get(key("watcher", "node", "", target.name))
        lost = isinstance(machine, NodeObserved) and (machine.silent or not machine.ready)
        silent, shared = is_silent(self._world, target.name), conflicts(self._world, target.name)
        wanted = node_status(known, applied, before, _now(), lost=lost, silent=silent, conflicts=shared)
        if not same(wanted, before):
            await self._write(cluster, LBNODE, seen, {"status": wanted}, "status")

    def _planned(self, owner: str) -> StatusPlanned | None:
        where = Owner.parse(owner)
        planned = self._world.get(key("planner", "status", where.space, f"{where.kind}:{where.name}"))
        return planned if isinstance(planned, StatusPlanned) else None

    def _counts(self, observed: AnyEvent | None) -> tuple[int, int]:
        if not isinstance(observed, ServiceObserved):
            return 0, 0
        slices = self._world.find("slices of", observed.root.owner, EndpointSliceObserved)
        return counts(observed, slices, self._is_down)

    def _is_down(self, address: str) -> bool:
        return is_down(self._world, self._world.find("endpoint", address, EndpointDown))

    # ── requests ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _write(self, cluster: Kube, kind: Kind, seen: Seen, body: Json, part: str = "") -> None:
        """Applies `body` to the very object that was seen; one of the same name that came after is another."""
        meta = seen.metadata
        identity = {"name": meta.name, "uid": meta.uid} | ({"namespace": meta.namespace} if meta.namespace else {})
        whole = {"apiVersion": cluster.apis[kind.word], "kind": kind.word, **body, "metadata": {**body.get("metadata", {}), **identity}}
        cluster.saw(kind, await cluster.api.apply(cluster.path(kind, meta.namespace, meta.name, part), whole))
        log.info("written", cluster=cluster.name, kind=kind.word, namespace=meta.namespace, name=meta.name, part=part or "metadata")

    async def _made(self, cluster: Kube, kind: Kind, target: Target, metadata: Json) -> Seen:
        place = {"name": target.name} | ({"namespace": target.namespace} if target.namespace else {})
        body = {"apiVersion": cluster.apis[kind.word], "kind": kind.word, "metadata": {**metadata, **place}}
        return cluster.saw(kind, await cluster.api.apply(cluster.path(kind, target.namespace, target.name), body))


def _decoded(seen: Seen) -> Json:
    status: Any = msgspec.json.decode(seen.status)
    return status if isinstance(status, dict) else {}


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
