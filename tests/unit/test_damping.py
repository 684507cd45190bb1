"""Flapping backends: how often one may die, how long it is held, and that a steady one is soon taken for what it is."""

import bisect
import itertools
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.health.core import CALM_MS, HOLD_MOST_S, Streak, step, wait_ms
from weir.model import Probe

PROBES = st.builds(Probe, interval_s=st.integers(1, 30), timeout_s=st.integers(1, 30), retries=st.integers(1, 10))
SECONDS = st.integers(1, 200)
LIVES = st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=60)  # how long it answers and how long it is silent, in turn


def deaths_of(probe: Probe, answers: Callable[[int], bool], end_ms: int) -> tuple[list[int], Streak, int]:
    """When it was found dead until `end_ms`, the streak then, and when it would be asked next."""
    now, streak, deaths = 0, Streak(True), []
    while now <= end_ms:
        streak, turned = step(streak, good=answers(now), probe=probe, now_ms=now)
        if turned and not streak.up:
            deaths.append(now)
        now += wait_ms(streak, probe, now)
    return deaths, streak, now


def flapping(lives: list[tuple[int, int]]) -> tuple[Callable[[int], bool], int]:
    """Whether it answers at a time in ms, and when it stops to change: it answers from then on."""
    changes = list(itertools.accumulate(seconds * 1000 for life in lives for seconds in life))
    return lambda now: bisect.bisect_right(changes, now) % 2 == 0, changes[-1]


@settings(max_examples=300, deadline=None)
@given(PROBES, LIVES, st.integers(10, 1000))
def test_no_backend_dies_more_often_than_its_holds_allow(probe: Probe, lives: list[tuple[int, int]], window_s: int) -> None:
    answers, end_ms = flapping(lives)
    deaths, _, _ = deaths_of(probe, answers, end_ms)
    for first in deaths:
        within = sum(first <= death < first + window_s * 1000 for death in deaths)
        assert within <= 9 + 2 * window_s // 60


@settings(max_examples=300, deadline=None)
@given(PROBES, LIVES, st.booleans())
def test_a_backend_that_is_steady_again_is_taken_for_what_it_is(probe: Probe, lives: list[tuple[int, int]], good: bool) -> None:
    answers, end_ms = flapping(lives)
    settled_ms = end_ms + HOLD_MOST_S * 1000 + 3 * probe.interval_s * 1000
    _, streak, _ = deaths_of(probe, lambda now: answers(now) if now < end_ms else good, settled_ms)
    assert streak.up == good


@pytest.mark.parametrize("retries", [1, 2, 3])
def test_one_that_flaps_ten_times_a_second_for_five_minutes_turns_about_ten_times(retries: int) -> None:
    probe, seen = Probe(interval_s=1, retries=retries), random.Random(retries)
    deaths, _, _ = deaths_of(probe, lambda now: seen.random() < 0.5, 300_000)
    assert 1 < len(deaths) <= 12


def test_the_first_death_is_not_held_and_each_that_follows_is_twice_as_long() -> None:
    probe, streak, now, held = Probe(interval_s=1, retries=1), Streak(True), 0, []
    for _ in range(10):
        streak, _ = step(streak, good=False, probe=probe, now_ms=now)
        held.append(streak.held_s)
        assert wait_ms(streak, probe, now) == max(1, streak.held_s) * 1000
        now += wait_ms(streak, probe, now)
        streak, turned = step(streak, good=True, probe=probe, now_ms=now)
        assert turned
    assert held == [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]


@pytest.mark.parametrize(("calm_ms", "held_s"), [(CALM_MS - 1, 8), (CALM_MS, 4), (2 * CALM_MS, 2), (4 * CALM_MS, 0), (99 * CALM_MS, 0)])
def test_calm_forgives_flap_by_flap(calm_ms: int, held_s: int) -> None:
    probe = Probe(retries=1)
    streak, _ = step(Streak(True, flaps=4, free_ms=5000), good=False, probe=probe, now_ms=5000 + calm_ms)
    assert streak.held_s == held_s


def test_all_dead_at_once_return_within_two_intervals() -> None:
    """F11: the first death is not held, so the return costs the thresholds alone."""
    probe = Probe(kind="http", interval_s=2, retries=2)
    for back_ms in range(4000, 8001, 25):
        now, streak = 0, Streak(True)
        while not (now > back_ms and streak.up):
            streak, _ = step(streak, good=now > back_ms, probe=probe, now_ms=now)
            up_ms = now
            now += wait_ms(streak, probe, now)
        assert up_ms - back_ms <= 2 * probe.interval_s * 1000
