"""`weir describe`: all about one thing, which backends are down, and its latest events or those of its Services."""

from collections import deque
from collections.abc import Mapping
from contextlib import closing

from weir.bus.client import Bus
from weir.bus.reader import Delivered, Entry
from weir.cli.ask import ask
from weir.cli.log.entries import show_all
from weir.cli.options import fail
from weir.cli.output import MACHINE, Row, emit, emit_one, row_of, to_yaml
from weir.cli.show.get import OF_LOG, View, Wanted, kernel_view, log_view
from weir.cli.show.kernel import Kernel
from weir.decider import World
from weir.events import EndpointDown, key_of
from weir.model import endpoint_name
from weir.view.events import Filter, in_full
from weir.view.history import connect, entries, latest_at, world_of
from weir.view.value import when
from weir.view.why import names_of

EVENTS_MOST = 10
KINDS = {"gateways": "", "routes": "", "ingresses": "Ingress"}  # whose events are those about the objects; "": their rows have it


def describe(noun: str, instance: str, wanted: Wanted, output: str) -> None:
    """Print each thing of this name in full."""

    async def question() -> tuple[list[Row], list[Entry]]:
        async with await connect(instance) as bus:
            latest, _ = await latest_at(bus, "")
            world = world_of(latest.values())
            view = log_view(noun, world)
            rows = [row | _down(row, noun, world, latest) for row in wanted.of(view, every_row=True)]
            return rows, await _events(bus, noun, rows, view, world)

    if noun in OF_LOG:
        rows, events = ask(instance, question())
    else:
        with closing(Kernel(instance)) as kernel:
            rows, events = wanted.of(kernel_view(noun, kernel, ""), every_row=True), []
    if not rows:
        fail(f"{noun} {'/'.join(filter(None, (wanted.namespace, wanted.name)))!r} not found")
    if output in MACHINE:
        rows = [row | {"events": [row_of(in_full(entry)) for entry in events]} for row in rows]
        if len(rows) == 1:
            emit_one(rows[0], output)
        else:
            emit(rows, output)
        return
    print("\n".join(to_yaml(row) for row in rows), end="")
    if events:
        more = "weir log why KIND/NAME" if noun in KINDS else "weir log tail --service NAME --since AGE"
        print(f"events: # the last {EVENTS_MOST}; more: {more}")
        show_all(events, "")


def _down(row: Row, noun: str, world: World, latest: Mapping[str, Delivered]) -> Row:
    """Return the backends of a Service or node that a probe found dead: where, since when and why."""
    if noun not in ("svc", "nodes"):
        return {}
    found = [
        {
            "backend": name,
            "node": event.node,
            "since": when(latest[key_of(event)].time_ns).isoformat(timespec="milliseconds"),
            "failures": event.failures,
            "reason": event.reason,
        }
        for event in world.of(EndpointDown)
        if (name := endpoint_name(event.address, event.port, event.protocol)) in row.get("endpoints", ()) or event.node == row["name"]
    ]
    return {"down": found}


async def _events(bus: Bus, noun: str, rows: list[Row], view: View, world: World) -> list[Entry]:
    """Return the latest events about Gateways, routes and Ingresses, of other nouns about the Services of `rows`."""
    if noun in KINDS:
        objects = {f"{row.get('kind', KINDS[noun])}/{row['name']}" for row in rows}
        about = [entry async for entry in entries(bus, 1) if names_of(entry.fact.event) & objects]
        return list(deque(about, EVENTS_MOST))
    named = [row[view.service] for row in rows] if view.service else []
    services = {name for each in named for name in (each if isinstance(each, list) else [each])}
    if not services:
        return []
    wanted = [Filter(service=service).of(world) for service in sorted(services)]
    about = [entry async for entry in entries(bus, 1) if any(each(entry) for each in wanted)]
    return list(deque(about, EVENTS_MOST))
