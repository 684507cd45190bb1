"""Brings the plan for routers to FRR: renders it, says what differs from what the daemons run, and reads it back.

FRR needs none of this to go on: it holds its sessions, and starts again from the files, which hold what was last planned.
"""

import asyncio
import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog

from services.dataplane.applier import Step
from services.dataplane.bgp.config import Statement, changes, parse, text_of
from services.dataplane.bgp.passwords import Passwords
from services.dataplane.bgp.places import DAEMONS, GROUP, config_of, socket_of
from services.dataplane.bgp.render import Wanted, concerns, names_of, planned_on, render
from services.dataplane.bgp.sessions import sessions
from services.dataplane.bgp.vty import NoAnswer, Vty
from services.dataplane.secrets import SecretSource
from weir.decider import World
from weir.events import AnyEvent, BgpSessionPlanned, BgpSessionsObserved, HomeNamed, key_of
from weir.model import Rejection, SessionState
from weir.plan import BGP_PLAN
from weir.service.runner import Runner
from weir.where import Where, write_file

_LOOK_S = 1.0
_SILENT_S = 5.0  # a daemon may take so long to start
_MOST_WORDS = 300  # characters of what a daemon says

log = structlog.get_logger()


class Refused(NamedTuple):
    """A statement that a daemon does not run, and its words for all that it refused."""

    statement: Statement
    daemon: str
    words: str


class FrrApplier:
    """One node's FRR, as a part of the node.   impaired: what it cannot do, in words.

    Until a session is planned for this node it does nothing, and FRR need not run.
    """

    interested = BGP_PLAN

    def __init__(self, node: str, where: Where, source: SecretSource, moved: Callable[[], None]) -> None:
        self._node, self._moved, self._passwords = node, moved, Passwords(source)
        self._configs = {daemon: config_of(where, daemon) for daemon in DAEMONS}
        self._daemons = {daemon: Vty(socket_of(where, daemon)) for daemon in DAEMONS}
        self._wanted: Wanted = {}
        self._behind: set[str] = set()  # daemons that have not been told of it
        self._world, self._position, self.through = World(), 0, 0
        self._needed = self._configs["bgpd"].exists()
        self._awake = asyncio.Event()
        self._refused: dict[str, list[Refused]] = {}  # by daemon
        self._silent_since_s: float | None = None
        self._states: tuple[SessionState, ...] = ()
        self.impaired = ""

    def apply(self, step: Step) -> None:
        """Hand a step to `serve`, which applies it later."""
        idle = self.through == self._position and not self._awake.is_set()
        self._world, self._position = step.world, step.position
        self._needed = self._needed or bool(self._planned())
        if self._needed and (step.changes is None or step.changes or self.unfinished):
            self._awake.set()
        elif idle:
            self.through = step.position

    def _planned(self) -> list[BgpSessionPlanned]:
        return planned_on(self._node, self._world)

    @property
    def unfinished(self) -> bool:
        """Whether FRR refused something."""
        return any(self._refused.values())

    def rejections(self) -> Sequence[Rejection]:
        """Return the sessions of which FRR does not run all that is planned."""
        if self.impaired:
            return [Rejection(entity=key_of(each), reason=self.impaired) for each in self._planned()]
        refused = [each for every in self._refused.values() for each in every]
        reasons = ((each, self._passwords.missing.get(each.session.password) or _reason(each, refused)) for each in self._planned())
        return [Rejection(entity=key_of(each), reason=why) for each, why in reasons if why]

    def news(self, world: World) -> Iterator[AnyEvent]:
        """How sessions stand, where the log has it otherwise."""
        observed = BgpSessionsObserved(node=self._node, sessions=self._states)
        held = world.get(key_of(observed))
        if held != observed and (held or self._states):
            yield observed

    async def serve(self, _: Runner) -> None:
        """Apply until the process ends; look each second how sessions stand."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S if self._needed else None):
                    await self._awake.wait()
            await self._round()

    async def _round(self) -> None:
        changed = self._awake.is_set()
        self._awake.clear()
        position, before = self._position, (self.through, self._states, self.rejections())
        try:
            home = next((event.cluster for event in self._world.of(HomeNamed)), "")
            if await self._passwords.look((each.session.password for each in self._planned()), home) or changed:
                self._plan()
            await self._tell()
            self._states = sessions(self._planned(), await self._daemons["bgpd"].show("bgp neighbors json"))
            self._silent_since_s, self.impaired = None, ""
        except (NoAnswer, msgspec.MsgspecError) as error:
            self._note_silence(str(error))
        if self._silent_since_s is None or self.impaired:
            self.through = max(self.through, position)
        if (self.through, self._states, self.rejections()) != before:
            self._moved()

    def _plan(self) -> None:
        self._wanted = render(self._node, self._world, self._passwords.found)
        self._behind = {*self._wanted}
        for daemon, path in self._configs.items():
            _save(path, text_of(self._wanted.get(daemon, ())))

    async def _tell(self) -> None:
        """Bring those daemons to what is planned that are behind, or were started again.  Raises NoAnswer."""
        for daemon, statements in self._wanted.items():
            if daemon in self._behind or not self._daemons[daemon].connected:
                self._refused[daemon] = await self._bring(daemon, statements)
                self._behind.discard(daemon)

    async def _bring(self, daemon: str, wanted: list[Statement]) -> list[Refused]:
        """Return what the daemon does not run after it.  Raises NoAnswer."""
        vty = self._daemons[daemon]
        commands = changes(parse(await vty.show("running-config")), wanted)
        if not commands:
            return []
        begun_s = time.perf_counter()
        words = await vty.configure(commands)
        log.info("routers_told", daemon=daemon, commands=len(commands), ms=round((time.perf_counter() - begun_s) * 1000, 1))
        running = set(parse(await vty.show("running-config")))
        said = self._passwords.hidden("; ".join(words))[:_MOST_WORDS]
        return [Refused(each, daemon, said) for each in wanted if each not in running]

    def _note_silence(self, reason: str) -> None:
        self._silent_since_s = self._silent_since_s or time.monotonic()
        if time.monotonic() - self._silent_since_s > _SILENT_S:
            self.impaired = reason
            self._states = tuple(SessionState(peer=each.peer, reason=reason) for each in self._planned())


def _save(path: Path, text: str) -> None:
    """For the next start of a daemon.  The file may hold a password: it is for the daemons alone."""
    if not path.exists() or path.read_text() != text:
        write_file(path, text.encode(), sync=True, secret=True)
        shutil.chown(path, group=GROUP)
        path.chmod(0o640)


def _reason(planned: BgpSessionPlanned, refused: Sequence[Refused]) -> str:
    """Why not all of a session runs: what is said of its router, by address or name, or of none in particular."""
    about = [each for each in refused if not concerns(each.statement) or concerns(each.statement) & names_of(planned)]
    return f"{about[0].daemon} does not run {about[0].statement[-1].partition(' password ')[0]!r}: {about[0].words}" if about else ""
