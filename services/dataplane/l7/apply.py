"""Brings the plan for a proxy to Envoy: renders what changed, writes it in an order that leaves no request without its route and
backends, waits for Envoy's word on each file, and traces what it refuses to one entity.

Envoy needs none of this to go on serving: it runs from the files, which hold the last configuration that was written.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import structlog

from services.dataplane.applier import Step
from services.dataplane.l7.admin import Admin, stat
from services.dataplane.l7.bootstrap import bootstrap
from services.dataplane.l7.certificates import Certificates
from services.dataplane.l7.disk import Disk
from services.dataplane.l7.judge import NoEnvoy
from services.dataplane.l7.local_vips import LocalVips
from services.dataplane.l7.protobuf import Files
from services.dataplane.l7.refusals import File, Refusals
from services.dataplane.l7.render import Rendered, Touched
from services.dataplane.secrets import SecretSource
from weir.decider import World
from weir.events import BackendsPlanned, ListenerPlanned, key_of
from weir.model import Rejection
from weir.plan import L7_PLAN
from weir.service.runner import Runner
from weir.where import write_file

_POLL_LEAST_S, _POLL_MOST_S = 0.001, 0.008
_COUNT_AFTER_S = 0.1  # refusals are looked up then: all counters cost Envoy more than all versions
_SILENT_S = 5.0  # a version that Envoy neither took nor refused by then is reported
_AGAIN_S = 1.0

log = structlog.get_logger()


class EnvoyApplier:
    """One node's Envoy, as a part of the node.   impaired: what it cannot do, in words.

    Until a listener is planned for the first time it does nothing, and no Envoy need run.  While Envoy is dead its listeners are
    rejected, so that the rest of the plan is acknowledged.
    """

    interested = (*L7_PLAN, BackendsPlanned)
    unfinished = False  # what Envoy refused is tried again when it changes, and a Secret that is missing at intervals

    def __init__(self, node: str, files: Files, admin: str, source: SecretSource, moved: Callable[[], None]) -> None:
        self._files, self._admin, self._moved = files, Admin(admin), moved
        self._vips, self._bootstrap = LocalVips(), msgspec.json.encode(bootstrap(node, files, admin))
        self._needed = Path(files.bootstrap()).exists()
        self._rendered, self._disk = Rendered(node, files), Disk()
        self._refusals = Refusals(node, self._rendered, self._admin)
        self._certificates = Certificates(source, files, self._disk)
        self._refusals.good = {kind: self._disk.read(files.path(kind), kind) for kind in ("lds", "cds")}
        self._leaving: dict[str, bytes] = {}  # clusters that stay until no route names them
        self._world, self._position, self.through = World(), 0, 0
        self._touched, self._whole, self._awake = Touched(), False, asyncio.Event()
        self._unsettled: dict[str, File] = {}  # by statistic: files whose version Envoy has not taken yet
        self._settled: dict[str, str] = {}  # the version that it took
        self._counted: tuple[int, dict[str, int]] = (0, {})  # a life of Envoy, and the versions it refused in it by statistic
        self._dead_since_s: float | None = None
        self._reported: list[Rejection] = []
        self.impaired = ""

    def apply(self, step: Step) -> None:
        """Hand a step to `serve`, which applies it later."""
        if not self._is_needed(step.world):
            self._world, self._position, self.through = step.world, step.position, step.position
            return
        idle = self.through == self._position and not self._touched
        self._world, self._position = step.world, step.position
        self._touched.update(Touched.all(step.world) if step.changes is None else Touched.by(step.world, step.changes))
        self._whole = self._whole or step.changes is None
        if self._whole or self._touched.listeners:
            self._vips.set(vip for planned in step.world.of(ListenerPlanned) for vip in planned.vips)
        if self._touched or self._whole:
            self._awake.set()
        elif idle:
            self.through = step.position

    def _is_needed(self, world: World) -> bool:
        if not self._needed and world.of(ListenerPlanned):
            self._needed, self._whole = True, True
            for folder in (self._files.folder, self._files.secrets):
                Path(folder).mkdir(parents=True, exist_ok=True)
            Path(self._files.secrets).chmod(0o700)
            write_file(Path(self._files.bootstrap()), self._bootstrap, sync=True)
        return self._needed

    def rejections(self) -> Sequence[Rejection]:
        """Return what of the plan Envoy does not serve, and why."""
        if self._is_dead():
            return [Rejection(entity=key_of(planned), reason=self.impaired) for planned in self._world.of(ListenerPlanned)]
        return [*self._refusals.listed(self._world), *self._certificates.rejections(self._world), *self._not_local()]

    def _not_local(self) -> Iterator[Rejection]:
        for planned in self._world.of(ListenerPlanned) if self._vips.refused else ():
            for vip in self._vips.refused.keys() & {*planned.vips}:
                yield Rejection(entity=key_of(planned), reason=self._vips.refused[vip])

    async def serve(self, _: Runner) -> None:
        """Apply until the process ends."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_AGAIN_S if self._needed else None):
                    await self._awake.wait()
            await self._round()

    async def _round(self) -> None:
        self._awake.clear()
        world, position = self._world, self._position
        touched, whole = self._touched, self._whole
        self._touched, self._whole = Touched(), False
        begun_s = time.perf_counter()
        if whole:
            touched.update(self._rendered.names())  # some of it may be planned no more
        if touched or whole or self._certificates.missing:
            await self._write(world, touched, whole=whole)
        else:
            await self._look_after()
        moved = (not self._unsettled or self._is_dead()) and self.through < position
        if moved:
            self.through = self._position if not self._touched else position
            log.info("proxy_applied", seq=self.through, ms=round((time.perf_counter() - begun_s) * 1000, 1))
        rejected, self._reported = self._reported, list(self.rejections())
        if moved or rejected != self._reported:
            self._moved()
        await asyncio.to_thread(self._disk.sync)

    async def _look_after(self) -> None:
        """Whether Envoy answers, and has the listeners: a new one has read the same files."""
        version = self._disk.version(self._files.listeners())
        self._unsettled.setdefault(stat("lds"), File("lds", "", version))
        await self._settle()

    def _is_dead(self) -> bool:
        return self._dead_since_s is not None and time.monotonic() - self._dead_since_s > _SILENT_S

    async def _write(self, world: World, touched: Touched, *, whole: bool) -> None:
        """Clusters come before the routes to them and go after these."""
        self._rendered.turn(world, touched)
        self._refusals.forget(world)
        await self._certificates.write(world)
        new = self._rendered.clusters
        self._leaving = {name: content for name, content in self._refusals.good["cds"].items() if name not in new}
        for name in sorted(touched.endpoints & self._rendered.endpoints.keys()):
            self._put("eds", name, [self._rendered.endpoints[name]])
        if whole or touched.clusters:
            self._put_whole("cds")
        await self._settle()
        for name in sorted({name for name, _ in touched.hosts} & self._rendered.hosts.keys() | self._unwritten_routes()):
            self._put("rds", name, [self._rendered.routes(name)])
        if whole or touched.listeners:
            self._put_whole("lds")
        await self._settle()
        if self._leaving:
            self._leaving = {}
            self._put_whole("cds")
            await self._settle()
        self._tidy(touched, whole=whole)

    def _unwritten_routes(self) -> set[str]:
        """A listener may have chains that no virtual host is planned for: Envoy waits for their file."""
        return {name for name, hosts in self._rendered.hosts.items() if not hosts and not self._disk.version(self._files.routes(name))}

    def _put_whole(self, kind: str) -> None:
        found = self._rendered.listeners if kind == "lds" else {**self._leaving, **self._rendered.clusters}
        self._put(kind, "", [found[name] for name in sorted(found)])

    def _put(self, kind: str, name: str, resources: Iterable[bytes]) -> None:
        version = self._disk.put(self._files.path(kind, name), kind, list(resources))
        if self._settled.get(stat(kind, name)) != version:
            self._unsettled[stat(kind, name)] = File(kind, name, version)

    def _tidy(self, touched: Touched, *, whole: bool) -> None:
        """Remove the files of what is no more; where the plan came whole, also those of what an earlier agent knew."""
        if whole:
            for kind, names in (("eds", self._rendered.endpoints), ("rds", self._rendered.hosts)):
                self._disk.keep_only(f"{self._files.folder}/{kind}", [self._files.path(kind, name) for name in names])
        for name in touched.endpoints - self._rendered.endpoints.keys():
            self._disk.remove(self._files.path("eds", name))
        for name in {name for name, _ in touched.hosts} - self._rendered.hosts.keys():
            self._disk.remove(self._files.path("rds", name))

    async def _settle(self) -> None:
        """Wait until Envoy took or refused what is written; returns early where it does not answer."""
        begun_s, wait_s = time.monotonic(), _POLL_LEAST_S
        while self._unsettled:
            try:
                self._note(await self._admin.versions(self._unsettled))
                waited_s = time.monotonic() - begun_s
                if self._unsettled and waited_s > _COUNT_AFTER_S and await self._trace():
                    begun_s, wait_s = time.monotonic(), _POLL_LEAST_S
            except NoEnvoy as error:
                self.impaired = f"Envoy does not answer: {error}"
                self._dead_since_s = self._dead_since_s or time.monotonic()
                return
            self.impaired, self._dead_since_s = "", None
            if waited_s > _SILENT_S:
                self._refusals.give_up(self._unsettled.values(), f"Envoy neither took nor refused it within {_SILENT_S:.0f} s")
                self._unsettled.clear()
            await asyncio.sleep(wait_s if self._unsettled else 0)
            wait_s = min(wait_s * 2, _POLL_MOST_S)

    def _note(self, versions: Mapping[str, str]) -> None:
        """A file that nothing in Envoy reads, such as the routes of a listener that it refused, is settled with the one that would."""
        for name, file in list(self._unsettled.items()):
            reader = {"rds": stat("lds"), "eds": stat("cds")}.get(file.kind, "")
            if versions.get(name) == file.version or (name not in versions and reader and reader not in self._unsettled):
                del self._unsettled[name]
                self._settled[name] = file.version
                self._refusals.taken(file)

    async def _trace(self) -> bool:
        """Whether one of the files was refused; then it is written again without what Envoy refuses in it."""
        counts = await self._admin.refusals(self._unsettled)
        life, before = self._counted if self._counted[0] == self._admin.life else (self._admin.life, {})
        self._counted = life, {**before, **counts}
        refused = [file for name, file in self._unsettled.items() if counts[name] > before.get(name, 0)]
        for file in refused:
            log.warning("proxy_refused", kind=file.kind, name=file.name, version=file.version)
            del self._unsettled[stat(file.kind, file.name)]
            if not await self._refusals.trace(self._world, file):
                continue
            if file.kind == "rds":
                self._put("rds", file.name, [self._rendered.routes(file.name)])
            else:
                self._put_whole(file.kind)
        return bool(refused)
