"""The log of a running Weir, replayed: the same plan by any process, and from any prefix the same fold either way."""

import json
import os
import random
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from services.planner.core import Planner, plan
from services.planner.shared.difference import same
from tests.running import Running, running_weir
from weir.decider import Fact, World
from weir.events import DECODE, AnyEvent, EpochStarted, ReaderAnnounced, StatusPlanned, VipWithdrawn, key_of


@pytest.fixture(scope="module")
def weir() -> Iterator[Running]:
    with running_weir("weirreplay") as found:
        found.network.stop("b2")
        # Of the plan, not of the kernel: health tells that at once, and down and up heard together plan nothing.
        found.stage.wait_for("b2 out", 60, "replay", holds=lambda answer: "down" in states(answer))
        found.network.start("b2")
        found.stage.wait_for("b2 back", 60, "get ep", holds=lambda rows: all(row["state"] != "nok" for row in rows))
        service = found.stage.folder / "shop" / "service.yaml"
        service.write_text(service.read_text().replace("port: 80,", "port: 8080,"))
        found.stage.wait_for("the edit", 60, "get lb", holds=lambda rows: any(row["port"] == 8080 for row in rows))
        found.settled(60)
        yield found


def test_any_process_replays_the_same_plan_byte_for_byte(weir: Running) -> None:
    head = len(entries(weir))
    for moment in (str(head), str(head // 2)):
        command = weir.network.command("lb", *weir.command("replay", "--at", moment, "-o", "json"))
        seeds = [os.environ | {"PYTHONHASHSEED": seed} for seed in ("1", "2", "77")]
        outs = {subprocess.run(command, env=seed, capture_output=True, check=True).stdout for seed in seeds}
        assert len(outs) == 1
        assert json.loads(outs.pop())


def test_state_at_an_earlier_moment_is_the_state_it_was(weir: Running) -> None:
    found = entries(weir)
    plans = (entry for entry in found if entry["event"]["type"] == "backends_planned")
    first = next(entry for entry in plans if any(backend.get("state") == "down" for backend in entry["event"]["backends"]))
    planned = first["sequence"]
    assert type_at(found, first["cause"]) in ("endpoint_down", "endpoint_up")  # of several heard together the last is the cause

    assert states(weir.stage.ask(f"replay --at {planned - 1}")) == {"active"}
    assert states(weir.stage.ask(f"replay --at {planned}")) == {"active", "down"}


def test_folds_of_a_hundred_random_prefixes_agree(weir: Running) -> None:
    events = [(entry["sequence"], DECODE(json.dumps(entry["event"]))) for entry in entries(weir)]
    dice = random.Random(20261121)
    for _ in range(100):
        prefix = events[: dice.randrange(len(events) + 1)]
        assert fold(prefix) == fold(last_per_entity(prefix)), f"at {len(prefix)}"


def test_the_plan_in_the_log_is_what_the_planner_makes_of_the_rest(weir: Running) -> None:
    world = World(Planner().indexes)
    for entry in entries(weir):
        world.evolve(Fact(entry["sequence"], DECODE(json.dumps(entry["event"]))))
    ours = {key: fact.event for key, fact in world.facts.items() if key.startswith("planner.")}
    planned = {key: event for key, event in ours.items() if not isinstance(event, VipWithdrawn | EpochStarted | ReaderAnnounced)}
    again = plan(world)
    assert again.keys() == planned.keys()
    assert not [event for key, event in again.items() if not same(event, planned[key])]
    assert any(isinstance(event, StatusPlanned) for event in again.values())


def states(answer: list[dict[str, Any]]) -> set[str]:
    """Of all planned backends."""
    sets = [entity["backends"] for entity in answer[0]["entities"] if entity["type"] == "backends_planned"]
    return {backend.get("state", "active") for backends in sets for backend in backends}


def type_at(found: list[dict[str, Any]], sequence: int) -> str:
    return next(str(entry["event"]["type"]) for entry in found if entry["sequence"] == sequence)


def entries(weir: Running) -> list[dict[str, Any]]:
    lines = weir.network.run("lb", *weir.command("log", "tail", "-n", "100000", "-o", "jsonl")).stdout.splitlines()
    return [json.loads(line) for line in lines]


def fold(events: list[tuple[int, AnyEvent]]) -> dict[str, AnyEvent]:
    world = World()
    for seq, event in events:
        world.evolve(Fact(seq, event))
    return {key: fact.event for key, fact in sorted(world.facts.items())}


def last_per_entity(events: list[tuple[int, AnyEvent]]) -> list[tuple[int, AnyEvent]]:
    return sorted({key_of(event): (seq, event) for seq, event in events}.values(), key=lambda pair: pair[0])
