"""`weir translate`: what manifests come to, offline: the plan, or the resources of the proxy."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from services.dataplane.core import INDEXES
from services.dataplane.l7.protobuf import Files
from services.dataplane.l7.resources import resources
from services.watcher.settings import Settings
from weir.cli.lint import units_of, world_of
from weir.cli.output import MACHINE, Row, emit, emit_one
from weir.decider import Fact, World
from weir.events import Planned, PlannedStatus

FILES = Files("/var/lib/weir/envoy", "/run/weir/sds")  # where an installation has them


def translate(paths: Sequence[Path], settings: Settings, to: str, output: str) -> int:
    """Print the translation; returns 0, or 2 where a path cannot be read."""
    units = units_of(paths)
    if units is None:
        return 2
    world = world_of(units, settings)
    emit_one(_envoy(world), output if output in MACHINE else "yaml") if to == "envoy" else emit(_plan(world), output)
    return 0


def _plan(world: World) -> list[Row]:
    """Every entry of the plan by entity; status is what `weir lint` shows."""
    facts = sorted(world.facts.items())
    planned = [(key, fact.event) for key, fact in facts if isinstance(fact.event, Planned) and not isinstance(fact.event, PlannedStatus)]
    return [{"entity": key, "plan": msgspec.to_builtins(event)} for key, event in planned]


def _envoy(world: World) -> Row:
    """The resources of the proxy on a node that finds every backend alive."""
    held = World(INDEXES)
    for _, fact in sorted(world.facts.items()):
        held.evolve(Fact(fact.seq, fact.event))
    found = resources(held, "", FILES)
    return dict(msgspec.to_builtins(found))
