"""The live maps of this node, with names from the plan on disk."""

import contextlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from errno import ENOENT
from functools import cached_property

import msgspec
import typer

from services.dataplane.announce.peers import PeersFile, peers_path
from services.dataplane.core import INDEXES
from services.dataplane.l4.layout import (
    FLOW_MORE,
    ID,
    LAYOUT,
    TABLE_CHUNK,
    Backend,
    Constants,
    Flow,
    Frontend,
    FrontendKey,
    Stats,
    table_keys,
)
from services.dataplane.plan_file import PlanFile
from services.health.delays import Delay
from weir.decider import World
from weir.events import BackendsPlanned, FrontendPlanned, untoken
from weir.model import BackendSet, seen_from
from weir.pins import Map, MapError
from weir.where import Where


@dataclass(frozen=True)
class Served:
    """One backend of one frontend.  slots: its share of the table, 0 when new flows do not go there."""

    backend: Backend
    slots: int
    down: bool
    stats: Stats


class Kernel:
    """The pinned maps of one instance.  Fails the command with exit code 2 where there are none."""

    def __init__(self, instance: str) -> None:
        self._where = Where(instance)
        self._maps: dict[str, Map] = {}

    def map(self, name: str) -> Map:
        """Return a map; each is opened once."""
        if name not in self._maps:
            try:
                self._maps[name] = Map.open(self._where.pins / f"v{LAYOUT}" / name)
            except MapError as error:
                words = "not found on this machine" if error.errno == ENOENT else "cannot be read"
                typer.echo(f"weir: packet path of instance {self._where.instance} {words}: {error}", err=True)
                raise typer.Exit(2) from error
        return self._maps[name]

    def close(self) -> None:
        """Close the maps."""
        for each in self._maps.values():
            each.close()

    def slots(self, nodes: Sequence[str]) -> tuple[int, ...]:
        """Return the slots of LB nodes in the maps."""
        peers = PeersFile.read(peers_path(self._where))
        return peers.of(nodes) if peers else ()

    @cached_property
    def node(self) -> str:
        """Return the node name of the agent that fills the maps; "" where none has run since boot."""
        return next((untoken(path.stem.removeprefix("dataplane-")) for path in self._where.run.glob("dataplane-*.json")), "")

    @cached_property
    def plan(self) -> World:
        """Return the plan on disk, for names; empty where it cannot be read."""
        file = self._where.state / "plan.json"
        try:
            saved = PlanFile.read(file)
        except (msgspec.MsgspecError, OSError) as error:
            typer.echo(f"weir: {file} cannot be read, names are not shown: {error}", err=True)
            saved = None
        return saved.world() if saved else World(INDEXES)

    @cached_property
    def delays(self) -> dict[str, Delay]:
        """Return the response times of backends to probes, by name."""
        found: dict[str, Delay] = {}
        for file in sorted(self._where.run.glob("probes-*.json")):
            with contextlib.suppress(OSError, msgspec.MsgspecError):  # being taken away, or none of ours
                found |= msgspec.json.decode(file.read_bytes(), type=dict[str, Delay])
        return found

    @cached_property
    def frontends(self) -> dict[FrontendKey, Frontend]:
        """What the kernel serves."""
        pairs = ((FrontendKey.unpack(key), Frontend.unpack(value)) for key, value in self.map("frontends").items())
        return dict(sorted(pairs, key=lambda pair: (pair[0].vip, pair[0].port, pair[0].protocol)))

    @cached_property
    def backends(self) -> dict[int, Backend]:
        """By id."""
        pairs = ((ID.unpack(key)[0], Backend.unpack(value)) for key, value in self.map("backends").items())
        return {number: backend for number, backend in pairs if backend}

    @cached_property
    def down(self) -> set[bytes]:
        """Keys of backends that probes found dead."""
        return {key for key, value in self.map("backend_up").items() if value == b"\0"}

    def planned(self, where: FrontendKey) -> FrontendPlanned | None:
        """Return a frontend as planned."""
        return self._frontends_planned.get((where.vip, where.port, where.protocol))

    @cached_property
    def _frontends_planned(self) -> dict[tuple[str, int, str], FrontendPlanned]:
        return {(planned.vip, planned.port, planned.protocol): planned for planned in self.plan.of(FrontendPlanned)}

    @cached_property
    def _numbers(self) -> dict[bytes, int]:
        return {backend.key(): number for number, backend in self.backends.items()}

    def serving(self, frontend: Frontend, planned: FrontendPlanned | None) -> list[Served]:
        """Return the backends of a frontend, in its table or only in the plan, by address."""
        tables, stats = self.map("tables"), self.map("backend_stats")
        ids = [
            number
            for key in table_keys(frontend.set_id, frontend.size)
            for number in TABLE_CHUNK.unpack(tables.get(key) or bytes(TABLE_CHUNK.size))
        ]
        slots: dict[int, int] = {}
        for number in ids[: frontend.size]:
            slots[number] = slots.get(number, 0) + 1
        planned_down = self.planned_down(planned.sets if planned else ())
        dead = self.down | {backend.key() for backend, down in planned_down.items() if down}
        keys = (backend.key() for backend in planned_down)
        numbers = {*slots, *(self._numbers[key] for key in keys if key in self._numbers)} & self.backends.keys()
        found = [
            Served(self.backends[n], slots.get(n, 0), self.backends[n].key() in dead, Stats.sum(stats.get(ID.pack(n)) or b""))
            for n in numbers
        ]
        return sorted(found, key=lambda served: (served.backend.address, served.backend.port))

    def planned_down(self, sets: Iterable[BackendSet]) -> dict[Backend, bool]:
        """Map each backend of these sets in the plan to whether it is down, as this node sees it.

        The kernel may not show that: one probe can take out backends of other ports, which are down in the plan only.
        """
        chunks = [chunk for part in sets for chunk in self.plan.find("set", part.name, BackendsPlanned)]
        pairs = ((Backend(b.address, b.port, chunk.protocol), b) for chunk in chunks for b in chunk.backends)
        return {backend: seen_from(self.node, planned) == "down" for backend, planned in pairs}

    def flows(self) -> list[tuple[Flow, int]]:
        """Flows that have not ended, each with the sequence of the plan that chose its backend, by client."""
        constants = Constants.unpack(self.map("constants").get(ID.pack(0)) or b"")
        now, more = time.clock_gettime_ns(time.CLOCK_MONOTONIC), self.map("flow_more")
        found = []
        for at, value in self.map("flows").filled():
            flow = Flow.unpack(value)
            if flow.lives(constants.unseen_s(flow.seen, now)):
                found.append((flow, FLOW_MORE.unpack(more.get(at) or bytes(FLOW_MORE.size))[0]))
        return sorted(found, key=lambda each: (each[0].key.source, each[0].key.source_port))
