"""`weir log ...`: commands that query the history."""

from pathlib import Path
from typing import Annotated

import typer

from weir.cli.amounts import Age, Size, Timeout
from weir.cli.options import As, Instance, Moment, Output, Recorded, example

app = typer.Typer(no_args_is_help=True, help="Query the log: what happened, and why.")


@app.command(epilog=example("weir log create --replicas 3 --size 4GiB --timeout 5m"))
def create(
    instance: Instance = "weir",
    replicas: Annotated[int, typer.Option(metavar="N", min=1, max=5, help="NATS servers that store each event; odd.")] = 1,
    age: Age = None,
    size: Size = None,
    timeout: Timeout = "0s",  # type: ignore[assignment]  # typer parses defaults too
) -> None:
    """Create the log on a NATS of your own, if it does not exist; weir up does this itself."""
    from weir.cli.box.limits import Limits, create

    create(instance, Limits(size, age), replicas, timeout)


@app.command(
    epilog=example("weir log tail -n 5 -f", "weir log tail --since 1h --service shop/web", "weir log tail --kind vip --from monday.log")
)
def tail(
    instance: Instance = "weir",
    number: Annotated[
        int | None,
        typer.Option("--number", "-n", metavar="N", min=0, help="Number of events (default: 20, with --since all).", show_default=False),
    ] = None,
    since: Annotated[
        str, typer.Option("--since", metavar="MOMENT", help="Events since an age (1h), a UTC time or a sequence.", show_default=False)
    ] = "",
    kind: Annotated[
        list[str] | None,
        typer.Option(
            "--kind", "-k", metavar="KIND", help="Events of this type (vip_denied) or kind (vip); repeatable.", show_default=False
        ),
    ] = None,
    service: Annotated[
        str, typer.Option("--service", "-s", metavar="NAMESPACE/NAME", help="Events about this Service.", show_default=False)
    ] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep following.")] = False,
    file: Recorded = None,
    output: As = Output.table,
) -> None:
    """Show the last events."""
    from weir.cli.log.entries import tail
    from weir.view.events import Filter

    tail(instance, number, wanted=Filter(kind or (), service), since=since, follow=follow, output=output, file=file)


@app.command(epilog=example("weir log show 4206"))
def show(
    sequence: Annotated[int, typer.Argument(metavar="SEQUENCE", min=1)],
    instance: Instance = "weir",
    file: Recorded = None,
    output: As = Output.table,
) -> None:
    """Show one event in full."""
    from weir.cli.log.entries import show

    show(instance, sequence, output, file)


@app.command(epilog=example("weir log stat"))
def stat(instance: Instance = "weir", output: As = Output.table) -> None:
    """Show the size of the log, and which service writes what."""
    from weir.cli.log.entries import stat

    stat(instance, output)


@app.command(epilog=example("weir log why 10.77.0.12", "weir log why shop/web --at 14:03", "weir log why 4206 --from monday.log"))
def why(
    subject: Annotated[str, typer.Argument(metavar="VIP|SERVICE|KIND/NAME|BACKEND|SEQUENCE")],
    instance: Instance = "weir",
    at: Moment = "",
    file: Recorded = None,
    output: As = Output.table,
) -> None:
    """Show the chain of causes behind a VIP, a Service, another object, a backend or an event."""
    from weir.cli.log.why import why

    why(instance, subject, at, output, file)


@app.command(epilog=example("weir log verify", "weir log verify --from monday.log -o json"))
def verify(instance: Instance = "weir", file: Recorded = None, output: As = Output.table) -> None:
    """Check the whole history for faults.  Exit code 0: none, 1: some, 2: it cannot be read."""
    from weir.cli.log.verify import verify

    raise typer.Exit(verify(instance, file, output))


@app.command(epilog=example("weir log dump monday.log", "weir log dump - | gzip > monday.log.gz"))
def dump(
    file: Annotated[Path, typer.Argument(metavar="FILE", dir_okay=False, help='File to write; "-": standard output.')],
    instance: Instance = "weir",
) -> None:
    """Write the history to a file, an event a line.  Commands with --from read it."""
    from weir.cli.log.dump import dump

    dump(instance, file)
