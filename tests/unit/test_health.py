"""Probing: thresholds, when the next probe is due, and that a dead backend is out within two intervals whenever it dies."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from services.health.core import (
    HEARS,
    INDEXES,
    Streak,
    Target,
    Wanted,
    attended_ms,
    step,
    timeout_ms,
    unrecorded,
    wait_ms,
)
from weir.decider import Fact, World
from weir.events import (
    AnyEvent,
    BackendsPlanned,
    BackendsWithdrawn,
    EndpointDown,
    EndpointUp,
    FrontendPlanned,
    FrontendWithdrawn,
    UpstreamPlanned,
    UpstreamWithdrawn,
)
from weir.model import Backend, BackendSet, Probe, Root

ROOT = Root(kind="Service", name="web", namespace="shop")
PROBES = st.builds(Probe, interval_s=st.integers(1, 30), timeout_s=st.integers(1, 30), retries=st.integers(1, 10))


def world_of(*events: AnyEvent) -> World:
    world = World(INDEXES)
    for seq, event in enumerate(events, 1):
        world.evolve(Fact(seq, event))
    return world


def frontend(vip: str, backends: str, probe: Probe | None) -> FrontendPlanned:
    return FrontendPlanned(
        vip=vip, port=80, protocol="TCP", owner="Service/shop/web", sets=(BackendSet(name=backends, chunks=1),), probe=probe, root=ROOT
    )


def chunk(name: str, *addresses: str, number: int = 0, chunks: int = 1) -> BackendsPlanned:
    backends = tuple(Backend(address=address, port=8080) for address in addresses)
    return BackendsPlanned(set=name, chunk=number, chunks=chunks, protocol="TCP", backends=backends, root=ROOT)


def wanted_of(world: World) -> dict[Target, Probe | None]:
    found = Wanted(world)
    return {target: found.probe(target) for target in found.targets()}


def down(address: str, failures: int = 2) -> EndpointDown:
    return EndpointDown(node="n1", address=address, port=8080, protocol="TCP", reason="refused", failures=failures)


def up(address: str) -> EndpointUp:
    return EndpointUp(node="n1", address=address, port=8080, protocol="TCP", reason="answers")


def after(probe: Probe, answers: str, *, begun: bool = True) -> tuple[list[bool], Streak]:
    """Whether each answer (`+` good, `-` bad) turned the backend, and where that leaves it."""
    streak, turns = Streak(begun), []
    for answer in answers:
        streak, turned = step(streak, good=answer == "+", probe=probe, now_ms=0)
        turns.append(turned)
    return turns, streak


# ── thresholds ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("retries", "answers", "turns", "is_up"),
    [
        (1, "-", [0], False),
        (2, "-", [], True),
        (2, "--", [1], False),
        (2, "-+-", [], True),
        (2, "-+--", [3], False),
        (2, "--+", [1], False),
        (2, "--++", [1, 3], True),
        (2, "--+-++", [1, 5], True),
        (3, "--+---", [5], False),
        (3, "-----", [2], False),
        (3, "+++", [], True),
    ],
)
def test_backend_turns_after_as_many_in_a_row(retries: int, answers: str, turns: list[int], is_up: bool) -> None:
    turned, streak = after(Probe(retries=retries), answers)
    assert [at for at, turn in enumerate(turned) if turn] == turns
    assert streak.up == is_up


@given(PROBES, st.text("+-", max_size=40))
def test_turns_are_those_of_a_search_through_all_answers(probe: Probe, answers: str) -> None:
    is_up, expected = True, []
    for end in range(1, len(answers) + 1):
        last = answers[:end][-probe.retries :]
        since = len(expected) and max(at for at, turn in enumerate(expected) if turn) + 1 if any(expected) else 0
        turn = end - since >= probe.retries and last == ("-" if is_up else "+") * probe.retries
        is_up ^= turn
        expected.append(turn)
    assert after(probe, answers) == (expected, after(probe, answers)[1])
    assert after(probe, answers)[1].up == is_up


@given(PROBES, st.text("+-", max_size=40))
def test_doubt_never_reaches_the_threshold(probe: Probe, answers: str) -> None:
    assert after(probe, answers)[1].against < probe.retries


# ── time ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_doubtful_backend_is_asked_faster() -> None:
    probe = Probe(interval_s=6, retries=3)
    assert [wait_ms(Streak(True, against), probe, 0) for against in range(3)] == [6000, 2000, 2000]
    assert [wait_ms(Streak(False, against), probe, 0) for against in range(3)] == [6000, 2000, 2000]


@pytest.mark.parametrize(
    ("interval_s", "timeout_s", "retries", "expected"),
    [(2, 1, 2, 1000), (10, 1, 2, 1000), (2, 5, 2, 1000), (1, 1, 3, 333), (5, 9, 1, 5000)],
)
def test_probe_ends_before_the_next(interval_s: int, timeout_s: int, retries: int, expected: int) -> None:
    probe = Probe(interval_s=interval_s, timeout_s=timeout_s, retries=retries)
    assert timeout_ms(probe) == expected
    assert 0 < timeout_ms(probe) <= min(wait_ms(Streak(True), probe, 0), wait_ms(Streak(True, 1), probe, 0))


def out_ms(probe: Probe, died_ms: int, flaps: int) -> int:
    """When a backend that answers at once until `died_ms` and never after is out; the first `flaps` probes fail all the same."""
    now, streak, count = 0, Streak(True), 0
    while True:
        count += 1
        good = now <= died_ms and count > flaps
        told = now if good else now + timeout_ms(probe)
        streak, turned = step(streak, good=good, probe=probe, now_ms=told)
        if turned:
            return told
        now += wait_ms(streak, probe, now)


@settings(max_examples=200, deadline=None)
@given(PROBES, st.integers(0, 120_000), st.integers(0, 2))
def test_dead_backend_is_out_within_two_intervals_whenever_it_dies(probe: Probe, died_ms: int, flaps: int) -> None:
    assert out_ms(probe, died_ms, min(flaps, probe.retries - 1)) - died_ms <= 2 * probe.interval_s * 1000


@pytest.mark.parametrize("died_ms", range(0, 4001, 25))
def test_with_the_usual_probe_it_takes_at_most_four_seconds(died_ms: int) -> None:
    assert out_ms(Probe(), died_ms, 0) - died_ms <= 4000


def test_time_in_which_we_were_stopped_is_not_held_against_a_backend() -> None:
    assert attended_ms(20) == 20
    assert attended_ms(30_000) < timeout_ms(Probe())


# ── what is probed ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_backends_of_frontends_without_a_probe_are_left_alone() -> None:
    assert wanted_of(world_of(frontend("192.0.2.1", "shop/s", None), chunk("shop/s", "10.0.0.1"))) == {}


def test_every_chunk_is_probed_each_backend_once() -> None:
    probe = Probe(interval_s=5)
    world = world_of(
        frontend("192.0.2.1", "shop/s", probe),
        frontend("192.0.2.2", "shop/s", probe),
        chunk("shop/s", "10.0.0.1", number=0, chunks=2),
        chunk("shop/s", "10.0.0.2", number=1, chunks=2),
        chunk("shop/other", "10.0.0.3"),
    )
    assert wanted_of(world) == {Target(address, 8080, "TCP"): probe for address in ("10.0.0.1", "10.0.0.2")}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_several_wishes_the_most_frequent_holds(order: tuple[int, int]) -> None:
    probes = (Probe(interval_s=5), Probe(interval_s=1))
    world = world_of(
        *(frontend(f"192.0.2.{at}", f"shop/s{at}", probes[which]) for at, which in enumerate(order)),
        chunk("shop/s0", "10.0.0.1"),
        chunk("shop/s1", "10.0.0.1"),
    )
    assert wanted_of(world) == {Target("10.0.0.1", 8080, "TCP"): probes[1]}


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(0, 3), st.booleans()), max_size=30))
def test_what_changes_touch_adds_up_to_the_whole(moves: list[tuple[int, int, int, bool]]) -> None:
    world, wanted = world_of(), Wanted(world_of())
    probed: dict[Target, Probe | None] = {}
    for seq, (kind, which, more, gone) in enumerate(moves, 1):
        name, addresses = f"shop/s{which}", [f"10.0.0.{last}" for last in range(which, which + more)]
        if kind < 3:
            probe = [None, Probe(interval_s=3), Probe(interval_s=3, kind="http")][kind]
            event: AnyEvent = frontend(f"192.0.2.{more}", name, probe)
            withdrawn: AnyEvent = FrontendWithdrawn(vip=f"192.0.2.{more}", port=80, protocol="TCP", root=ROOT)
        else:
            event = chunk(name, *addresses, number=kind % 2, chunks=2)
            withdrawn = BackendsWithdrawn(set=name, chunk=kind % 2, chunks=2, root=ROOT)
        probed |= wanted.learn(world, [world.evolve(Fact(seq, withdrawn if gone else event))])
        assert {target: probe for target, probe in probed.items() if probe} == wanted_of(world)
        assert set(wanted.targets()) == set(wanted_of(world)), "what is left is forgotten"


def test_backends_of_the_proxy_are_probed_as_their_service_asks() -> None:
    target, asked = Target("10.0.0.1", 8080, "TCP"), Probe(kind="http", path="/healthz")
    upstream = UpstreamPlanned(
        name="shop/edge shop/web:80 http1", owner="Gateway/shop/edge", sets=(BackendSet(name="shop/s", chunks=1),), probe=asked, root=ROOT
    )
    world = world_of(chunk("shop/s", "10.0.0.1"), frontend("192.0.2.1", "shop/other", None))
    wanted = Wanted(world)
    assert wanted.learn(world, [world.evolve(Fact(9, upstream))]) == {target: asked}
    assert wanted_of(world) == {target: asked}
    assert wanted.learn(world, [world.evolve(Fact(10, replace(upstream, probe=None)))]) == {target: None}
    wanted.learn(world, [world.evolve(Fact(11, upstream))])
    assert wanted.learn(world, [world.evolve(Fact(12, UpstreamWithdrawn(name=upstream.name, root=ROOT)))]) == {target: None}


def test_a_change_of_a_set_that_nobody_probes_touches_nothing() -> None:
    world = world_of(frontend("192.0.2.1", "shop/s", None))
    assert Wanted(world).learn(world, [world.evolve(Fact(9, chunk("shop/s", "10.0.0.1")))]) == {}


def test_of_equal_wishes_the_one_that_asks_for_more_holds() -> None:
    world = world_of(
        frontend("192.0.2.1", "shop/s0", Probe()),
        frontend("192.0.2.2", "shop/s1", Probe(kind="http")),
        *(chunk(f"shop/s{at}", "10.0.0.1") for at in range(2)),
    )
    assert wanted_of(world) == {Target("10.0.0.1", 8080, "TCP"): Probe(kind="http")}


# ── what is recorded ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("held", "seen", "recorded"),
    [
        ([], [down("10.0.0.1")], [0]),
        ([], [up("10.0.0.1")], []),
        ([down("10.0.0.1")], [down("10.0.0.1", 9)], []),
        ([down("10.0.0.1")], [up("10.0.0.1")], [0]),
        ([down("10.0.0.1")], [down("10.0.0.2")], [0]),
        ([], [down("10.0.0.1"), up("10.0.0.1"), down("10.0.0.1")], [0, 1, 2]),
        ([], [down("10.0.0.1"), down("10.0.0.1"), up("10.0.0.1"), up("10.0.0.1")], [0, 2]),
        ([down("10.0.0.1")], [down("10.0.0.1"), up("10.0.0.1")], [1]),
    ],
)
def test_only_transitions_are_recorded(held: list[AnyEvent], seen: list[EndpointDown | EndpointUp], recorded: list[int]) -> None:
    assert unrecorded(world_of(*held), seen) == [seen[at] for at in recorded]


@given(
    st.lists(st.one_of(st.builds(down, st.sampled_from(["10.0.0.1", "fd00::1"])), st.builds(up, st.sampled_from(["10.0.0.1", "fd00::1"]))))
)
def test_recording_twice_records_nothing_more(seen: list[EndpointDown | EndpointUp]) -> None:
    recorded = unrecorded(world_of(), seen)
    world = world_of(*recorded)
    last = {event.address: event for event in seen}
    assert unrecorded(world, last.values()) == []
    assert {event.address for event in world.of(EndpointDown)} == {name for name, event in last.items() if isinstance(event, EndpointDown)}


def test_it_hears_what_it_looks_at() -> None:
    assert {event.kind for event in (FrontendPlanned, BackendsPlanned, EndpointDown, EndpointUp)} <= {event.kind for event in HEARS}


def test_words_of_a_later_version_are_passed_over() -> None:
    """A kind of probe that nobody here can make gives way to one that we can; a protocol that the kernel does not know is not probed."""
    strange, known = Probe(kind="grpc", interval_s=2), Probe(kind="tcp", interval_s=2)
    world = world_of(frontend("192.0.2.1", "web", strange), frontend("192.0.2.2", "web", known), chunk("web", "10.0.0.1"))
    assert wanted_of(world) == {Target("10.0.0.1", 8080, "TCP"): known}
    quic = msgspec.structs.replace(chunk("web", "10.0.0.1"), protocol="QUIC")
    assert wanted_of(world_of(frontend("192.0.2.1", "web", known), quic)) == {}
