"""`weir get`: one kind of thing, all of it or by name, once or whenever it changes."""

from collections.abc import Callable, Iterable
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from weir.cli.options import fail
from weir.cli.output import MACHINE, Row, emit, row_of
from weir.cli.show.kernel import Kernel
from weir.cli.show.watch import Screen, every

if TYPE_CHECKING:
    from weir.decider import World

SVC = ("name", "vips", "ports", "ready", "state", "message")  # columns of the table
GATEWAYS = ("name", "kind", "vips", "listeners", "routes", "state", "message")
ROUTES = ("name", "kind", "hostnames", "parent", "state", "message")
INGRESSES = ("name", "class_name", "hosts", "vips", "tls", "state", "message")
OF_LOG = ("svc", "gateways", "routes", "ingresses", "vips", "owners", "bgp", "pools", "nodes")


class View(NamedTuple):
    """One kind of thing.

    identity: the columns that identify a row.   names: columns that NAME is compared with.   service: the column of its Services.
    columns: of the table, all when empty.   idle: a row that a table does not need.
    """

    rows: list[Row]
    identity: tuple[str, ...]
    names: tuple[str, ...]
    service: str = ""
    columns: tuple[str, ...] = ()
    idle: Callable[[Row], bool] = lambda _: False


class Wanted(NamedTuple):
    """Which rows.  name: its own or "namespace/name"; namespace: of its Service; labels: of the Service itself.  Empty: all."""

    name: str = ""
    namespace: str = ""
    labels: tuple[tuple[str, str], ...] = ()

    def of(self, view: View, *, every_row: bool) -> list[Row]:
        """Select rows.   every_row: also those that a table leaves out."""
        rows = (row for row in view.rows if every_row or self.name or not view.idle(row))
        return [row for row in rows if self._named(row, view) and self._placed(row, view) and self._labelled(row)]

    def _named(self, row: Row, view: View) -> bool:
        full = f"{self.namespace}/{self.name}" if self.namespace else self.name
        found = set(_words(row, view.names))
        return not self.name or bool({self.name, full} & found) or (not self.namespace and self.name in {_short(word) for word in found})

    def _placed(self, row: Row, view: View) -> bool:
        if not (self.namespace and view.service):
            return True
        return any(word.startswith(f"{self.namespace}/") for word in _words(row, (view.service,)))

    def _labelled(self, row: Row) -> bool:
        return set(self.labels) <= set(row.get("labels", {}).items())


def labels_of(selector: str) -> tuple[tuple[str, str], ...]:
    """Parse `app=web,tier=front`.  Fails the command for anything else."""
    pairs = [part.partition("=") for part in selector.split(",") if part]
    if any(not (name and equals) for name, equals, _ in pairs):
        fail(f"invalid selector {selector!r}: expected NAME=VALUE[,NAME=VALUE...]", 2)
    return tuple((name.strip(), value.lstrip("=").strip()) for name, _, value in pairs)


def get(noun: str, instance: str, output: str, wanted: Wanted, *, watch: bool) -> None:
    """Print one kind of thing; with `watch` again what changed, until Ctrl-C."""
    if wanted.labels and noun != "svc":
        fail(f"--selector selects Services by label: use weir get svc -l; {noun} have no labels", 2)
    if noun in OF_LOG:
        _of_log(noun, instance, output, wanted, watch=watch)
    else:
        _of_kernel(noun, instance, output, wanted, watch=watch)


def names(noun: str, instance: str) -> list[str]:
    """Return the names that the shell completes.  Fails the command where there is no answer."""

    async def question() -> View:
        async with await connect(instance) as bus:
            return log_view(noun, (await world_at(bus, ""))[0])

    if noun in OF_LOG:
        from weir.cli.ask import ask
        from weir.view.history import connect, world_at

        view = ask(instance, question())
    else:
        with closing(Kernel(instance)) as kernel:
            view = kernel_view(noun, kernel, "")
    return sorted({word for row in view.rows for word in _words(row, view.names[:1])})


def _of_kernel(noun: str, instance: str, output: str, wanted: Wanted, *, watch: bool) -> None:
    def look() -> View:
        with closing(Kernel(instance)) as kernel:
            return kernel_view(noun, kernel, output)

    view = look()
    if watch:
        screen = Screen(output, view.identity, view.columns)
        every(lambda: screen.show(wanted.of(look(), every_row=True)))
    else:
        _emit(noun, view, output, wanted)


