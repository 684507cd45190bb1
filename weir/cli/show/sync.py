"""`weir sync`: for each node how far it is behind the plan, and for this one's maps what they hold beside what they should."""

from services.dataplane.core import INDEXES, PLAN_KINDS
from services.dataplane.l4.drift import compare
from services.dataplane.l4.kernel import MAPS
from weir.bus.client import Bus
from weir.cli.log.history import ask, connect, world_at
from weir.cli.output import MACHINE, Row, emit, emit_one, harmless, paint
from weir.cli.show.kernel import Kernel
from weir.decider import World
from weir.events import AppliedThrough
from weir.lbnodes import counted
from weir.where import Where


def sync(instance: str, output: str) -> int:
    """Prints the state of each node and, where the packet path is on this machine, of its maps; 1 where anything lags."""
    nodes, world = ask(instance, _look(instance))
    maps = _maps(instance, world) if Where(instance).pins.exists() else []
    if output in MACHINE:
        emit_one({"nodes": nodes, "maps": maps}, output)
    else:
        _print(nodes, maps)
    return 0 if nodes and all(node["behind"] == 0 and not node["rejected"] for node in nodes) and not any(m["differ"] for m in maps) else 1


async def _look(instance: str) -> tuple[list[Row], World]:
    async with await connect(instance) as bus:
        world, _ = await world_at(bus, "", INDEXES)
        applied = {event.node: event for event in world.of(AppliedThrough)}
        rows = []
        for seen in counted(world):
            held = applied.get(seen.node) or AppliedThrough(node=seen.node, seq=0)
            behind = await unapplied(bus, held.seq)
            rejected = [f"{r.entity}: {r.reason}" for r in held.rejected]
            rows.append({"node": seen.node, "applied": held.seq, "behind": behind, "rejected": rejected})
    return rows, world


async def unapplied(bus: Bus, applied: int) -> int:
    """How many events of the plan a node that applied it up to `applied` has yet to apply."""
    async with bus.follow(applied, sorted(PLAN_KINDS)) as pull:
        return pull.pending


def _maps(instance: str, world: World) -> list[Row]:
    kernel = Kernel(instance)
    found, _ = compare({name: kernel.map(name) for name in MAPS}, world, kernel.node)
    return [{"map": name, **each._asdict()} for name, each in found.items() if not name.endswith("_stats") or each.differ]


def _print(nodes: list[Row], maps: list[Row]) -> None:
    emit([node | {"rejected": len(node["rejected"])} for node in nodes], "")
    for node in nodes:
        for refused in node["rejected"]:
            print(paint("✗", "red"), harmless(f"{node['node']} refused {refused}"))
    if maps:
        print()
        emit(maps, "")
