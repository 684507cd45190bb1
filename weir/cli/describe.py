"""`weir describe`: all about one thing, and the latest events of its Services."""

from collections import deque
from contextlib import closing

from weir.bus import Bus
from weir.cli.get import OF_LOG, View, Wanted, kernel_view, log_view
from weir.cli.history import ask, connect, entries, world_at
from weir.cli.kernel import Kernel
from weir.cli.log import services_of, tell_all
from weir.cli.options import fail
from weir.cli.output import Row, to_yaml
from weir.reader import Entry

EVENTS_MOST = 10


def describe(noun: str, instance: str, wanted: Wanted) -> None:
    """Print each thing of this name in full."""

    async def question() -> tuple[list[Row], list[Entry]]:
        async with await connect(instance) as bus:
            world, _ = await world_at(bus, "")
            view = log_view(noun, world)
            rows = wanted.of(view, every_row=True)
            return rows, await _events(bus, rows, view)

    if noun in OF_LOG:
        rows, events = ask(instance, question())
    else:
        with closing(Kernel(instance)) as kernel:
            rows, events = wanted.of(kernel_view(noun, kernel, ""), every_row=True), []
    if not rows:
        fail(f"{noun} {'/'.join(filter(None, (wanted.namespace, wanted.name)))!r} not found")
    print("\n".join(to_yaml(row) for row in rows), end="")
    if events:
        print(f"events: # the last {EVENTS_MOST}; all: weir log tail --service NAME --since AGE")
        tell_all(events, "")


async def _events(bus: Bus, rows: list[Row], view: View) -> list[Entry]:
    """The latest that are about the Services of `rows`."""
    named = [row[view.service] for row in rows] if view.service else []
    services = {name for each in named for name in (each if isinstance(each, list) else [each])}
    if not services:
        return []
    about = [entry async for entry in entries(bus, 1) if services & services_of(entry.fact.event)]
    return list(deque(about, EVENTS_MOST))
