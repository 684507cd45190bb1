"""The agent that stays: applies the plan to the pinned maps, reads back, acknowledges, announces, keeps the plan on disk.

It loads no program and owns no packet: killed or frozen, the kernel forwards on with what it holds.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b

import msgspec
import structlog
from msgspec import structs

from services.dataplane.announce.arp import Announcer
from services.dataplane.core import Touched, planned
from services.dataplane.health_ports import HealthPorts
from services.dataplane.l4.apply import Applier
from services.dataplane.l4.conntrack import Drains, FlowTable
from services.dataplane.l4.kernel import MAPS
from services.dataplane.l4.layout import CLUSTER_SEED_SIZE, HOOK_WORDS, ID, INTERFACE_STACK, LAYOUT, Interface
from services.dataplane.load.interfaces import Nic, NicError, is_pattern, matching, nic
from services.dataplane.own_addresses import own_addresses, subscribe
from services.dataplane.plan_file import AppliedPlan
from weir.bus.identity import Identity, kinship
from weir.decider import Change, World
from weir.events import AnyEvent, AppliedThrough, BackendsPlanned, MapPressure, NodeSeen, VipTaken, key_of
from weir.lbnodes import RETIRED, counts
from weir.model import MORE_REJECTED, Rejection, seen_from
from weir.pins import Map, backend_key
from weir.service.metrics import Histogram, Sample
from weir.service.process import LoadAgain
from weir.service.runner import Runner
from weir.where import Where

ACK_EVERY_S = 0.1
SAVE_EVERY_S = 1.0
REJECTED_TOLD = 500
SAVE_AGAIN_S = 10.0  # after the disk took nothing
SWEEP_EVERY_S = 30.0
KEPT_S = 30.0  # a plan is kept so long against a log that knows less,
CALM_S = 5.0  # and until the new plan has not grown for so long
DRAIN_EVERY_S = 1.0
TRY_AGAIN_S = 10.0
ATTACHED_WITHIN_S = 5.0  # of an interface that came by a pattern
_RTM_GROUPS = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, IPV4_IFADDR, IPV6_IFADDR

log = structlog.get_logger()


class Agent:
    """One node's kernel and its word to the log."""

    def __init__(self, where: Where, node: str, hook: str, interfaces: Sequence[str]) -> None:
        pins = where.pins / f"v{LAYOUT}"
        self._maps = {name: Map.open(pins / name) for name in (*MAPS, "backend_up", "cluster_seed", "interfaces")}
        with Map.open(pins / "flows") as flows, Map.open(pins / "constants") as constants:
            self.flows = FlowTable(flows, constants)
        self._applier = Applier(self._maps, node)
        self._announcer = Announcer()
        self._path = where.state / "plan.json"
        self._plan = AppliedPlan(self._path)
        self._log = Identity()
        self._node, names = node, tuple(name.partition("=")[0] for name in interfaces)
        self._interfaces = tuple(name for name in names if not is_pattern(name))  # where VIPs are announced
        self._patterns = tuple(filter(is_pattern, names))
        self._seen = NodeSeen(node=node, hook=hook, layout=LAYOUT, interfaces=(*self._interfaces, *self._patterns))
        self._own = own_addresses(node)
        self._drains = Drains()
        self._position = 0  # of the log, applied and read back
        self._newest = 0  # what the plan rests on: nothing to acknowledge beyond it
        self._writes = 0
        self._untold: list[VipTaken] = []  # to be recorded
        self._absent: dict[str, str] = {}  # interfaces that cannot be used, and why
        self._bare_since_s: dict[str, float] = {}  # those that came by a pattern, and have no program yet
        self._unsaved = ""  # why the plan is not on disk
        self._kept = False  # the log knows less than the plan we forward by
        self._kept_since_s = self._heard_s = 0.0
        self._applied = asyncio.Event()
        self._changed = asyncio.Event()
        self._withdrawn = asyncio.Event()  # a VIP, and the disk does not know it
        self.health_ports = HealthPorts(node, self._applier.rejections, self._applied.set)
        self._apply_s = Histogram()
        self._written = 0  # map entries, in this life

    def start(self) -> None:
        """On a machine that just started: forward from the plan on disk, before and without the log."""
        try:
            world = self._plan.restore(whole=not self._applier.newest)  # an earlier life left all of it in the kernel
        except (msgspec.MsgspecError, ValueError, OSError) as error:  # torn, foreign, or not to be read: the log tells the plan
            log.error("plan_file_unusable", path=str(self._path), reason=str(error))
            return
        if world:
            self._choose_by(self._plan.log)
            outcome = self._applier.apply_all(world)
            self._recall_down(world)
            self._announce(outcome.announced)
            self.health_ports.heard(world)
            log.info("plan_restored", seq=self._plan.position, writes=outcome.writes)

    def _recall_down(self, world: World) -> None:
        """Without a log nobody is told whom to probe: who was dead before the machine stopped stays so until it can be asked."""
        for chunk in world.of(BackendsPlanned):
            for backend in chunk.backends:
                if seen_from(self._node, backend) == "down":
                    self._maps["backend_up"].put(backend_key(backend.address, backend.port, chunk.protocol), b"\0")

    def opened(self, log: Identity) -> None:
        """A session with this log begins."""
        self._log = log
        self._choose_by(log)

    def _choose_by(self, log: Identity) -> None:
        """Nodes of one log choose backends alike, and nobody outside can tell how (flow_hash in select.h)."""
        seed = blake2b(log.log.encode(), digest_size=CLUSTER_SEED_SIZE).digest()
        if self._maps["cluster_seed"].get(bytes(4)) != seed:
            self._maps["cluster_seed"].put(bytes(4), seed)

    async def heard(self, world: World, changes: Sequence[Change] | None, position: int) -> None:
        """Applies what changed; everything, when `changes` is None."""
        begun_s = time.perf_counter()
        if changes is None:
            found = kinship(self._plan.log, self._plan.position, self._log, position) if self._plan.position else "same"
            kept, self._kept = self._kept, bool(self._applier.newest) and found != "same"
            if self._kept:  # the log was lost or restored; we keep what we have
                self._position = position
                self._heard_s = time.monotonic()
                self._kept_since_s = self._kept_since_s if kept else self._heard_s
                log.error("log_is_not_the_plans", found=found, position=position, plan=self._plan.position)
                self._applied.set()  # this log may not know the node: until it knows some node's addresses it allocates none
                return
            # Only the first time everything: a session that begins anew must not cost a full pass over the kernel.
            # What was applied is asked of our own record: a world may have heard more than was told here.
            touched = Touched.between(self._plan.facts, world) if self._plan.facts else None
            outcome = self._applier.apply(world, touched) if touched is not None else self._applier.apply_all(world)
            self._plan.replace(world, position, self._log)
            self._newest = max((world.seq(event) for event in planned(world)), default=0)
        elif self._kept:
            self._position = position  # applied all at once, when nothing more comes
            self._heard_s = time.monotonic()
            return
        else:
            touched = Touched.by(world, changes)
            if not touched:
                if any(isinstance(change.fact.event, RETIRED) and change.fact.event.lbnode == self._node for change in changes):
                    self._position = position
                    self._applied.set()  # we are alive, and say so
                return
            outcome = self._applier.apply(world, touched)
            self._plan.hear(changes, position)
            self._newest = position
        self._position = position
        self._writes += outcome.writes
        self._written += outcome.writes
        self._apply_s.observe(time.perf_counter() - begun_s)
        self._announce(outcome.announced)
        self.health_ports.heard(world)
        log.info("applied", seq=position, writes=outcome.writes, rejected=len(self._applier.rejections()))
        self._applied.set()
        self._changed.set()
        if self._plan.unsaved_withdrawal:
            self._withdrawn.set()

    def samples(self) -> Iterator[Sample]:
        """What applying came to."""
        yield Sample("weir_apply_seconds", (), self._apply_s)
        yield Sample("weir_map_writes_total", (), self._written)
        yield Sample("weir_applied_position", (), self._position)
        yield Sample("weir_rejected", (), len(self._applier.rejections()) + len(self._absent))
        for name, (used, most) in self._applier.used().items():
            yield Sample("weir_map_entries", (name,), used)
            yield Sample("weir_map_limit", (name,), most)

    def _announce(self, vips: Iterable[str]) -> None:
        for vip in vips:
            self._untold.append(VipTaken(node=self._node, vip=vip, interfaces=self._announcer.announce(vip, self._interfaces)))

    # ── edges: each runs for the life of the process ───────────────────────────────────────────────────────────────

    def impaired(self) -> str:
        """What this node cannot do, in words: it could not forward by this plan after a reboot without the log."""
        return self._unsaved

    async def acknowledge(self, runner: Runner) -> None:
        """Says what is applied, at most each 100 ms, and only what the log does not know yet."""
        while True:
            await self._applied.wait()
            self._applied.clear()
            untold, writes = len(self._untold), self._writes
            await runner.propose(self._news, self._position)
            del self._untold[:untold]
            self._writes -= writes
            await asyncio.sleep(ACK_EVERY_S)

    def _news(self, world: World) -> list[AnyEvent]:
        absent = (Rejection(entity=f"interface {name}", reason=reason) for name, reason in sorted(self._absent.items()))
        rejected = bounded([*self._applier.rejections(), *absent, *self.health_ports.rejections()])
        through = self._outlives_a_reboot()
        applied = AppliedThrough(node=self._node, seq=through, rejected=rejected, writes=self._writes)
        held, joins = world.get(key_of(applied)), not counts(world, self._seen)
        events: list[AnyEvent] = []
        news = joins or not isinstance(held, AppliedThrough) or held.rejected != applied.rejected or held.seq < min(self._newest, through)
        if news and not self._kept:  # what is kept is not what this log says
            events.append(applied)
        if joins or world.get(key_of(self._seen)) != self._seen:  # after what it holds: from here on others wait for it
            events.append(self._seen)
        if world.get(key_of(self._own)) != self._own:
            events.append(self._own)
        for name, (used, most) in self._applier.used().items():
            pressure = MapPressure(node=self._node, map=name, used_percent=used * 10 // most * 10)
            if world.get(key_of(pressure)) != pressure and (pressure.used_percent or world.get(key_of(pressure))):
                events.append(pressure)
        return [*(taken for taken in self._untold if world.get(key_of(taken)) != taken), *events]

    def _outlives_a_reboot(self) -> int:
        """Up to where what is applied may be acknowledged: a VIP that a reboot would bring back may not be reassigned yet."""
        unsaved = self._plan.unsaved_withdrawal
        return min(self._position, unsaved - 1) if unsaved else self._position

    async def save(self, _: Runner) -> None:
        """Keeps the last plan on disk; the withdrawal of a VIP soon, as its acknowledgement waits for that."""
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
        """Writes once more what the kernel refused: there may be room or memory for it now, and the plan may not change for long."""
        while True:
            await asyncio.sleep(TRY_AGAIN_S)
            if self._kept or not self._applier.unfinished:
                continue
            before = self._applier.rejections()
            outcome = self._applier.apply(runner.world, Touched())
            self._writes += outcome.writes
            self._written += outcome.writes
            self._announce(outcome.announced)
            if self._applier.rejections() != before:
                log.info("applied_again", seq=self._position, writes=outcome.writes, rejected=len(self._applier.rejections()))
                self._applied.set()

    async def sweep(self, _: Runner) -> None:
        """Lets go of backends that left the plan, once none of their flows lives."""
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            leaving = set(self._applier.backends.lingering)  # one that leaves meanwhile may have got a flow behind the sweep
            alive, over = await asyncio.to_thread(self.flows.sweep, time.clock_gettime_ns(time.CLOCK_MONOTONIC))
            released = self._applier.backends.release(leaving, alive)
            if over or released:
                log.info("swept", flows=over, released=released, lingering=len(self._applier.backends.lingering))

    async def give_up(self, runner: Runner) -> None:
        """Lets go of a plan that a lost log left behind, once what is still asked for is planned anew."""
        while True:
            await asyncio.sleep(1)
            now_s = time.monotonic()
            calm = now_s - self._kept_since_s > KEPT_S and now_s - self._heard_s > CALM_S
            if self._kept and calm and planned(runner.world):
                self._kept, self._plan, position = False, AppliedPlan(self._path), self._position
                await self.heard(runner.world, None, position)

    async def drain(self, runner: Runner) -> None:
        """Lets flows know whose backend left, and ends those of backends whose time to leave is up."""
        while True:
            await asyncio.sleep(DRAIN_EVERY_S)
            if parted := self._applier.parted():
                await asyncio.to_thread(self.flows.part, parted)
            due = self._drains.due(self._applier.leaving(runner.world), time.monotonic())
            if due:
                gone = await asyncio.to_thread(self.flows.cut, due)
                log.info("drained", backends=len(due), flows=gone)

    async def follow_addresses(self, _: Runner) -> None:
        """Reports the addresses of this machine and its default gateways, when they change."""
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE) as netlink:
            subscribe(netlink)
            readable = asyncio.Event()
            asyncio.get_running_loop().add_reader(netlink.fileno(), readable.set)
            while True:
                own = await asyncio.to_thread(own_addresses, self._node)  # a router may have a million routes
                if own != self._own:
                    self._own = own
                    self._applied.set()
                await readable.wait()
                readable.clear()
                _drain(netlink)

    async def follow_interfaces(self, _: Runner) -> None:
        """Keeps MACs and addresses of our interfaces as the kernel has them; a lost message does no harm, each rereads all."""
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE) as netlink:
            netlink.bind((0, _RTM_GROUPS))
            readable = asyncio.Event()
            asyncio.get_running_loop().add_reader(netlink.fileno(), readable.set)
            while True:
                self._refresh_interfaces()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(ATTACHED_WITHIN_S if self._bare_since_s else None):
                        await readable.wait()
                readable.clear()
                _drain(netlink)

    def _refresh_interfaces(self) -> None:
        before, hooks, named = dict(self._absent), list[str](), list[Nic]()
        for name in self._interfaces:
            try:
                found = nic(name)
            except NicError as error:
                self._absent[name] = str(error)
                hooks.append("")
                log.warning("interface_unusable", interface=name, reason=str(error))
                continue
            self._absent.pop(name, None)
            flags = self._refresh(found)
            if flags is None:  # it came anew under the same name
                raise LoadAgain(f"{name} came anew with index {found.index}")
            hooks.append(HOOK_WORDS[flags & ~INTERFACE_STACK])
            named.append(found)
        self._look_after_passing(named)
        hooks += [HOOK_WORDS[0]] * len(self._patterns)
        # XDP in a driver sees only what comes in, and not what a backend on this machine answers.
        seen = structs.replace(self._seen, hooks=tuple(hooks), local_backends=set(hooks) <= {HOOK_WORDS[0]})
        if self._absent != before or self._seen != seen:
            self._seen = seen
            self._applied.set()

    def _look_after_passing(self, named: Sequence[Nic]) -> None:
        """Interfaces that a pattern stands for: the loader attaches them as they come; one that it does not is told after a while."""
        now_s = time.monotonic()
        found = matching(self._patterns, named)
        bare = [each.name for each in found if self._refresh(each) is None]
        self._bare_since_s = {name: self._bare_since_s.get(name, now_s) for name in bare}
        for name in self._absent.keys() - {*self._interfaces, *bare}:
            del self._absent[name]
        late = (name for name, since_s in self._bare_since_s.items() if now_s - since_s >= ATTACHED_WITHIN_S)
        self._absent |= dict.fromkeys(late, "no program is attached to it: see the loader")

    def _refresh(self, found: Nic) -> int | None:
        """The flags that tell how the loader attached it; None where it put no program there, or not yet."""
        key = ID.pack(found.index)
        held = self._maps["interfaces"].get(key)
        if held is None:
            return None
        flags = Interface.unpack(held).flags
        value = Interface(found.mac, found.v4, found.v6, flags).pack()
        if held != value:
            self._maps["interfaces"].put(key, value)
        return flags


def bounded(rejected: Sequence[Rejection]) -> tuple[Rejection, ...]:
    """A fact has a limit, and a full map may refuse ten thousand; VIPs that are stuck first, for they must not be given on."""
    named = sorted(rejected, key=lambda each: not each.entity.startswith("planner.planvip."))[:REJECTED_TOLD]
    more = len(rejected) - len(named)
    return (*named, Rejection(entity=MORE_REJECTED, reason=f"{more} more are refused")) if more else tuple(named)


def _drain(netlink: socket.socket) -> None:
    while True:
        try:
            netlink.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:  # ENOBUFS: messages were lost, and all is read anew anyway
            continue
