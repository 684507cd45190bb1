"""The prober between a real kernel map, real servers and a log: what each of the three knows of a dead backend becomes true in all."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import cast

import pytest
import uvloop

from services.dataplane.l4.layout import HASH, NO_PREALLOC, MapSpec
from services.dataplane.load.loader import Options
from services.dataplane.load.pinned_maps import create_or_open
from services.health.core import INDEXES
from services.health.edge import DOWN, Prober
from tests.dataplane.conftest import needs_kernel
from tests.own import free_port
from tests.servers import OK, saying
from weir.decider import Fact, World
from weir.events import AnyEvent, BackendsPlanned, EndpointDown, EndpointUp, FrontendPlanned, FrontendWithdrawn
from weir.model import Backend, BackendSet, Probe, Root
from weir.pins import LAYOUT, Map, backend_key
from weir.service.runner import Runner

pytestmark = needs_kernel
ROOT = Root(kind="Service", name="web", namespace="shop")
ADDRESSES = ("127.0.0.2", "127.0.0.3", "::1")
PORT = free_port()
HTTP = Probe(kind="http", interval_s=1, retries=2, expect="ready")
FRONTEND = FrontendPlanned(
    vip="192.0.2.1", port=80, protocol="TCP", owner="Service/shop/web", sets=(BackendSet(name="shop/web", chunks=1),), probe=HTTP, root=ROOT
)
BACKENDS = BackendsPlanned(
    set="shop/web",
    chunk=0,
    chunks=1,
    protocol="TCP",
    backends=tuple(Backend(address=address, port=PORT) for address in ADDRESSES),
    root=ROOT,
)


@pytest.fixture
def backend_up() -> Iterator[Map]:
    pins = Path(f"/sys/fs/bpf/weir-test-{os.getpid()}-health")
    (pins / f"v{LAYOUT}").mkdir(parents=True)
    os.close(create_or_open(Options((), pins).directory, MapSpec("backend_up", HASH, 20, 1, 100, NO_PREALLOC)))
    with Map.open(pins / f"v{LAYOUT}" / "backend_up") as found:
        yield found
    (pins / f"v{LAYOUT}" / "backend_up").unlink()
    (pins / f"v{LAYOUT}").rmdir()
    pins.rmdir()


class Log:
    """A runner whose log takes everything at once."""

    def __init__(self, *events: AnyEvent) -> None:
        self.world, self.said = World(INDEXES), []
        self.changes = [self.world.evolve(Fact(seq, event)) for seq, event in enumerate(events, 1)]

    async def propose(self, decide: Callable[[World], Iterable[AnyEvent]]) -> None:
        for event in decide(self.world):
            self.world.evolve(Fact(99, event))
            self.said.append(event)


def played(log: Log, backend_up: Map, story: Callable[[Prober], Awaitable[None]]) -> None:
    """Runs a prober on what the log holds, and `story` beside it."""

    async def run() -> None:
        prober = Prober(backend_up, "n1")
        await prober.heard(log.world, None, 0)
        edges = [asyncio.create_task(edge(cast(Runner, log))) for edge in (prober.probe, prober.record)]
        async with asyncio.timeout(30):
            await story(prober)
        for edge in edges:
            edge.cancel()

    uvloop.run(run())


async def servers() -> list[asyncio.Server]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await saying(OK)(reader, writer)
        writer.close()

    return [await asyncio.start_server(serve, address, PORT) for address in ADDRESSES]


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.01)


def down(address: str) -> EndpointDown:
    return EndpointDown(node="n1", address=address, port=PORT, protocol="TCP", reason="refused", failures=2)


def dead(backend_up: Map) -> set[bytes]:
    return {key for key, value in backend_up.items() if value == DOWN}


def keys(*addresses: str) -> set[bytes]:
    return {backend_key(address, PORT, "TCP") for address in addresses}


def test_all_dead_and_all_back_without_a_hold(backend_up: Map) -> None:
    """F11, with http probes."""
    log = Log(FRONTEND, BACKENDS)

    async def story(_: Prober) -> None:
        await until(lambda: len(log.said) == 3)
        assert dead(backend_up) == keys(*ADDRESSES)
        await servers()
        await until(lambda: len(log.said) == 6)
        assert dead(backend_up) == set()

    played(log, backend_up, story)
    assert {event.address for event in log.said[:3] if isinstance(event, EndpointDown) and not event.held_s} == set(ADDRESSES)
    assert {event.address for event in log.said[3:] if isinstance(event, EndpointUp)} == set(ADDRESSES)
    assert log.said[0].reason == "http probe: connection refused"


def test_a_second_death_says_that_the_backend_flaps(backend_up: Map) -> None:
    log = Log(FRONTEND, BACKENDS)

    async def story(_: Prober) -> None:
        for turns in (3, 9):
            await until(lambda turns=turns: len(log.said) == turns)
            found = await servers()
            await until(lambda turns=turns: len(log.said) == turns + 3)
            for server in found:
                server.close()

    played(log, backend_up, story)
    again = [event for event in log.said[6:] if isinstance(event, EndpointDown)]
    assert {(event.held_s, event.reason.partition("; ")[2]) for event in again} == {(1, "flapping, so not probed again for 1 s")}


def test_what_kernel_and_log_know_apart_is_brought_together(backend_up: Map) -> None:
    in_kernel, in_log, stranger = ADDRESSES[0], ADDRESSES[1], "127.0.0.9"
    for address in (in_kernel, stranger):
        backend_up.put(backend_key(address, PORT, "TCP"), DOWN)
    log = Log(FRONTEND, BACKENDS, down(in_log))

    async def story(prober: Prober) -> None:
        assert dead(backend_up) == keys(in_kernel, in_log)
        assert {watch.target.address for watch in prober.rounds.watches.values() if not watch.streak.up} == {in_kernel, in_log}
        await until(lambda: len(log.said) >= 2)

    played(log, backend_up, story)
    assert [(event.address, event.reason) for event in log.said] == [
        (in_kernel, "http probe: found down in the kernel"),
        (ADDRESSES[2], "http probe: connection refused"),
    ]


def test_a_frontend_withdrawn_lifts_what_its_probes_said(backend_up: Map) -> None:
    log = Log(FRONTEND, BACKENDS)

    async def story(prober: Prober) -> None:
        await until(lambda: len(log.said) == 3)
        withdrawn = FrontendWithdrawn(vip="192.0.2.1", port=80, protocol="TCP", root=ROOT)
        await prober.heard(log.world, [log.world.evolve(Fact(5, withdrawn))], 5)
        assert dead(backend_up) == set()
        assert not prober.rounds.watches
        await until(lambda: len(log.said) == 6)

    played(log, backend_up, story)
    assert {event.reason for event in log.said[3:]} == {"no longer probed"}


def test_a_log_that_was_lost_stops_no_probe(backend_up: Map) -> None:
    async def story(prober: Prober) -> None:
        before = dict(prober.rounds.watches)
        await prober.heard(World(INDEXES), None, 0)
        assert prober.rounds.watches == before

    played(Log(FRONTEND, BACKENDS), backend_up, story)


def test_a_death_of_one_that_nobody_probes_any_more_is_taken_back(backend_up: Map) -> None:
    """It left the plan while the map was lost, by a reboot: else it would count as down for ever."""
    gone = EndpointDown(node="n1", address="127.0.0.9", port=PORT, protocol="TCP", reason="refused", failures=2)
    log = Log(FRONTEND, BACKENDS, gone)

    async def story(_: Prober) -> None:
        await until(lambda: bool(log.said))

    played(log, backend_up, story)
    assert [event for event in log.said if event.address == "127.0.0.9"] == [
        EndpointUp(node="n1", address="127.0.0.9", port=PORT, protocol="TCP", reason="no longer probed")
    ]


def test_who_is_dead_stays_dead_while_a_new_log_has_no_plan(backend_up: Map) -> None:
    backend_up.put(backend_key(ADDRESSES[0], PORT, "TCP"), DOWN)
    log = Log()

    async def story(prober: Prober) -> None:
        assert not prober.rounds.watches

    played(log, backend_up, story)
    assert dead(backend_up) == keys(ADDRESSES[0])
    assert log.said == []
