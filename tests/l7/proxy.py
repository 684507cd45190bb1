"""A real Envoy, and the applier that brings plans to it, on this process's loopback."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from services.dataplane.applier import Step
from services.dataplane.core import INDEXES
from services.dataplane.l7.apply import EnvoyApplier
from services.dataplane.l7.certificates import KeyPair
from services.dataplane.l7.judge import envoy_binary
from services.dataplane.l7.protobuf import Files
from services.dataplane.secrets import Fields, SecretError
from tests.l7.plans import events
from weir.decider import Change, Fact, World
from weir.events import AnyEvent


class Secrets(dict[str, KeyPair]):
    """A source of Secrets by owner text."""

    async def read(self, owner: str, home: str) -> Fields:
        if owner not in self:
            raise SecretError(f"{owner}: not found")
        return {"tls.crt": self[owner].certificate.encode(), "tls.key": self[owner].key.encode()}


class Proxy:
    """The plan is what was told so far."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.files, self.secrets = folder, Files(str(folder / "envoy"), str(folder / "sds")), Secrets()
        self.admin, self.world, self.position = str(folder / "admin.sock"), World(INDEXES), 0
        self._progress = asyncio.Event()
        self.applier = EnvoyApplier("n1", self.files, self.admin, self.secrets, self._progress.set)
        self.envoy: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with open(self.folder / "envoy.log", "ab") as log:
            options = ("--disable-hot-restart", "--concurrency", "2", "-l", "warning")
            self.envoy = subprocess.Popen([envoy_binary(), "-c", self.files.bootstrap(), *options], stdout=log, stderr=log)

    def kill(self) -> None:
        assert self.envoy
        self.envoy.kill()
        self.envoy.wait()

    def tell(self, *found: AnyEvent) -> int:
        """These events come from the log, together; returns the position after them."""
        changes: list[Change] = []
        for event in found:
            self.position += 1
            changes.append(self.world.evolve(Fact(self.position, event)))
        self.applier.apply(Step(self.world, changes, {}, self.position))
        return self.position

    def plan(self, text: str) -> int:
        return self.tell(*events(text))

    async def applied(self, position: int, timeout_s: float = 60) -> None:
        """Envoy has the plan of that position."""
        async with asyncio.timeout(timeout_s):
            while self.applier.through < position:
                await self._progress.wait()
                self._progress.clear()

    async def planned(self, text: str) -> None:
        """Of an Envoy that runs: where it is slow to answer, it was taken for dead."""
        await self.applied(self.plan(text))
        async with asyncio.timeout(60):
            while self.applier.impaired and self.envoy and self.envoy.poll() is None:
                await asyncio.sleep(0.02)


@asynccontextmanager
async def proxy(folder: Path, *, started: bool = True) -> AsyncIterator[Proxy]:
    """A proxy without a plan.   started: Envoy runs as soon as it is needed."""
    folder.chmod(0o700)
    found = Proxy(folder)
    found.applier.apply(Step(found.world, None, {}, 0))
    applying = asyncio.ensure_future(found.applier.serve(None))  # type: ignore[arg-type]
    starting = asyncio.ensure_future(_start(found)) if started else None
    try:
        yield found
    finally:
        for task in filter(None, (applying, starting)):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if found.envoy and found.envoy.poll() is None:
            found.envoy.terminate()
            found.envoy.wait()


async def _start(found: Proxy) -> None:
    while not os.path.exists(found.files.listeners()):
        await asyncio.sleep(0.01)
    found.start()
