"""`weir sync`: how far each node is behind the plan, and for this node how its maps differ from it."""

from services.dataplane.core import INDEXES
from services.dataplane.l4.drift import compare
from services.dataplane.l4.kernel import MAPS
from weir.cli.ask import ask
from weir.cli.output import MACHINE, Row, emit, emit_one, harmless, paint, row_of
from weir.cli.show.kernel import Kernel
from weir.decider import World
from weir.view.history import connect, world_at
from weir.view.sync import SyncView, synced
from weir.where import Where


def sync(instance: str, output: str) -> int:
    """Print the state of each node and, where the packet path is on this machine, of its maps; return 1 where anything lags."""

    async def question() -> tuple[list[SyncView], World]:
        async with await connect(instance) as bus:
            world, _ = await world_at(bus, "", INDEXES)
            return await synced(bus, world), world

    nodes, world = ask(instance, question())
    maps = _maps(instance, world) if Where(instance).pins.exists() else []
    if output in MACHINE:
        emit_one({"nodes": [row_of(node) for node in nodes], "maps": maps}, output)
    else:
        _print(nodes, maps)
    applied = bool(nodes) and all(node.behind == 0 and not node.rejected for node in nodes)
    return 0 if applied and not any(each["differ"] for each in maps) else 1


def _maps(instance: str, world: World) -> list[Row]:
    kernel = Kernel(instance)
    found, _ = compare({name: kernel.map(name) for name in MAPS}, world, kernel.node, kernel.slots)
    return [{"map": name, **each._asdict()} for name, each in found.items() if not name.endswith("_stats") or each.differ]


def _print(nodes: list[SyncView], maps: list[Row]) -> None:
    emit([row_of(node) | {"rejected": len(node.rejected)} for node in nodes], "")
    for node in nodes:
        for refused in node.rejected:
            print(paint("✗", "red"), harmless(f"{node.node} refused {refused}"))
    if maps:
        print()
        emit(maps, "")
