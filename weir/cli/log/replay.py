"""`weir replay`: the plan as of a moment, byte for byte the same whenever and wherever it is computed."""

import sys
from pathlib import Path

import msgspec

from services.dataplane.core import INDEXES
from services.dataplane.l4.drift import drift
from services.dataplane.l4.kernel import MAPS
from weir.cli.ask import ask
from weir.cli.output import MACHINE, emit, emit_one, row_of
from weir.cli.show.kernel import Kernel
from weir.decider import World
from weir.view.history import source, world_at
from weir.view.plan import plan


def replay(instance: str, at: str, output: str, *, diff: bool, file: Path | None = None) -> int:
    """Print frontends with their backends; JSON and YAML have every planned entity.

    file: a recording, instead of the instance's log.
    diff: print instead in how many entries of each map the kernel differs; return 1 when it does.
    """

    async def question() -> tuple[World, int]:
        async with source(instance, file) as log:
            return await world_at(log, at, INDEXES)

    world, sequence = ask(instance, question())
    if diff:
        return _diff(instance, world, sequence, output)
    found = plan(world, sequence)
    if output in MACHINE:
        entities = [{"entity": key, **msgspec.to_builtins(event)} for key, event in found.entities.items()]
        emit_one({"sequence": sequence, "digest": found.digest, "entities": entities}, output)
    else:
        emit([row_of(frontend) for frontend in found.frontends], output)
        for denied in found.denied:
            print(denied)
    counted = f"{len(found.entities)} planned entities, {found.vips} VIPs"
    print(f"\nat sequence {sequence}: {counted}, digest {found.digest}", file=sys.stderr)
    return 0


def _diff(instance: str, world: World, sequence: int, output: str) -> int:
    kernel = Kernel(instance)
    found = drift({name: kernel.map(name) for name in MAPS}, world, kernel.node, kernel.slots)
    if output in MACHINE:
        emit_one({"sequence": sequence, "differ": found}, output)
    else:
        print(f"at sequence {sequence}: {', '.join(f'{name} {count}' for name, count in found.items()) or 'kernel and plan match'}")
    return bool(found)
