"""What `weir status` says of an installation that starts: what it waits for, and until when."""

import pytest

from weir.view.processes import ProcessView, awaits, starting, without_log

NATS = ProcessView(name="nats", pid=8, state="up")


def up(state: str = "starting") -> ProcessView:
    return ProcessView(name="up", pid=7, state=state)


def child(name: str, state: str, position: int | None = 5) -> ProcessView:
    return ProcessView(name=name, pid=9, state=state, position=position)


def test_before_it_has_children_it_loads_the_packet_path() -> None:
    assert starting([up()]) == "loading the packet path"


def test_it_waits_for_each_child_that_has_not_caught_up_with_the_log() -> None:
    found = [up(), NATS, child("planner", "starting", None), child("ipam", "following"), child("watcher", "degraded", 0)]
    assert starting(found) == "waiting for planner, watcher"


@pytest.mark.parametrize(("state", "position"), [("following", 5), ("standby", 5), ("degraded", 5), ("degraded", None)])
def test_what_impairs_a_child_that_has_caught_up_holds_nothing_up(state: str, position: int | None) -> None:
    assert awaits([up(), NATS, child("watcher", state, position)]) == ""


def test_a_log_that_does_not_answer_yet_is_waited_for() -> None:
    nats = next(each for each in without_log([up(), NATS]) if each.name == "nats")
    assert (nats.state, starting([up(), nats])) == ("starting", "waiting for nats")


def test_once_it_has_started_a_child_that_starts_again_is_its_own_matter() -> None:
    found = [up("up"), NATS, child("planner", "starting", None)]
    assert starting(found) == ""
    assert [each.state for each in without_log(found) if each.name == "nats"] == ["silent"]


def test_one_that_is_not_up_does_not_start() -> None:
    assert starting([]) == ""
