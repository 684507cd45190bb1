"""What Weir writes into clusters: status, finalizers, objects of its own, Kubernetes Events about them.

The writer knows no kind: the status hook of each kind returns how an object should be (`Wanted`), and the writer makes it so.
Everything is applied server-side under Weir's own name, so that what others wrote stays; only differences are written.
"""

import asyncio
import random
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import msgspec
import structlog

from services.watcher.kinds.kind import Kind
from services.watcher.kinds.registry import BY_WORD
from services.watcher.kinds.seen import Seen
from services.watcher.sources.api import UNREACHABLE, ApiError
from services.watcher.sources.kube import Kube
from services.watcher.writer.backoff import Contention
from services.watcher.writer.conditions import digest
from services.watcher.writer.kube_events import NotAccepted, Notes
from services.watcher.writer.queue import Marks, Target
from services.watcher.writer.status import Json, Stating, View, Wanted
from weir.decider import World
from weir.events import AnyEvent
from weir.service.runner import Runner

FINALIZER: Final = "weir.dev/vip"
WORKERS: Final = 16
RETRY_FIRST_S, RETRY_MOST_S = 0.5, 30.0
PENDING_S: Final = 1.0  # how long a status waits that only says that nodes have not confirmed yet

log = structlog.get_logger()


class Writer:
    """Writes for all clusters.  host: VIPs are written as hostnames HOST-VIP; "" as addresses."""

    def __init__(self, marks: Marks, host: str = "") -> None:
        self._marks = marks
        self._host = host
        self._busy: set[Target] = set()
        self._retry_s: dict[Target, float] = {}
        self._contention = Contention()
        self._pending_s: dict[Target, float] = {}  # since when a status waits for nodes
        self._notes = Notes()
        self._existing: set[Target] = set()  # wanted, and there when last looked at: where it is missing, somebody deleted it
        self._refused: dict[Target, str] = {}  # what may not be written
        self._applied: dict[Target, int] = {}  # digest of what objects that are maintained were given

    # ── the queue ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self, runner: Runner) -> None:
        """Write, without end; only while this process leads."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work(runner))

    async def _work(self, runner: Runner) -> None:
        while True:
            target = await self._marks.next()
            if not runner.following:  # everything is marked again when it leads again
                continue
            if target in self._busy:
                self._marks.mark(target, RETRY_FIRST_S)
                continue
            self._busy.add(target)
            try:
                await self._look(target, runner)
            finally:
                self._busy.discard(target)

    async def _look(self, target: Target, runner: Runner) -> None:
        cluster = self._marks.clusters[target.cluster]
        if target.kind in cluster.absent or not cluster.complete:  # it is marked again when it can be written
            return
        try:
            await self._reconcile(cluster, BY_WORD[target.kind], target, runner)
        except ApiError as error:
            if error.code in (404, 409):  # deleted or replaced meanwhile: the watch will show it
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
        except (msgspec.MsgspecError, NotAccepted, *UNREACHABLE) as error:
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
        self._marks.mark(target, wait_s * random.uniform(0.8, 1.2))

    # ── one object ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _reconcile(self, cluster: Kube, kind: Kind, target: Target, runner: Runner) -> None:
        assert kind.status
        view = self._view(cluster, target)
        seen, wanted = view.seen(kind.word), kind.status.wanted(view)
        self._existing.discard(target)
        if not seen:
            self._forget(target)
        if not wanted:
            return
        if wanted.states:
            await runner.propose(partial(self._stated, wanted.states))
        elif wanted.deleted:
            if seen:
                await cluster.api.delete(cluster.path(kind, target.namespace, target.name))
        elif seen:
            self._existing.add(target)
            await self._update(cluster, kind, target, seen, wanted)
        elif wanted.created is not None:  # its status follows: it is marked as one that changed
            await self._create(cluster, kind, target, wanted.created)
            self._existing.add(target)

    def _view(self, cluster: Kube, target: Target) -> View:
        def seen(kind: str) -> Seen | None:
            return cluster.seen.get(cluster.unit(kind, target.namespace, target.name))

        found = seen(target.kind)
        return View(
            world=self._marks.world,
            seen=seen,
            before=_decoded(found) if found else {},
            existed=target in self._existing,
            unit=cluster.unit(*target[1:]),
            source=cluster.source,
            namespace=target.namespace,
            name=target.name,
            home=cluster.scope == self._marks.home,
            now=_now(),
            host=self._host,
        )

    def _stated(self, states: Stating, world: World) -> list[AnyEvent]:
        events = states(world)
        self._marks.appending(events)
        return events

    async def _update(self, cluster: Kube, kind: Kind, target: Target, seen: Seen, wanted: Wanted) -> None:
        has = FINALIZER in seen.metadata.finalizers
        if wanted.finalizer and not has and not seen.metadata.deletionTimestamp:
            await self._bind(cluster, kind, target, seen)
        if wanted.maintained and wanted.created is not None and self._applied.get(target) != digest(wanted.created):
            seen = await self._write(cluster, kind, seen, wanted.created)
            self._applied[target] = digest(wanted.created)
        if self._settles(target, settling=wanted.settling):
            return
        if wanted.status is not None:
            await self._write_status(cluster, kind, target, seen, wanted)
        self._notes.stand(target, tuple(wanted.standing))
        await self._notes.send(cluster, kind, target, seen, _now())
        if wanted.finalizer is False and has:
            await self._release(cluster, kind, seen)

    def _settles(self, target: Target, *, settling: bool) -> bool:
        """Whether the status is held back: it only waits for nodes, which mostly confirm before anybody could read it."""
        now_s = _now_s()
        since_s = self._pending_s.setdefault(target, now_s) if settling else self._pending_s.pop(target, now_s)
        if not settling or now_s - since_s >= PENDING_S:
            return False
        self._marks.mark(target, PENDING_S)
        return True

    async def _write_status(self, cluster: Kube, kind: Kind, target: Target, seen: Seen, wanted: Wanted) -> None:
        status = wanted.status or {}
        if wait_s := self._contention.wait_s(target, digest(status), _now_s()):
            self._marks.mark(target, wait_s)
            return
        self._notes.add(target, *wanted.notes)  # before the write, which may succeed though its answer is lost
        await self._write(cluster, kind, seen, {"status": status}, "status")
        if self._contention.wrote(target, digest(status), _now_s()) and kind.status and kind.status.contended:
            self._notes.add(target, kind.status.contended)

    async def _bind(self, cluster: Kube, kind: Kind, target: Target, seen: Seen) -> None:
        """Put the finalizer on.  Without it everything works, but an object deleted while nobody watches is released later."""
        ours = (target, FINALIZER)
        if wait_s := self._contention.wait_s(ours, seen.metadata.uid, _now_s()):
            self._marks.mark(target, wait_s)
            return
        try:
            await self._write(cluster, kind, seen, {"metadata": {"finalizers": [FINALIZER]}})
        except ApiError as error:
            if error.code not in (400, 403, 422):
                raise
            log.error("finalizer_refused", **target._asdict(), reason=str(error))
            self._marks.mark(target, RETRY_MOST_S)
        self._contention.wrote(ours, seen.metadata.uid, _now_s())

    async def _release(self, cluster: Kube, kind: Kind, seen: Seen) -> None:
        """Take the finalizer off, whoever put it there: one from a backup is in no field set of ours."""
        await self._write(cluster, kind, seen, {"metadata": {}})
        meta = seen.metadata
        left = cluster.seen.get(cluster.unit(kind.word, meta.namespace, meta.name))
        if left and left.metadata.uid == meta.uid and FINALIZER in left.metadata.finalizers:
            others = [each for each in left.metadata.finalizers if each != FINALIZER]
            body = {"metadata": {"resourceVersion": left.metadata.resourceVersion, "finalizers": others}}
            cluster.saw(kind, await cluster.api.merge(cluster.path(kind, meta.namespace, meta.name), body))

    def _forget(self, target: Target) -> None:
        self._applied.pop(target, None)
        self._refused.pop(target, None)
        self._pending_s.pop(target, None)
        self._retry_s.pop(target, None)
        self._notes.forget(target)
        self._contention.forget(target)
        self._contention.forget((target, FINALIZER))

    # ── requests ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _write(self, cluster: Kube, kind: Kind, seen: Seen, body: Json, part: str = "") -> Seen:
        """Apply `body` to the object that was seen; one created later under its name has another uid, and is refused."""
        meta = seen.metadata
        identity = {"name": meta.name, "uid": meta.uid} | ({"namespace": meta.namespace} if meta.namespace else {})
        whole = {"apiVersion": cluster.apis[kind.word], "kind": kind.word, **body, "metadata": {**body.get("metadata", {}), **identity}}
        now = cluster.saw(kind, await cluster.api.apply(cluster.path(kind, meta.namespace, meta.name, part), whole))
        log.info("written", cluster=cluster.name, kind=kind.word, namespace=meta.namespace, name=meta.name, part=part or "metadata")
        return now

    async def _create(self, cluster: Kube, kind: Kind, target: Target, created: Json) -> None:
        place = {"name": target.name} | ({"namespace": target.namespace} if target.namespace else {})
        metadata = {**created.get("metadata", {}), **place}
        body = {"apiVersion": cluster.apis[kind.word], "kind": kind.word, **created, "metadata": metadata}
        cluster.saw(kind, await cluster.api.apply(cluster.path(kind, target.namespace, target.name), body))


def _decoded(seen: Seen) -> Json:
    status: Any = msgspec.json.decode(seen.status)
    return status if isinstance(status, dict) else {}


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
