"""A log of an older version (commit c570afc) gives the kernel what that version's own plan gave it, byte for byte.

`recorded/old-version.json.xz` has for each case the events of other authors with their sequences, as written then, and of every map
of the kernel the number of entries and a digest.  The case `busy` is 560 changes of 60 Services of all sorts, with ipam's decisions;
the others are the golden inputs of that version.
"""

import hashlib
import json
import lzma
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.dataplane.l4.kernel import MAPS
from services.planner.core import Planner
from weir.decider import Fact, Fold, World
from weir.events import AnyEvent, BackendsPlanned, FrontendPlanned, VipPlanned

sys.path.append(str(Path(__file__).parents[1] / "unit"))  # the kernel in memory that the applier's tests use
from test_apply import Node

CASES = json.loads(lzma.decompress((Path(__file__).parent / "recorded" / "old-version.json.xz").read_bytes()))
STEP = 100  # the n-th event has sequence 100 n, and what is decided on it follows, as acknowledgements of the golden inputs have it


def root(then: dict[str, Any]) -> dict[str, Any]:
    """As it is now: the place is no resourceVersion, and the source is no prefix."""
    now = {("place" if name == "resource_version" else name): value for name, value in then.items()}
    name = "namespace" if now.get("namespace") else "name"
    now["source"], _, now[name] = now[name].rpartition(":")
    return now


def converted(then: dict[str, Any]) -> AnyEvent:
    now = {**then, "root": root(then["root"])} if then.get("root") else dict(then)
    for before, after in (("services", "holders"), ("service", "owner")):
        if before in now and now["type"] != "endpointslice_observed":
            now[after] = now.pop(before)
    if now.get("owner"):
        now["owner"] = f"Service/{now['owner']}"
    if "holders" in now:
        now["holders"] = [f"Service/{name}" for name in now["holders"]]
    return msgspec.convert(now, AnyEvent)


def follow(name: str) -> Fold:
    fold = Fold(Planner(), "planner")
    for number, then in CASES[name]["log"]:
        of_then = name == "busy" and then["type"] == "applied_through"  # names a place in the log of then
        event = converted({**then, "seq": (then["seq"] + 1) * STEP - 1} if of_then else then)
        decided, _ = fold.hear([Fact(number * STEP, event)])
        assert len(decided) < STEP
        fold.acked(decided, number * STEP + 1)
        for seq, item in enumerate(decided, number * STEP + 1):
            fold.hear([Fact(seq, item.event)])
    return fold


def kernel(world: World) -> dict[str, list[Any]]:
    """Of each map how many entries it holds, and their digest, once the plan is applied by key."""
    node = Node(**dict.fromkeys(MAPS, 1 << 14))
    for _, fact in sorted(world.facts.items()):
        if isinstance(fact.event, VipPlanned | FrontendPlanned | BackendsPlanned):
            node.evolve(fact.event)
    node.again()
    found = {name: each.filled() if each.array else each.items() for name, each in node.maps.items()}
    held = {name: sorted((key.hex(), value.hex()) for key, value in pairs) for name, pairs in found.items()}
    return {name: [len(entries), hashlib.sha256(json.dumps(entries).encode()).hexdigest()] for name, entries in held.items()}


@pytest.mark.parametrize("name", CASES)
def test_a_log_of_an_older_version_plans_to_the_same_kernel(name: str) -> None:
    fold = follow(name)
    assert kernel(fold.world) == CASES[name]["kernel"]
    assert fold.caught_up() == []


def test_the_recorded_log_is_a_busy_one() -> None:
    assert {name: count for name, (count, _) in CASES["busy"]["kernel"].items() if count} == {
        "frontends": 98,
        "tables": 4050,
        "backends": 1604,
        "backend_ids": 1604,
        "backend_hosts": 691,
        "vips": 56,
        "source_ranges": 59,
        "affinity_s": 46,
    }
    assert len({event["type"] for _, event in CASES["busy"]["log"]}) == 15
