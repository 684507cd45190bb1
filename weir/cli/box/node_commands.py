"""`weir node`: take an LB node out of the turn in which nodes announce VIPs, and back."""

from collections.abc import Callable
from typing import Annotated, TypeVar

import typer

from weir.cli.options import Credentials, Instance, example, fail
from weir.where import node_name

app = typer.Typer(no_args_is_help=True, help="LB nodes that take turns in announcing VIPs.")
Name = Annotated[str, typer.Argument(metavar="NAME", callback=node_name, help="Name of the node.")]
Url = Annotated[str, typer.Argument(metavar="[URL]", help="NATS of the log (default: WEIR_NATS, or this machine's).")]
T = TypeVar("T")


@app.command(epilog=example("weir node cordon lb-1"))
def cordon(node: Name, url: Url = "", credentials: Credentials = None, instance: Instance = "weir") -> None:
    """Make an LB node the last choice to announce any VIP: others that are ready announce them from now on.  It forwards on."""
    from weir.cli.box.cordon import cordon

    _done(lambda: cordon(_url(url, instance), credentials, node, back=False))
    typer.echo(f"node {node} cordoned")


@app.command(epilog=example("weir node uncordon lb-1"))
def uncordon(node: Name, url: Url = "", credentials: Credentials = None, instance: Instance = "weir") -> None:
    """Let a cordoned LB node announce VIPs again.  It takes none back by itself."""
    from weir.cli.box.cordon import cordon

    _done(lambda: cordon(_url(url, instance), credentials, node, back=True))
    typer.echo(f"node {node} uncordoned")


@app.command(epilog=example("weir node drain lb-1"))
def drain(
    node: Name,
    url: Url = "",
    credentials: Credentials = None,
    instance: Instance = "weir",
    timeout: Annotated[int, typer.Option(metavar="SECONDS", min=1, help="How long to wait.")] = 60,
) -> None:
    """Cordon an LB node and wait until it announces no VIP.  Exit code 1: it still announces some then, as no other node is ready."""
    from weir.cli.box.cordon import drain
    from weir.words import few

    left: list[str] = _done(lambda: drain(_url(url, instance), credentials, node, timeout))
    if left:
        fail(f"node {node} is cordoned, and still announces {few(left)}: no other node is ready, see `weir get owners`")
    typer.echo(f"node {node} drained: it announces no VIP")


def _url(url: str, instance: str) -> str:
    from weir.view.history import url_of

    return url or url_of(instance)


def _done(work: Callable[[], T]) -> T:
    from weir.bus.reader import LogError
    from weir.cli.box.cordon import UnknownNodeError
    from weir.cli.box.supervise import UpError

    try:
        return work()
    except UnknownNodeError as error:
        fail(str(error))
    except (LogError, UpError) as error:
        fail(str(error), 2)
