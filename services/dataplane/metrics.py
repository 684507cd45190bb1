"""Metrics of the agent and the kernel, read on each scrape.  Maps are read in a thread, so that the event loop continues."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from services.dataplane.announce.order import Alive, is_ours
from services.dataplane.edge import Agent
from services.dataplane.l4.conntrack import FlowTable
from services.dataplane.l4.layout import FIRST_DROP, ID, VERDICTS, Frontend, FrontendKey, Stats, Vip
from weir.decider import World
from weir.events import FrontendPlanned
from weir.model import (
    shown,
)
from weir.pins import LAYOUT, Map
from weir.service.exporter import Source
from weir.service.metrics import Sample
from weir.service.runner import Runner
from weir.where import Where

COUNTED = ("frontends", "frontend_stats", "verdicts", "vips")


class Served(NamedTuple):
    """What one frontend has counted.   number: its id in the kernel, which another frontend may get later."""

    number: int
    service: str
    stats: Stats


class Totals:
    """Sums of frontends' counters per Service, which only grow: what a frontend counted stays when it is removed or added again."""

    def __init__(self) -> None:
        self.services: dict[str, Stats] = {}
        self._seen: dict[tuple[FrontendKey, int], Stats] = {}

    def add(self, frontends: Mapping[FrontendKey, Served]) -> None:
        """Add the current counters.  A Service without a frontend is dropped."""
        seen = {}
        for where, served in frontends.items():
            now, before = served.stats, self._seen.get((where, served.number), Stats())
            seen[where, served.number] = now
            base = before if now.packets_in >= before.packets_in and now.flows >= before.flows else Stats()
            self.services[served.service] = _plus(self.services.get(served.service, Stats()), now, base)
        self._seen = seen
        named = {served.service for served in frontends.values()}
        self.services = {service: stats for service, stats in sorted(self.services.items()) if service in named}


def samples(where: Where, agent: Agent) -> Source:
    """Make the source of all metrics of `dataplane` in weir.service.metrics."""
    maps = {name: Map.open(where.pins / f"v{LAYOUT}" / name) for name in COUNTED}
    totals = Totals()
    turn = asyncio.Lock()

    async def source(runner: Runner) -> list[Sample]:
        names = _names(runner.world)
        async with turn:
            return [*agent.samples(), *await asyncio.to_thread(_of_kernel, maps, agent.l4.flows, totals, agent.alive(), names.get)]

    return source


def _names(world: World) -> dict[tuple[str, int, str], str]:
    return {(planned.vip, planned.port, planned.protocol): shown(planned.owner) for planned in world.of(FrontendPlanned)}


def _of_kernel(
    maps: Mapping[str, Map], flows: FlowTable, totals: Totals, alive: Alive, name: Callable[[tuple[str, int, str], str], str]
) -> list[Sample]:
    frontends = {}
    for key, value in maps["frontends"].items():
        where, number = FrontendKey.unpack(key), Frontend.unpack(value).id
        stats = Stats.sum(maps["frontend_stats"].get(ID.pack(number)) or b"")
        frontends[where] = Served(number, name((where.vip, where.port, where.protocol), ""), stats)
    totals.add(frontends)
    return [
        *_verdicts(maps["verdicts"]),
        *_services(totals),
        Sample("weir_conntrack_entries", (), flows.count()),
        Sample("weir_conntrack_limit", (), flows.limit),
        Sample("weir_vips_announced", (), sum(is_ours(Vip.unpack(value).order, alive) for _, value in maps["vips"].items())),
    ]


def _verdicts(verdicts: Map) -> Iterator[Sample]:
    for key, value in verdicts.items():
        number = ID.unpack(key)[0]
        if number in VERDICTS:
            name = "weir_dropped_packets_total" if number >= FIRST_DROP else "weir_packets_total"
            yield Sample(name, (VERDICTS[number],), sum(int.from_bytes(each, "little") for each in verdicts.split(value)))


def _services(totals: Totals) -> Iterator[Sample]:
    for service, stats in totals.services.items():
        for direction in ("in", "out"):
            yield Sample("weir_service_packets_total", (service, direction), getattr(stats, f"packets_{direction}"))
            yield Sample("weir_service_bytes_total", (service, direction), getattr(stats, f"bytes_{direction}"))
        yield Sample("weir_service_flows_total", (service,), stats.flows)


def _plus(total: Stats, now: Stats, before: Stats) -> Stats:
    names = [name for name in Stats.__dataclass_fields__ if name != "FORMAT"]
    return Stats(*(getattr(total, name) + getattr(now, name) - getattr(before, name) for name in names))
