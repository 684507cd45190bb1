"""Events in, plan out.  A case is two files, `testdata/NAME.in.yaml` and `NAME.out.yaml`.

The n-th event has sequence 100 n, and what the planner decides on it follows: 100 n + 1 …; acknowledgements name these.
`endpoints: {first: ADDRESS, count: N}` stands for so many ready ones, and long lists of backends are summarised.
"""

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from services.planner.core import Planner, plan
from weir.decider import Fact, Fold
from weir.events import AnyEvent, BackendsPlanned, StatusPlanned, VipReleased, VipWithdrawn
from weir.view.summary import condition

TESTDATA = Path(__file__).parent / "testdata"
NAMES = sorted(path.name.removesuffix(".in.yaml") for path in TESTDATA.glob("*.in.yaml"))
STEP = 100
MANY = 10  # backends; more are summarised


def read(name: str) -> list[AnyEvent]:
    events = yaml.safe_load((TESTDATA / f"{name}.in.yaml").read_text())
    return [msgspec.convert(expand(event), AnyEvent) for event in events]


def expand(event: dict[str, Any]) -> dict[str, Any]:
    match event:
        case {"endpoints": {"first": first, "count": count}}:
            start = ip_address(first)
            return {**event, "endpoints": [{"address": str(start + number)} for number in range(count)]}
    return event


def follow(events: list[AnyEvent]) -> Fold:
    """A planner that heard the events one after another, as from the log."""
    fold = Fold(Planner(), "planner")
    for number, event in enumerate(events, 1):
        decided, _ = fold.hear([Fact(number * STEP, event)])
        assert len(decided) < STEP
        fold.acked(decided, number * STEP + 1)
        for seq, item in enumerate(decided, number * STEP + 1):
            fold.hear([Fact(seq, item.event)])
    return fold


def planned(fold: Fold) -> dict[str, AnyEvent]:
    """What stands in the log as the plan; a VIP that was freed is nobody's concern any more."""
    own = {key: fact.event for key, fact in sorted(fold.world.facts.items()) if fact.event.author == "planner"}
    released = {vip for vip in own if isinstance(own[vip], VipWithdrawn)} - set(plan(fold.world))
    return {key: event for key, event in own.items() if key not in released}


def shown(event: AnyEvent) -> dict[str, Any]:
    """The event without its root, with what is long in short."""
    fields = {name: value for name, value in msgspec.to_builtins(event).items() if name != "root"}
    match event:
        case BackendsPlanned(backends=backends):
            words = [
                " ".join(filter(None, (b.address, str(b.port), b.state, b.node, *(f"!{node}" for node in b.down_on)))) for b in backends
            ]
            fields["backends"] = words if len(words) <= MANY else f"{len(words)} from {words[0]} to {words[-1]}"
        case StatusPlanned(conditions=conditions):
            fields["conditions"] = [condition(found) for found in conditions]
    return fields


@pytest.mark.parametrize("name", NAMES)
def test_events_give_the_plan(name: str, request: pytest.FixtureRequest) -> None:
    fold = follow(read(name))
    got = yaml.safe_dump([shown(event) for event in planned(fold).values()], sort_keys=False, width=1000, allow_unicode=True)
    path = TESTDATA / f"{name}.out.yaml"
    if request.config.getoption("--update-golden", default=False):
        path.write_text(got)
    assert got == path.read_text()


@pytest.mark.parametrize("name", NAMES)
def test_step_by_step_ends_where_planning_from_scratch_does(name: str) -> None:
    fold = follow(read(name))
    scratch = plan(fold.world)
    assert {key: shown(event) for key, event in planned(fold).items()} == {key: shown(event) for key, event in scratch.items()}
    assert fold.caught_up() == [], "a restart owes nothing"


@pytest.mark.parametrize("name", NAMES)
def test_last_event_once_more_changes_nothing(name: str) -> None:
    events = read(name)
    fold = follow(events)
    if isinstance(events[-1], VipReleased):  # another release, as its sequence is another
        return
    decided, _ = fold.hear([Fact((len(events) + 1) * STEP, events[-1])])
    assert decided == []


def test_every_case_is_two_files() -> None:
    assert len(NAMES) > 15
    assert {path.name for path in TESTDATA.iterdir()} == {f"{name}.{end}.yaml" for name in NAMES for end in ("in", "out")}
