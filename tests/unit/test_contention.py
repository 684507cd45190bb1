"""What two controllers write in turn is not written without end."""

from services.watcher.writer.backoff import MOST_S, Contention


def writes(of: Contention, what: object, from_s: float, to_s: float, every_s: float = 0.02) -> int:
    """How often it is written where another takes it away at once."""
    return len(told(of, what, from_s, to_s, every_s))


def told(of: Contention, what: object, from_s: float, to_s: float, every_s: float = 0.02) -> list[bool]:
    """Of each write, whether people should know."""
    times = [from_s + every_s * i for i in range(round((to_s - from_s) / every_s))]
    return [of.wrote("web", what, now_s) for now_s in times if not of.wait_s("web", what, now_s)]


def test_what_is_taken_away_is_written_again_at_once_and_then_ever_more_rarely() -> None:
    of = Contention()
    assert writes(of, "a", 0, 0.1) == 2
    assert writes(of, "a", 0.1, 60) == 6
    assert writes(of, "a", 60, 3660) in (119, 120, 121)


def test_something_else_is_written_at_once() -> None:
    of = Contention()
    writes(of, "a", 0, 60)
    assert of.wait_s("web", "b", 60.0) == 0
    assert of.wait_s("other", "a", 60.0) == 0


def test_after_a_calm_time_it_is_written_at_once_again() -> None:
    of = Contention()
    writes(of, "a", 0, 3)
    assert of.wait_s("web", "a", 3.0) > 0
    assert writes(of, "a", 3 + 2 * MOST_S, 3.1 + 2 * MOST_S) == 2


def test_people_are_told_once_in_a_while_that_it_goes_on() -> None:
    assert sum(told(Contention(), "a", 0, 3600, 1)) == 1


def test_what_could_not_be_written_is_not_waited_with() -> None:
    of = Contention()
    assert [of.wait_s("web", "a", 0.1 * i) for i in range(4)] == [0, 0, 0, 0]


def test_what_is_gone_is_forgotten() -> None:
    of = Contention()
    writes(of, "a", 0, 1)
    of.forget("web")
    assert of.wait_s("web", "a", 1.0) == 0
