"""Who is asked when, how long an answer may take while this process is stopped, and what is kept of the delays."""

import asyncio
import time
from collections.abc import Callable

import uvloop
from hypothesis import given
from hypothesis import strategies as st

from services.health.core import Streak, Target
from services.health.delays import HALF, Delays
from services.health.rounds import BURST, Rounds, Watch
from tests.servers import OK, Serve, saying, silent
from weir.model import Probe


def turns(serve: Serve, probe: Probe, until: int, *, disturb: Callable[[], None] = lambda: None) -> list[str]:
    """The verdicts on one server until there are as many as asked for; `disturb` blocks the whole process after each connection."""
    verdicts: list[str] = []

    async def run() -> None:
        async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            disturb()
            await serve(reader, writer)
            writer.close()

        server = await asyncio.start_server(once, "127.0.0.1", 0)
        enough = asyncio.Event()

        def told(watch: Watch, fault: str) -> None:
            verdicts.append(fault)
            if len(verdicts) == until:
                enough.set()

        rounds = Rounds(told)
        rounds.watch(Target("127.0.0.1", server.sockets[0].getsockname()[1], "TCP"), probe, Streak(up=True))
        asking = asyncio.create_task(rounds.run())
        async with asyncio.timeout(30):
            await enough.wait()
        asking.cancel()

    uvloop.run(run())
    return verdicts


def test_a_backend_asked_another_way_is_still_asked_once_and_a_forgotten_one_not_at_all() -> None:
    rounds, target, long_after_ms = Rounds(lambda _watch, _fault: None), Target("10.0.0.1", 80, "TCP"), 10**15
    for probe in (Probe(), Probe(), Probe(kind="http"), Probe(interval_s=5)):
        rounds.watch(target, probe, Streak(up=True))
    assert [(watch.target, watch.probe) for watch in rounds.ripe(long_after_ms)] == [(target, Probe(interval_s=5))]
    rounds.watch(target, Probe(), Streak(up=True))
    rounds.forget(target)
    assert rounds.ripe(long_after_ms) == []


def test_the_longest_due_comes_first_and_no_more_than_a_burst_at_once() -> None:
    rounds = Rounds(lambda _watch, _fault: None)
    for number in range(2 * BURST):
        rounds.watch(Target("10.0.0.1", number, "TCP"), Probe(interval_s=9), Streak(up=True))
    due_ms = sorted(watch.due_ms for watch in rounds.watches.values())
    assert [[watch.due_ms for watch in rounds.ripe(10**15)] for _ in range(3)] == [due_ms[:BURST], due_ms[BURST:], []]


def test_a_server_that_never_answers_is_given_its_time_and_no_more() -> None:
    assert turns(silent, Probe(kind="http", interval_s=1, timeout_s=1, retries=5), 2) == ["no answer within 200 ms"] * 2


def test_a_process_that_was_stopped_holds_nothing_against_a_backend() -> None:
    async def after_a_while(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.06)
        await saying(OK)(reader, writer)

    probe = Probe(kind="http", interval_s=1, timeout_s=1, retries=1)
    assert turns(after_a_while, probe, 1, disturb=lambda: time.sleep(1.5)) == [""]  # longer than the second that a probe may take


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=5 * HALF))
def test_delays_are_those_of_the_last_window(all_us: list[int]) -> None:
    delays = Delays()
    for delay_us in all_us:
        delays.add(delay_us)
    window = all_us[max(0, (len(all_us) - 1) // HALF - 1) * HALF :]
    assert len(window) <= 2 * HALF
    found = delays.summary()
    assert found
    assert (found.min_us, found.avg_us, found.max_us) == (min(window), sum(window) // len(window), max(window))


def test_nobody_asked_has_no_delay() -> None:
    assert Delays().summary() is None
