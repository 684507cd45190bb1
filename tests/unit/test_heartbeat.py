"""Which child hangs: by its signs of life, its CPU time and the supervisor's own gaps; on a clock of the test's."""

from collections.abc import Callable

import pytest

from weir.service.heartbeat import BUSY_MOST_S, HUNG_S, Child, Watch

END_S = 700


def first_hung(child_at: Callable[[int], Child], looks: Callable[[int], bool] = lambda _: True) -> int | None:
    """The second at which the child counts as hung; None: never."""
    watch = Watch(0.0)
    return next((now for now in range(1, END_S) if looks(now) and watch.hung(float(now), [child_at(now)])), None)


def child(beat_s: float | None, cpu_s: float = 1.0) -> Child:
    return Child("planner", 7, beat_s, cpu_s)


def test_child_that_beats_is_never_ended_even_if_it_does_nothing_else() -> None:
    assert first_hung(lambda now: child(now - 0.9)) is None


def test_frozen_child_is_ended_after_its_bound() -> None:
    assert first_hung(lambda now: child(min(now, 100))) == 101 + HUNG_S


def test_child_that_computes_is_given_longer() -> None:
    assert first_hung(lambda now: child(10, cpu_s=min(now, 60))) == 61 + HUNG_S
    assert first_hung(lambda now: child(10, cpu_s=now)) == 11 + BUSY_MOST_S, "an endless loop"


def test_machine_that_stood_still_as_a_whole_ends_nobody() -> None:
    thawed = 200  # nothing ran from 100 on, and the beat comes back a second later
    assert first_hung(lambda now: child(100 if 100 < now < thawed + 2 else now), lambda now: not 100 < now < thawed) is None


def test_frozen_child_is_found_although_the_machine_stood_still_before() -> None:
    assert first_hung(lambda _: child(100), lambda now: not 100 < now < 200) == 201 + HUNG_S


def test_child_that_never_gave_a_sign_of_life_is_not_judged() -> None:
    assert first_hung(lambda _: child(None)) is None


@pytest.mark.parametrize("restarted", [30, 90])
def test_next_life_is_judged_by_its_own_work(restarted: int) -> None:
    def lives(now: int) -> Child:
        return Child("planner", 7, now, 50.0) if now < restarted else Child("planner", 8, now, 0.1)

    assert first_hung(lives) is None
