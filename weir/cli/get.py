"""`weir get`: one kind of thing, once or whenever it changes."""

from collections.abc import Callable
from contextlib import closing
from typing import NamedTuple

from weir.cli.kernel import Kernel
from weir.cli.output import Row, emit
from weir.cli.watch import Screen, every


class View(NamedTuple):
    """columns: of the table, all when empty.   identity: which columns name a row."""

    rows: list[Row]
    identity: tuple[str, ...]
    columns: tuple[str, ...] = ()


def get(noun: str, instance: str, output: str, *, watch: bool) -> None:
    """Prints one kind of thing; with `watch` again what changed, until Ctrl-C."""
    if noun in ("pools", "nodes", "vips"):
        _of_log(noun, instance, output, watch=watch)
    else:
        _of_kernel(noun, instance, output, watch=watch)


def _of_kernel(noun: str, instance: str, output: str, *, watch: bool) -> None:
    def look() -> View:
        with closing(Kernel(instance)) as kernel:
            return kernel_view(noun, kernel, output)

    view = look()
    if watch:
        screen = Screen(output, view.identity, view.columns)
        every(lambda: screen.show(look().rows))
    else:
        emit(view.rows, output, columns=view.columns)


def kernel_view(noun: str, kernel: Kernel, output: str) -> View:
    """What the maps say."""
    from weir.cli import get_kernel

    match noun:
        case "lb" if output == "wide":
            rows = get_kernel.wide(get_kernel.load_balancers(kernel))
            return View(rows, ("ext ip", "port", "proto", "endpoint", "eport"), get_kernel.LB_WIDE)
        case "lb":
            return View(get_kernel.load_balancers(kernel), ("ext ip", "port", "proto"), get_kernel.LB)
        case "ep":
            return View(get_kernel.endpoints(kernel), ("name",))
        case "ct":
            return View(get_kernel.connections(kernel), ("destip", "srcip", "dport", "sport", "proto"))
    return View(get_kernel.verdicts(kernel), ("verdict",))


def _of_log(noun: str, instance: str, output: str, *, watch: bool) -> None:
    from weir.bus import Bus
    from weir.cli import get_log  # not above: what reads maps alone answers sooner without
    from weir.cli.history import ask, connect, world_at
    from weir.decider import World

    rows_of: dict[str, Callable[[World], list[Row]]] = {"pools": get_log.pools, "nodes": get_log.nodes, "vips": get_log.vips}

    async def follow(bus: Bus, world: World, position: int) -> None:
        screen = Screen(output, ("vip",) if noun == "vips" else ("name",))
        screen.show(rows_of[noun](world))
        async with bus.follow(position) as pull:
            while True:
                for entry in await pull.next():
                    world.evolve(entry.fact)
                screen.show(rows_of[noun](world))

    async def question() -> None:
        async with await connect(instance) as bus:
            world, position = await world_at(bus, "")
            if watch:
                await follow(bus, world, position)
            else:
                emit(rows_of[noun](world), output)

    ask(instance, question())
