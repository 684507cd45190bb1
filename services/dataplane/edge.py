"""The agent of one node: hand the plan to its appliers, acknowledge what all of them hold, keep the plan on disk.

It loads no program and handles no packet: while it is stopped or frozen, the kernel forwards with what it holds.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import structlog

from services.dataplane.announce.announcements import Announcements, Shared
from services.dataplane.announce.order import Alive, NodeTable, belong, hold_back
from services.dataplane.announce.peers import Peers, peers_path
from services.dataplane.applier import Applier, Step, through
from services.dataplane.bgp.absent import NoFrr
from services.dataplane.bgp.apply import FrrApplier
from services.dataplane.core import planned
from services.dataplane.health_ports import HealthPorts
from services.dataplane.l4.forwarding import Forwarding
from services.dataplane.l4.layout import LAYOUT
from services.dataplane.l7.absent import NoProxy
from services.dataplane.l7.apply import EnvoyApplier
from services.dataplane.l7.places import admin_of, files_of
from services.dataplane.node import Node
from services.dataplane.plan_file import AppliedPlan
from services.dataplane.secrets import SecretSource, source_of
from weir.bus.identity import Identity, kinship
from weir.decider import Change, World
from weir.events import AnyEvent, AppliedThrough, key_of
from weir.lbnodes import RETIRED
from weir.model import MORE_REJECTED, Rejection
from weir.pins import Map
from weir.service.metrics import Sample
from weir.service.process import Edge
from weir.service.runner import Runner
from weir.where import Where

ACK_EVERY_S = 0.1
REJECTED_MOST = 500  # in one event
SAVE_EVERY_S = 1.0
SAVE_AGAIN_S = 10.0  # after a write to disk failed
KEPT_S = 30.0  # a plan is kept so long against a log that knows less,
CALM_S = 5.0  # and until the new plan has not grown for so long
TRY_AGAIN_S = 10.0
EXPECTED_NS = 1_500_000_000

log = structlog.get_logger()


class Agent:
    """appliers: in the order in which they apply; what one needs of another is wired here."""

    def __init__(
        self,
        where: Where,
        node: str,
        hook: str,
        interfaces: Sequence[str],
        *,
        proxy: bool = False,
        secrets: Sequence[str] = (),
        hello: bool = False,
        frr: bool = False,
    ) -> None:
        pins = where.pins / f"v{LAYOUT}"
        self._name = node
        self._applied = asyncio.Event()  # there is something to report
        self._changed = asyncio.Event()  # there is something to save
        self._withdrawn = asyncio.Event()  # and among it a VIP's withdrawal
        self.node = Node(node, hook, interfaces, Map.open(pins / "interfaces"), self._applied.set, hellos=hello)
        self._shared = _shared(where, pins, node) if hello else None
        self.l4 = Forwarding(pins, node, self._shared.peers.of if self._shared else lambda _: ())
        self.announcements = Announcements(node, self.node.interfaces, self.l4.taken, self._applied.set, self._shared)
        self.health_ports = HealthPorts(node, self.l4.rejections, self._applied.set)
        source = source_of(secrets)
        self.proxy = self._proxy(where, source) if proxy else NoProxy()
        self.routers = FrrApplier(node, where, source, self._not_served, self._applied.set) if frr else NoFrr(node)
        self._appliers: tuple[Applier, ...] = (self.l4, self.announcements, self.health_ports, self.proxy, self.routers)
        self._kinds = {event.kind for applier in self._appliers for event in applier.interested}
        self._path = where.state / "plan.json"
        self._plan = AppliedPlan(self._path)
        self._log = Identity()
        self._position = 0  # of the log, as far as it concerns this node
        self._handed = 0  # of the last step that the appliers got
        self._newest = 0  # the newest event of the plan: nothing to acknowledge beyond it
        self._acknowledged_writes = 0
        self._unsaved = ""  # why the plan is not on disk
        self._kept = False  # the log knows less than the plan we forward by
        self._kept_since_s = self._followed_s = 0.0

    def _not_served(self) -> list[Rejection]:
        return [*self.l4.rejections(), *self.proxy.rejections()]

    def _proxy(self, where: Where, source: SecretSource) -> EnvoyApplier:
        return EnvoyApplier(self._name, files_of(where), admin_of(where), source, self._applied.set)

    def start(self) -> None:
        """On a machine that just started, forward by the plan on disk, before and without the log."""
        if self._shared and not self.l4.newest:
            hold_back(self._shared.seen, time.clock_gettime_ns(time.CLOCK_MONOTONIC))
        try:
            world = self._plan.restore(whole=not self.l4.newest)  # else an earlier process left all of it in the kernel
        except (msgspec.MsgspecError, ValueError, OSError) as error:  # torn, foreign or unreadable: the log has the plan
            log.error("plan_file_unusable", path=str(self._path), reason=str(error))
            return
        if world:
            self._belong(self._plan.log)
            self._apply(Step(world, None, {}, self._plan.position))
            self.l4.recall_down(world)
            log.info("plan_restored", seq=self._plan.position, writes=self.l4.written)

    def opened(self, identity: Identity) -> None:
        """A session with this log begins."""
        self._log = identity
        self._belong(identity)

    def _belong(self, identity: Identity) -> None:
        """All nodes of one log choose backends alike, and take turns in announcing VIPs."""
        self.l4.choose_by(identity)
        if self._shared:
            belong(self._shared.seen, self._shared.peers.belong(identity.log))

    async def heard(self, world: World, changes: Sequence[Change] | None, position: int) -> None:
        """Apply what changed; everything, when `changes` is None."""
        written = self.l4.written
        if changes is None:
            if self._foreign(position):
                return
            # Compared with our own record of what was applied: a world may hold more than was handed to us.
            self._apply(Step(world, None, self._plan.facts, position))
            self._plan.replace(world, position, self._log)
            self._newest = max((world.seq(event) for event in planned(world)), default=0)
        elif self._kept:
            self._position = position  # applied all at once, when nothing more comes
            self._followed_s = time.monotonic()
            return
        elif any(change.fact.event.kind in self._kinds for change in changes):
            self._apply(Step(world, changes, {}, position))
            self._plan.hear(changes, position)
            self._newest = position
        else:
            if any(isinstance(change.fact.event, RETIRED) and change.fact.event.lbnode == self._name for change in changes):
                self._position = position
                self._applied.set()  # this node is alive, and reports itself
            return
        log.info("applied", seq=position, writes=self.l4.written - written, rejected=len(self.l4.rejections()))
        self._applied.set()
        self._changed.set()
        if self._plan.unsaved_withdrawal:
            self._withdrawn.set()

    def _foreign(self, position: int) -> bool:
        """True where the log was lost or restored, and we keep the plan that we have."""
        found = kinship(self._plan.log, self._plan.position, self._log, position) if self._plan.position else "same"
        kept, self._kept = self._kept, bool(self.l4.newest) and found != "same"
        if self._kept:
            self._position = position
            self._followed_s = time.monotonic()
            self._kept_since_s = self._kept_since_s if kept else self._followed_s
            log.error("log_is_not_the_plans", found=found, position=position, plan=self._plan.position)
            self._applied.set()  # this log may not know the node: until it knows some node's addresses it allocates none
        return self._kept

    def _apply(self, step: Step) -> None:
        for applier in self._appliers:
            applier.apply(step.of(applier.interested))
        self._position = self._handed = step.position

    def alive(self) -> Alive:
        """Return who of the LB nodes is alive and ready now; nobody where this one says no hello."""
        return self._shared.alive() if self._shared else Alive()

    def samples(self) -> Iterator[Sample]:
        """For `weir_apply_*`, `weir_map_*`, `weir_rejected`, `weir_lb_nodes*` and `weir_b*_session_up`."""
        yield from self.l4.samples()
        yield from self.routers.samples()
        alive = self.alive()
        yield Sample("weir_lb_nodes_alive", (), len(alive.alive))
        yield Sample("weir_lb_nodes_ready", (), len(alive.ready))
        yield Sample("weir_applied_position", (), self._position)
        yield Sample("weir_rejected", (), len(self.l4.rejections()) + len(self.node.rejections()))

    def impaired(self) -> str:
        """Return what this node cannot do: it could not forward by this plan after a reboot without the log."""
        return self._unsaved or self.proxy.impaired or self.routers.impaired

    @property
    def edges(self) -> tuple[Edge, ...]:
        """Its own, and those of its parts."""
        own = (self.acknowledge, self.save, self.try_again, self.give_up)
        node = (self.l4.sweep, self.l4.drain, self.node.follow_interfaces, self.node.follow_addresses)
        return *own, *node, self.announcements.follow_peers, self.health_ports.serve, self.proxy.serve, self.routers.serve

    # ── edges: each runs until the process ends ────────────────────────────────────────────────────────────────────

    async def acknowledge(self, runner: Runner) -> None:
        """Report what is applied, at most each 100 ms, and only what the log does not have yet."""
        while True:
            await self._applied.wait()
            self._applied.clear()
            announced, written = self.announcements.unrecorded(), self.l4.written
            await runner.propose(self._news, self._position)
            self.announcements.recorded(announced)
            self._acknowledged_writes = written
            await asyncio.sleep(ACK_EVERY_S)

    def _news(self, world: World) -> list[AnyEvent]:
        refused = [rejection for applier in self._appliers for rejection in applier.rejections()]
        rejected = bounded([*refused, *self.node.rejections()])
        writes = self.l4.written - self._acknowledged_writes
        applied = AppliedThrough(node=self._name, seq=self._through(), rejected=rejected, writes=writes)
        held = world.get(key_of(applied))
        differs = not isinstance(held, AppliedThrough) or held.rejected != applied.rejected or held.seq < min(self._newest, applied.seq)
        reported = (differs or self.node.joins(world)) and not self._kept  # a plan that is kept is not what this log says
        # That this node is there comes after what it holds: from here on others wait for it.
        return [
            *self.announcements.news(world),
            *([applied] if reported else []),
            *self.node.news(world),
            *self.l4.news(world),
            *self.routers.news(world),
        ]

    def _through(self) -> int:
        """Return the position that all appliers have reached: the log's, unless one of them is behind with a step.

        A VIP that a reboot would bring back may not be reassigned yet: its withdrawal counts once it is on disk.
        """
        least, unsaved = through(self._appliers), self._plan.unsaved_withdrawal
        reached = self._position if least >= self._handed else least
        return min(reached, unsaved - 1) if unsaved else reached

    async def save(self, _: Runner) -> None:
        """Keep the last plan on disk; a VIP's withdrawal soon, since its acknowledgement waits for that."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            self._withdrawn.clear()
            try:
                await asyncio.to_thread(self._plan.saving())
            except OSError as error:  # a full disk must not end what keeps the kernel up to date
                log.error("plan_not_saved", path=str(self._path), reason=str(error))
                self._unsaved = f"the plan is not saved to {self._path}: {error.strerror or error}"
                self._plan.unsaved()
                self._changed.set()
                await asyncio.sleep(SAVE_AGAIN_S)
            else:
                self._unsaved = ""
            self._applied.set()
            await asyncio.sleep(ACK_EVERY_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SAVE_EVERY_S - ACK_EVERY_S):
                    await self._withdrawn.wait()

    async def try_again(self, runner: Runner) -> None:
        """Apply again what was refused: there may be room or memory for it now, and the plan may not change for long."""
        while True:
            await asyncio.sleep(TRY_AGAIN_S)
            if self._kept or not any(applier.unfinished for applier in self._appliers):
                continue
            before, written = self.l4.rejections(), self.l4.written
            self._apply(Step(runner.world, (), {}, self._position))
            if self.l4.rejections() != before:
                log.info("applied_again", seq=self._position, writes=self.l4.written - written, rejected=len(self.l4.rejections()))
                self._applied.set()

    async def give_up(self, runner: Runner) -> None:
        """Drop a plan that a lost log left behind, once what is still requested has been planned again."""
        while True:
            await asyncio.sleep(1)
            now_s = time.monotonic()
            calm = now_s - self._kept_since_s > KEPT_S and now_s - self._followed_s > CALM_S
            if self._kept and calm and planned(runner.world):
                self._kept, self._plan, position = False, AppliedPlan(self._path), self._position
                await self.heard(runner.world, None, position)


def _shared(where: Where, pins: Path, node: str) -> Shared:
    table = NodeTable(Map.open(pins / "lb_nodes"))

    def expect(slot: int) -> None:
        """A new peer counts as ready until the hello process had time to hear it: what it may announce already is not taken from it."""
        until_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC) + EXPECTED_NS
        table.put(slot, until_ns, until_ns)

    return Shared(Peers(peers_path(where), node, expect), table, Map.open(pins / "hello_seen"))


def bounded(rejected: Sequence[Rejection]) -> tuple[Rejection, ...]:
    """Limit the rejections of one event: a full map may refuse ten thousand.  VIPs come first: theirs must not be reassigned."""
    named = sorted(rejected, key=lambda each: not each.entity.startswith("planner.planvip."))[:REJECTED_MOST]
    more = len(rejected) - len(named)
    return (*named, Rejection(entity=MORE_REJECTED, reason=f"{more} more are refused")) if more else tuple(named)