def _emit(noun: str, view: View, output: str, wanted: Wanted) -> None:
    rows = wanted.of(view, every_row=output in MACHINE or output == "wide")
    if wanted.name and not rows:
        fail(f"{noun} {'/'.join(filter(None, (wanted.namespace, wanted.name)))!r} not found")
    emit(rows, output, columns=view.columns)


def kernel_view(noun: str, kernel: Kernel, output: str) -> View:
    """Return the rows that come from the maps."""
    from weir.cli.show import get_kernel

    match noun:
        case "lb" if output == "wide":
            rows = get_kernel.wide(get_kernel.load_balancers(kernel))
            identity = ("ext ip", "port", "proto", "endpoint", "eport")
            return View(rows, identity, ("name", "ext ip", "endpoint"), "name", get_kernel.LB_WIDE)
        case "lb":
            return View(get_kernel.load_balancers(kernel), ("ext ip", "port", "proto"), ("name", "ext ip"), "name", get_kernel.LB)
        case "ep":
            return View(get_kernel.endpoints(kernel), ("name",), ("name", "host"))
        case "ct":
            flow = ("destip", "srcip", "dport", "sport", "proto")
            return View(get_kernel.connections(kernel), flow, ("service name", "destip", "srcip"), "service name")
    verdicts = get_kernel.verdicts(kernel)
    if noun == "drops":
        verdicts = [row for row in verdicts if row["dropped"]]
    return View(verdicts, ("verdict",), ("verdict",), idle=lambda row: not row["packets"])


def log_view(noun: str, world: "World") -> View:
    """Return the rows that come from the log."""
    from weir.view.bgp import sessions
    from weir.view.gateways import gateways, routes
    from weir.view.ingresses import ingresses
    from weir.view.nodes import nodes
    from weir.view.owners import owners
    from weir.view.pools import pools
    from weir.view.services import services
    from weir.view.vips import vips

    match noun:
        case "svc":
            return View(list(map(row_of, services(world))), ("name",), ("name", "vips"), "name", SVC)
        case "gateways":
            return View(list(map(row_of, gateways(world))), ("kind", "name"), ("name", "vips"), "name", GATEWAYS)
        case "routes":
            return View(list(map(row_of, routes(world))), ("kind", "name", "parent"), ("name", "hostnames"), "name", ROUTES)
        case "ingresses":
            return View(list(map(row_of, ingresses(world))), ("name",), ("name", "hosts", "vips"), "name", INGRESSES)
        case "vips":
            return View(list(map(row_of, vips(world))), ("vip",), ("vip", "services"), "services")
        case "owners":
            return View(list(map(row_of, owners(world))), ("vip",), ("vip", "node"))
        case "bgp":
            return View(list(map(row_of, sessions(world))), ("node", "peer"), ("peer", "node", "address"))
        case "pools":
            return View(list(map(row_of, pools(world))), ("name",), ("name",))
    return View(list(map(row_of, nodes(world))), ("name",), ("name",))


def _of_log(noun: str, instance: str, output: str, wanted: Wanted, *, watch: bool) -> None:
    from weir.bus.client import Bus  # not above: commands that read maps start faster without
    from weir.cli.ask import ask
    from weir.view.history import connect, world_at

    async def follow(bus: Bus, world: "World", position: int) -> None:
        view = log_view(noun, world)
        screen = Screen(output, view.identity, view.columns)
        screen.show(wanted.of(view, every_row=True))
        async with bus.follow(position) as pull:
            while True:
                for entry in await pull.next():
                    world.evolve(entry.fact)
                screen.show(wanted.of(log_view(noun, world), every_row=True))

    async def question() -> None:
        async with await connect(instance) as bus:
            world, position = await world_at(bus, "")
            if watch:
                await follow(bus, world, position)
            else:
                _emit(noun, log_view(noun, world), output, wanted)

    ask(instance, question())


def _words(row: Row, columns: Iterable[str]) -> list[str]:
    """Return the words in `columns`, one by one."""
    values = [row[column] for column in columns]
    return [word for value in values for word in (value if isinstance(value, list) else [value])]


def _short(word: str) -> str:
    """Return the name in "namespace/name"."""
    return word.rpartition("/")[2]
