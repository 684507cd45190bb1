"""`weir replay`: the plan as it stood at a moment, byte for byte the same whenever and wherever it is asked."""

import hashlib
import sys
from pathlib import Path

import msgspec

from services.dataplane.core import INDEXES, members
from services.dataplane.l4.drift import drift
from services.dataplane.l4.kernel import MAPS
from weir.cli.log.history import ask, source, world_at
from weir.cli.output import MACHINE, emit, emit_one
from weir.cli.show.kernel import Kernel
from weir.decider import World
from weir.events import ENCODE, BackendsPlanned, FrontendPlanned, StatusPlanned, VipAllocated, VipDenied, VipPlanned
from weir.model import (
    endpoint_name,
    shown,
)

PLAN = (VipPlanned, FrontendPlanned, BackendsPlanned, StatusPlanned)


def replay(instance: str, at: str, output: str, *, diff: bool, file: Path | None = None) -> int:
    """Prints frontends with their backends; JSON and YAML hold every planned entity.

    file: of a recording, instead of the instance's log.
    diff: prints instead in how many entries of each map the kernel differs; returns 1 when it does.
    """

    async def question() -> tuple[World, int]:
        async with source(instance, file) as log:
            return await world_at(log, at, INDEXES)

    world, sequence = ask(instance, question())
    if diff:
        kernel = Kernel(instance)
        found = drift({name: kernel.map(name) for name in MAPS}, world, kernel.node)
        if output in MACHINE:
            emit_one({"sequence": sequence, "differ": found}, output)
            return bool(found)
        print(f"at sequence {sequence}: {', '.join(f'{name} {count}' for name, count in found.items()) or 'kernel and plan match'}")
        return bool(found)
    plan = {key: fact.event for key, fact in sorted(world.facts.items()) if isinstance(fact.event, PLAN)}
    digest = hashlib.sha256(b"\n".join(ENCODE(event) for event in plan.values())).hexdigest()[:16]
    if output in MACHINE:
        entities = [{"entity": key, **msgspec.to_builtins(event)} for key, event in plan.items()]
        emit_one({"sequence": sequence, "digest": digest, "entities": entities}, output)
    else:
        emit([_row(world, event) for event in plan.values() if isinstance(event, FrontendPlanned)], output)
        for denied in world.of(VipDenied):
            print(f"{shown(denied.owner)} has no {denied.family} address: {denied.message}")
    print(f"\nat sequence {sequence}: {len(plan)} planned entities, {len(world.of(VipAllocated))} VIPs, digest {digest}", file=sys.stderr)
    return 0


def _row(world: World, frontend: FrontendPlanned) -> dict[str, object]:
    backends, _ = members(world, frontend)
    named = [
        endpoint_name(b.address, b.port, frontend.protocol).partition("/")[0] + ("" if b.state == "active" else f"({b.state})")
        for b in backends
    ]
    where = endpoint_name(frontend.vip, frontend.port, frontend.protocol)
    return {
        "frontend": where,
        "service": shown(frontend.owner),
        "sel": frontend.algorithm,
        "mode": frontend.mode,
        "backends": sorted(named),
    }
