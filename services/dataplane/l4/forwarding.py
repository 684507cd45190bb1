"""L4 as a part of this node: the plan in the pinned maps, and what changes mean for existing flows.

The kernel forwards with what it holds while this process is stopped; another one continues with the ids found in the maps.
"""

import asyncio
import time
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import structlog

from services.dataplane.applier import Step
from services.dataplane.core import Touched
from services.dataplane.l4.apply import Applier, Outcome
from services.dataplane.l4.conntrack import Drains, FlowTable
from services.dataplane.l4.kernel import MAPS
from services.dataplane.l4.layout import CLUSTER_SEED_SIZE
from services.dataplane.l4.vips import Slots
from weir.bus.identity import Identity
from weir.decider import World
from weir.events import AnyEvent, BackendsPlanned, MapPressure, key_of
from weir.model import Rejection, seen_from
from weir.pins import Map, backend_key
from weir.plan import L4_PLAN
from weir.service.metrics import Histogram, Sample
from weir.service.runner import Runner

SWEEP_EVERY_S = 30.0
DRAIN_EVERY_S = 1.0

log = structlog.get_logger()


class Forwarding:
    """An applier.   pins: folder of the pinned maps.   slots: of LB nodes.   written: map entries, since this process started."""

    interested = L4_PLAN

    def __init__(self, pins: Path, node: str, slots: Slots = lambda _: ()) -> None:
        self._maps = {name: Map.open(pins / name) for name in (*MAPS, "backend_up", "cluster_seed")}
        with Map.open(pins / "flows") as flows, Map.open(pins / "constants") as constants:
            self.flows = FlowTable(flows, constants)
        self._node, self._applier = node, Applier(self._maps, node, slots)
        self._drains = Drains()
        self._taken: list[str] = []  # new VIPs that are not announced yet
        self._apply_s = Histogram()
        self.written = self.through = 0

    @property
    def newest(self) -> int:
        """The newest sequence that what the kernel holds rests on; 0 on a machine that just started."""
        return self._applier.newest

    @property
    def unfinished(self) -> bool:
        return self._applier.unfinished

    def rejections(self) -> tuple[Rejection, ...]:
        return self._applier.rejections()

    def apply(self, step: Step) -> None:
        """Write what differs, and read it back."""
        begun_s = time.perf_counter()
        outcome = self._write(step)
        self.written += outcome.writes
        self._taken += outcome.announced
        self.through = step.position
        self._apply_s.observe(time.perf_counter() - begun_s)

    def _write(self, step: Step) -> Outcome:
        if step.changes is not None:
            return self._applier.apply(step.world, Touched.by(step.world, step.changes))
        if step.before:  # a session that starts again must not cost a full pass over the kernel
            return self._applier.apply(step.world, Touched.between(step.before, step.world))
        return self._applier.apply_all(step.world)

    def taken(self) -> list[str]:
        """Return the VIPs that the kernel newly answers for, each once; not those that are a node's own address."""
        found, self._taken = self._taken, []
        return found

    def choose_by(self, identity: Identity) -> None:
        """Nodes of one log choose backends alike, and no client can predict how (flow_hash in select.h)."""
        seed = blake2b(identity.log.encode(), digest_size=CLUSTER_SEED_SIZE).digest()
        if self._maps["cluster_seed"].get(bytes(4)) != seed:
            self._maps["cluster_seed"].put(bytes(4), seed)

    def recall_down(self, world: World) -> None:
        """After a reboot without the log nothing is probed: backends that were down stay down until they can be."""
        for chunk in world.of(BackendsPlanned):
            for backend in chunk.backends:
                if seen_from(self._node, backend) == "down":
                    self._maps["backend_up"].put(backend_key(backend.address, backend.port, chunk.protocol), b"\0")

    def news(self, world: World) -> Iterator[AnyEvent]:
        """How full the maps are, where the log has it otherwise."""
        for name, (used, most) in self._applier.used().items():
            pressure = MapPressure(node=self._node, map=name, used_percent=used * 10 // most * 10)
            if world.get(key_of(pressure)) != pressure and (pressure.used_percent or world.get(key_of(pressure))):
                yield pressure

    def samples(self) -> Iterator[Sample]:
        """For `weir_apply_seconds` and `weir_map_*`."""
        yield Sample("weir_apply_seconds", (), self._apply_s)
        yield Sample("weir_map_writes_total", (), self.written)
        for name, (used, most) in self._applier.used().items():
            yield Sample("weir_map_entries", (name,), used)
            yield Sample("weir_map_limit", (name,), most)

    # ── edges: each runs until the process ends ────────────────────────────────────────────────────────────────────

    async def sweep(self, _: Runner) -> None:
        """Remove backends that left the plan once none of their flows lives."""
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            leaving = set(self._applier.backends.lingering)  # one that leaves meanwhile may have got a flow behind the sweep
            alive, over = await asyncio.to_thread(self.flows.sweep, time.clock_gettime_ns(time.CLOCK_MONOTONIC))
            released = self._applier.backends.release(leaving, alive)
            if over or released:
                log.info("swept", flows=over, released=released, lingering=len(self._applier.backends.lingering))

    async def drain(self, runner: Runner) -> None:
        """Mark flows whose backend left, and end those of backends whose drain timeout has passed."""
        while True:
            await asyncio.sleep(DRAIN_EVERY_S)
            if parted := self._applier.parted():
                await asyncio.to_thread(self.flows.part, parted)
            due = self._drains.due(self._applier.leaving(runner.world), time.monotonic())
            if due:
                gone = await asyncio.to_thread(self.flows.cut, due)
                log.info("drained", backends=len(due), flows=gone)
