"""Manifests in, plan out.  A case is two files, `testdata/NAME.in.yaml` and `NAME.out.yaml`; --update-golden rewrites the second.

Manifests go through the watcher's and ipam's own cores; one LB node confirms everything.
"""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from services.ipam.core import Ipam
from services.planner.core import Planner
from services.watcher.core import Watcher, differences
from services.watcher.inventory import Observation
from services.watcher.sources.yaml_documents import documents
from weir.decider import Fact, World
from weir.events import AnyEvent, AppliedThrough, NodeAddressesObserved, NodeSeen, Planned

TESTDATA = Path(__file__).parent / "testdata"
NAMES = sorted(path.name.removesuffix(".in.yaml") for path in TESTDATA.glob("*.in.yaml"))
LEFT_OUT = {"root", "type", "owner"}


def planned(text: str) -> list[AnyEvent]:
    """What is planned for the manifests once a node holds everything."""
    watcher, ipam, planner = Watcher(), Ipam(), Planner()
    world = World({**watcher.indexes, **ipam.indexes, **planner.indexes})

    def take(events: list[AnyEvent]) -> None:
        for event in events:
            world.evolve(Fact(len(seen) + 1, event))
            seen.append(event)

    seen: list[AnyEvent] = []
    take([NodeSeen(node="n1", hook="tc", layout=1, interfaces=("eth0",)), NodeAddressesObserved(node="n1")])
    observed = watcher.inventory.read(Observation({"case.yaml": documents("case.yaml", text.encode())}, complete=True))
    take(differences(world, watcher.inventory, watcher.inventory.take(observed)))
    for core in (ipam, planner):
        take([decided.event for decided in core.reconcile(world)])
    take([AppliedThrough(node="n1", seq=len(seen))])
    take([decided.event for decided in planner.reconcile(world)])
    return [fact.event for _, fact in sorted(world.facts.items()) if isinstance(fact.event, Planned)]


def shown(event: AnyEvent) -> dict[str, Any]:
    fields = {name: value for name, value in msgspec.to_builtins(event).items() if name not in LEFT_OUT}
    for part in (fields, *fields.get("listeners", ()), *fields.get("parents", ())):
        if "conditions" in part:
            part["conditions"] = [_condition(each) for each in part["conditions"]]
    return {msgspec.to_builtins(event)["type"]: f"{event.root.kind} {event.root.path}"} | fields  # type: ignore[union-attr]


def _condition(each: dict[str, Any]) -> str:
    words = each["type"] if each["status"] else f"not {each['type']}"
    return f"{words} ({each['reason']}{': ' + each['message'] if each.get('message') else ''})"


@pytest.mark.parametrize("name", NAMES)
def test_plan_of_manifests(name: str, request: pytest.FixtureRequest) -> None:
    found = yaml.safe_dump([shown(event) for event in planned((TESTDATA / f"{name}.in.yaml").read_text())], sort_keys=False, width=140)
    golden = TESTDATA / f"{name}.out.yaml"
    if request.config.getoption("--update-golden"):
        golden.write_text(found)
    assert found == golden.read_text()
