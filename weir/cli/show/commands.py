"""`weir get` and `weir describe`: their arguments and options."""

import contextlib
import io
from enum import StrEnum
from typing import Annotated, Final

import typer

from weir.cli.options import As, Instance, Output

_ALIASES: Final = {
    "service": "svc",
    "services": "svc",
    "vip": "vips",
    "owner": "owners",
    "pool": "pools",
    "node": "nodes",
    "gateway": "gateways",
    "gtw": "gateways",
    "route": "routes",
    "ingress": "ingresses",
    "ing": "ingresses",
}


class Noun(StrEnum):
    """Kinds that `get` shows, with their aliases."""

    svc = "svc"
    service = "service"
    services = "services"
    vips = "vips"
    vip = "vip"
    owners = "owners"
    owner = "owner"
    bgp = "bgp"
    pools = "pools"
    pool = "pool"
    gateways = "gateways"
    gateway = "gateway"
    gtw = "gtw"
    routes = "routes"
    route = "route"
    ingresses = "ingresses"
    ingress = "ingress"
    ing = "ing"
    nodes = "nodes"
    node = "node"
    lb = "lb"
    ep = "ep"
    ct = "ct"
    drops = "drops"
    verdicts = "verdicts"

    @property
    def kind(self) -> str:
        """Resolve an alias."""
        return _ALIASES.get(self.value, self.value)


Kind = Annotated[
    Noun,
    typer.Argument(
        metavar="KIND", help="svc, gateways, routes, ingresses, vips, owners, bgp, pools, nodes, lb, ep, ct, drops or verdicts."
    ),
]
Namespace = Annotated[
    str, typer.Option("--namespace", "-n", metavar="NAME", help="Only of Services in this namespace.", show_default=False)
]
Selector = Annotated[
    str, typer.Option("--selector", "-l", metavar="NAME=VALUE", help="Only Services with these labels.", show_default=False)
]
Everywhere = Annotated[bool, typer.Option("--all-namespaces", "-A", help="All namespaces (the default).", show_default=False)]


_NAME = "NAME, NAMESPACE/NAME or an address."


def _complete(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete names for the shell; none on an error."""
    from weir.cli.show.get import names

    with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(typer.Exit, OSError):
        noun = Noun(ctx.params["noun"])
        return [name for name in names(noun.kind, ctx.params.get("instance") or "weir") if name.startswith(incomplete)]
    return []


def get(
    noun: Kind,
    name: Annotated[str, typer.Argument(metavar="[NAME]", help=_NAME, show_default=False, autocompletion=_complete)] = "",
    namespace: Namespace = "",
    selector: Selector = "",
    everywhere: Everywhere = False,  # noqa: ARG001  as users of kubectl write it
    instance: Instance = "weir",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Watch for changes, until Ctrl-C.")] = False,
    output: As = Output.table,
) -> None:
    """Show one kind of thing, all of it or by name.

    From the log: svc (Services), gateways, routes, ingresses, vips, owners (of VIPs on the wire), bgp (sessions with routers), pools,
    nodes.  From this machine's maps: lb (frontends), ep (endpoints), ct (connections), drops (dropped packets by reason), verdicts (all
    packets by outcome).
    """
    from weir.cli.show.get import Wanted, get, labels_of

    with contextlib.suppress(KeyboardInterrupt):
        get(noun.kind, instance, output, Wanted(name, namespace, labels_of(selector)), watch=watch)


def route(
    gateway: Annotated[str, typer.Argument(metavar="GATEWAY", help="NAMESPACE/NAME of a Gateway, or NAME of an IngressClass.")],
    method: Annotated[str, typer.Argument(metavar="METHOD", help="GET, POST and so on.")],
    url: Annotated[str, typer.Argument(metavar="URL", help="http://HOST[:PORT]/PATH or https://...")],
    headers: Annotated[
        list[str] | None, typer.Option("--header", "-H", metavar="NAME: VALUE", help="A header of the request.", show_default=False)
    ] = None,
    instance: Instance = "weir",
    output: As = Output.table,
) -> None:
    """Show which rule would take a request, its filters and backends, and why the rules before it would not."""
    from weir.cli.options import fail
    from weir.cli.show.route import route
    from weir.view.errors import Unanswerable
    from weir.view.requests import request_of

    try:
        request = request_of(method, url, headers or [])
    except Unanswerable as error:
        fail(str(error), 2)
    route(gateway, request, instance, output)


def describe(
    noun: Kind,
    name: Annotated[str, typer.Argument(metavar="NAME", help=_NAME, autocompletion=_complete)],
    namespace: Namespace = "",
    instance: Instance = "weir",
    output: As = Output.table,
) -> None:
    """Show all about one thing: its fields, conditions, backends that are down, and latest events."""
    from weir.cli.show.describe import describe
    from weir.cli.show.get import Wanted

    describe(noun.kind, instance, Wanted(name, namespace), output)
