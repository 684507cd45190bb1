"""Brings the plan for routers to FRR: renders it, says what differs from what the daemons run, and reads it back.

FRR needs none of this to go on: it holds its sessions, and starts again from the files, which hold what was last planned.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog

from services.dataplane.applier import Step
from services.dataplane.bgp.config import Statement, changes, parse, text_of
from services.dataplane.bgp.passwords import Passwords
from services.dataplane.bgp.places import DAEMONS, config_of, socket_of
from services.dataplane.bgp.render import Wanted, at, concerns, doubled, names_of, passwords_in, planned_on, render, unserved
from services.dataplane.bgp.sessions import sessions
from services.dataplane.bgp.vty import NoAnswer, Vty
from services.dataplane.secrets import SecretSource, home_of
from weir.decider import World
from weir.events import AnyEvent, BgpSessionPlanned, BgpSessionsObserved, key_of
from weir.model import Rejection, SessionState
from weir.plan import BGP_PLAN
from weir.service.metrics import Sample
from weir.service.runner import Runner
from weir.where import Where, write_file

_TOLD = ("bgpd", "bfdd")  # zebra has what its file says
_LOOK_S = 1.0
_SILENT_S = 5.0  # a daemon may take so long to start
_MOST_WORDS = 300  # characters of what a daemon says

log = structlog.get_logger()


Refusals = Callable[[], Sequence[Rejection]]


class Refused(NamedTuple):
    """A statement that a daemon does not run, or still runs, and its words for all that it refused."""

    statement: Statement
    fault: str  # "bgpd does not run"
    words: str


class FrrApplier:
    """One node's FRR, as a part of the node.   refused: what else on this node is refused; routers are not told of what is not served.

    Until a session is planned for this node it does nothing, and FRR need not run.
    """

    interested = BGP_PLAN

    def __init__(self, node: str, where: Where, source: SecretSource, refused: Refusals, moved: Callable[[], None]) -> None:
        self._node, self._moved, self._passwords, self._others = node, moved, Passwords(source), refused
        self._unserved: frozenset[str] = frozenset()
        self._begun = False
        self._sockets = socket_of(where, "bgpd").parent
        self._configs = {daemon: config_of(where, daemon) for daemon in DAEMONS}
        self._daemons = {daemon: Vty(socket_of(where, daemon)) for daemon in _TOLD}
        self._wanted: Wanted = {}
        self._behind: set[str] = set()  # daemons that have not been told of it
        self._world, self._position, self.through = World(), 0, 0
        self._needed = self._configs["bgpd"].exists()
        self._awake = asyncio.Event()
        self._refused: dict[str, list[Refused]] = {}  # by daemon
        self._silent_since_s: float | None = None
        self._silent = self._unsaved = ""  # why the daemons cannot be told, and why their files cannot be written
        self._states: tuple[SessionState, ...] = ()

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
    def impaired(self) -> str:
        """What it cannot do, in words."""
        return self._silent or self._unsaved

    @property
    def unfinished(self) -> bool:
        """Whether FRR refused something."""
        return any(self._refused.values())

    def rejections(self) -> Sequence[Rejection]:
        """Return the sessions of which FRR does not run all that is planned."""
        ours, refused = self._planned(), [each for every in self._refused.values() for each in every]
        reasons = [(each, self._silent or self._why_not(each, ours) or _reason(each, refused)) for each in ours]
        return [Rejection(entity=key_of(each), reason=why) for each, why in reasons if why]

    def _why_not(self, planned: BgpSessionPlanned, ours: Sequence[BgpSessionPlanned]) -> str:
        """Why FRR is told nothing of a session."""
        if first := doubled(planned, ours):
            return f"{at(planned.session)} is the router of BGPPeer {first}"
        return self._passwords.missing.get(planned.session.password, "")

    def news(self, world: World) -> Iterator[AnyEvent]:
        """How sessions stand, where the log has it otherwise."""
        observed = BgpSessionsObserved(node=self._node, sessions=self._states)
        held = world.get(key_of(observed))
        if held != observed and (held or self._states):
            yield observed

    def samples(self) -> Iterator[Sample]:
        """For `weir_bgp_session_up` and `weir_bfd_session_up`."""
        for state in self._states:
            yield Sample("weir_bgp_session_up", (state.peer,), int(state.established))
            if state.bfd:
                yield Sample("weir_bfd_session_up", (state.peer,), int(state.bfd == "up"))

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
            if not self._begun and self._planned():
                self._begun = True
                self._passwords.remember(passwords_in(self._planned(), _read(self._configs["bgpd"])))
            other = await self._passwords.look((each.session.password for each in self._planned()), home_of(self._world))
            if self._serves_others() or other or changed:
                self._plan()
            elif self._unsaved:
                self._save()
            await self._tell()
            self._states = sessions(self._planned(), await self._daemons["bgpd"].show("bgp neighbors json"))
            self._silent_since_s, self._silent = None, ""
        except (NoAnswer, msgspec.MsgspecError) as error:
            self._note_silence(str(error))
        if self._silent_since_s is None or self._silent:
            self.through = max(self.through, position)
        if (self.through, self._states, self.rejections()) != before:
            self._moved()

    def _serves_others(self) -> bool:
        """Whether this node serves other VIPs than when it last looked."""
        before, self._unserved = self._unserved, unserved(self._world, self._others())
        return self._unserved != before

    def _plan(self) -> None:
        self._wanted = render(self._node, self._world, self._passwords.found, self._unserved)
        self._behind = {*_TOLD}
        self._save()

    def _save(self) -> None:
        """A full disk must not keep the daemons from being told."""
        try:
            for daemon, path in self._configs.items():
                _write(path, text_of(self._wanted.get(daemon, ())), self._sockets.stat().st_gid)
            self._unsaved = ""
        except OSError as error:
            self._unsaved = f"{error.filename}: {error.strerror}"

    async def _tell(self) -> None:
        """Bring those daemons to what is planned that are behind, or were started again.  Raises NoAnswer."""
        for daemon in _TOLD if self._wanted else ():
            if daemon in self._behind or not self._daemons[daemon].connected:
                self._refused[daemon] = await self._bring(daemon, self._wanted[daemon])
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
        lacking = [Refused(each, f"{daemon} does not run", said) for each in wanted if each not in running]
        return lacking + [Refused(each, f"{daemon} still runs", said) for each in sorted(running - {*wanted})]

    def _note_silence(self, reason: str) -> None:
        self._silent_since_s = self._silent_since_s or time.monotonic()
        if time.monotonic() - self._silent_since_s > _SILENT_S:
            self._silent = reason
            self._states = tuple(SessionState(peer=each.peer, reason=reason) for each in self._planned())


def _write(path: Path, text: str, group: int) -> None:
    """For the next start of a daemon.  The file may hold a password: it is for the daemons alone, which are in the group."""
    if not path.exists() or path.read_text() != text:
        write_file(path, text.encode(), secret=True)
    os.chown(path, -1, group)
    path.chmod(0o640)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _reason(planned: BgpSessionPlanned, refused: Sequence[Refused]) -> str:
    """Why not all of a session runs: what is said of its router, by address or name, or of none in particular."""
    about = [each for each in refused if not concerns(each.statement) or concerns(each.statement) & names_of(planned)]
    return f"{about[0].fault} {about[0].statement[-1].partition(' password ')[0]!r}: {about[0].words}" if about else ""
