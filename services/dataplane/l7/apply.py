"""Brings the plan for a proxy to Envoy: renders what changed, writes it in an order that leaves no request without its route and
backends, waits for Envoy's word on each file, and traces what it refuses to one entity.

Envoy needs none of this to go on serving: it runs from the files, which hold the last configuration that was written.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import structlog

from services.dataplane.l7.admin import Admin, stat
from services.dataplane.l7.certificates import Certificates, SecretSource
from services.dataplane.l7.disk import Disk
from services.dataplane.l7.judge import NoEnvoy
from services.dataplane.l7.protobuf import Files
from services.dataplane.l7.refusals import File, Refusals
from services.dataplane.l7.render import Rendered, Touched
from weir.decider import Change, World
from weir.model import Rejection

_POLL_LEAST_S, _POLL_MOST_S = 0.001, 0.05
_COUNT_AFTER_S = 0.01  # refusals are looked up then: all counters cost Envoy more than all versions
_SILENT_S = 5.0  # a version that Envoy neither took nor refused by then is reported
_AGAIN_S = 1.0

log = structlog.get_logger()


class EnvoyApplier:
    """One node's Envoy.

    applied: the sequence up to which Envoy has what is planned.   changed: called when that, or what is refused, changes.
    """

    def __init__(self, node: str, files: Files, admin: str, source: SecretSource, changed: Callable[[], None]) -> None:
        self._files, self._admin, self._changed = files, Admin(admin), changed
        self._rendered, self._disk = Rendered(node, files), Disk()
        self._refusals = Refusals(node, self._rendered, self._admin)
        self._certificates = Certificates(source, files, self._disk)
        self._refusals.good = {kind: self._disk.read(files.path(kind), kind) for kind in ("lds", "cds")}
        self._leaving: dict[str, bytes] = {}  # clusters that stay until no route names them
        self._world, self._position, self.applied = World(), 0, 0
        self._touched, self._whole, self._awake = Touched(), False, asyncio.Event()
        self._unsettled: dict[str, File] = {}  # by statistic: files whose version Envoy has not taken yet
        self._settled: dict[str, str] = {}  # the version that it took
        self._counted: tuple[int, dict[str, int]] = (0, {})  # a life of Envoy, and the versions it refused in it by statistic
        self.impaired = ""  # what this node's proxy cannot do, in words

    def take(self, world: World, changes: Sequence[Change] | None, position: int) -> None:
        """The plan is at `position` now; all of it may have changed where `changes` is None."""
        idle = self.applied == self._position and not self._touched
        self._world, self._position = world, position
        self._touched.update(Touched.all(world) if changes is None else Touched.by(world, changes))
        self._whole = self._whole or changes is None
        if self._touched or self._whole:
            self._awake.set()
        elif idle:
            self.applied = position

    def rejections(self) -> list[Rejection]:
        """What of the plan Envoy does not serve, and why."""
        return [*self._refusals.listed(self._world), *self._certificates.rejections(self._world)]

    async def serve(self) -> None:
        """Applies for ever."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_AGAIN_S if self._unsettled or self._certificates.missing else None):
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
            await self._write(world, touched)
        else:
            await self._settle()
        if not self._unsettled and self.applied != position:
            self.applied = self._position if not self._touched else position
            log.info("proxy_applied", seq=self.applied, ms=round((time.perf_counter() - begun_s) * 1000, 1))
        self._changed()
        await asyncio.to_thread(self._disk.sync)

    async def _write(self, world: World, touched: Touched) -> None:
        """Clusters come before the routes to them and go after these."""
        self._rendered.turn(world, touched)
        self._refusals.forget(world)
        await self._certificates.write(world)
        new = self._rendered.clusters
        self._leaving = {name: content for name, content in self._refusals.good["cds"].items() if name not in new}
        for name in sorted(touched.endpoints & self._rendered.endpoints.keys()):
            self._put("eds", name, [self._rendered.endpoints[name]])
        if touched.clusters or not self._disk.version(self._files.clusters()):
            self._put_whole("cds")
        await self._settle()
        for name in sorted({name for name, _ in touched.hosts} & self._rendered.hosts.keys() | self._unwritten_routes()):
            self._put("rds", name, [self._rendered.routes(name)])
        if touched.listeners or not self._disk.version(self._files.listeners()):
            self._put_whole("lds")
        await self._settle()
        if self._leaving:
            self._leaving = {}
            self._put_whole("cds")
            await self._settle()
        self._tidy(touched)

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

    def _tidy(self, touched: Touched) -> None:
        """Removes the files of what is no more; the folders whole, where the plan came whole."""
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
                return
            self.impaired = ""
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
