"""`weir`: every command.  Imports of what a command needs stand in the command, so that --help answers at once."""

import os
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Weir: an event-sourced load balancer.",
)
log_app = typer.Typer(no_args_is_help=True, help="Ask the log what happened, and why.")
app.add_typer(log_app, name="log")


class Output(StrEnum):
    """How to print."""

    table = "table"
    wide = "wide"
    json = "json"
    yaml = "yaml"


class Noun(StrEnum):
    """What `get` shows."""

    lb = "lb"
    ep = "ep"
    ct = "ct"
    pools = "pools"
    nodes = "nodes"
    drops = "drops"


class Hook(StrEnum):
    """Where packets are met."""

    tc = "tc"
    xdp = "xdp"


def _name(text: str) -> str:
    """It becomes part of paths, and bpffs takes no dots."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", text):
        raise typer.BadParameter(f"got {text!r}, expected at most 63 letters, digits, - and _")
    return text


Instance = Annotated[
    str, typer.Option("--instance", envvar="WEIR_INSTANCE", metavar="NAME", callback=_name, help="Name of this installation.")
]
As = Annotated[Output, typer.Option("--output", "-o", metavar="FORM", help="wide, json or yaml.", show_default=False)]
Moment = Annotated[
    str, typer.Option("--at", metavar="MOMENT", help="A sequence, or a time as in 2026-11-24T14:03 (UTC).", show_default=False)
]
Interfaces = typer.Option("--interface", "-i", metavar="NAME", help="Packets come in here; repeatable.")
Port = Annotated[int, typer.Option(metavar="PORT", min=1, max=65535, help="Port of the embedded NATS, on 127.0.0.1.")]


@app.command()
def up(
    manifests: Annotated[list[Path], typer.Option("--manifests", "-f", metavar="PATH", help="File or folder of manifests; repeatable.")],
    interface: Annotated[list[str], Interfaces],
    instance: Instance = "weir",
    node: Annotated[str, typer.Option(metavar="NAME", help="Name of this node.")] = os.uname().nodename,
    hook: Annotated[Hook, typer.Option(help="tc for virtual devices, xdp for NICs with native support.")] = Hook.tc,
    nats_port: Port = 4222,
    log_size_mib: Annotated[int, typer.Option(metavar="MIB", min=1, help="How large the log may grow.")] = 1024,
) -> None:
    """Run Weir on this machine.  The log, the five services and the packet path, until Ctrl-C or SIGTERM; the kernel forwards on after."""
    import asyncio

    from weir.cli.check import hindrances
    from weir.cli.supervise import UpError, up
    from weir.service import configure_logging
    from weir.where import Where

    configure_logging()
    where = Where(instance)
    if found := hindrances(where, interface, nats_port):
        _fail("; ".join(found))
    try:
        asyncio.run(
            _until_terminated(
                up(
                    where,
                    paths=manifests,
                    interfaces=interface,
                    node=node,
                    hook=hook,
                    nats_port=nats_port,
                    max_bytes=log_size_mib << 20,
                )
            )
        )
    except (UpError, OSError) as error:
        _fail(str(error))


@app.command()
def down(instance: Instance = "weir") -> None:
    """Take the packet path off.  Forwarding ends; the log and the last plan stay."""
    from services.dataplane.loader import detach
    from weir.cli.supervise import UpError, claim, running
    from weir.where import Where

    where = Where(instance)
    if pids := running(where):
        _fail(f"instance {instance} is up, pid {pids['up']}: stop it first")
    try:
        if not where.pins.exists():
            _fail(f"the packet path of instance {instance} is not on this machine", 2)
        if where.run.exists():
            claim(where)  # held until this command ends
        for line in detach(where.pins):
            typer.echo(line)
    except (OSError, UpError) as error:
        _fail(str(error))


@app.command()
def check(interface: Annotated[list[str] | None, Interfaces] = None, instance: Instance = "weir", nats_port: Port = 4222) -> None:
    """Say what this machine lacks.  Exit code 0: nothing, 1: something."""
    from weir.cli.check import problems
    from weir.where import Where

    found = problems(Where(instance), interface or (), nats_port)
    for problem in found:
        typer.echo(f"✗ {problem}")
    if found:
        raise typer.Exit(1)
    typer.echo("✓ this machine has all that Weir needs")


@app.command()
def status(
    instance: Instance = "weir",
    wait: Annotated[bool, typer.Option("--wait", help="Until all is programmed, at most 60 s.")] = False,
    output: As = Output.table,
) -> None:
    """Services, the log, nodes, conditions.  Exit code 0: all well, 1: something is not, 2: Weir is not up."""
    from weir.cli.status import status

    raise typer.Exit(status(instance, wait=wait, output=output))


@app.command()
def get(noun: Noun, instance: Instance = "weir", output: As = Output.table) -> None:
    """Show what the kernel holds.  lb: load balancers, ep: endpoints, ct: connections; pools and nodes as the log has them."""
    from weir.cli.get import get

    get(noun, instance, output)


@app.command()
def replay(
    instance: Instance = "weir",
    at: Moment = "",
    diff: Annotated[bool, typer.Option("--diff", help="Tell in what the kernel differs from it; exit code 1 if it does.")] = False,
    output: As = Output.table,
) -> None:
    """Show the plan of a moment, as folded from the log."""
    from weir.cli.replay import replay

    raise typer.Exit(replay(instance, at, output, diff=diff))


@log_app.command()
def tail(
    instance: Instance = "weir",
    number: Annotated[int, typer.Option("--number", "-n", metavar="N", min=0, help="How many.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on.")] = False,
    output: As = Output.table,
) -> None:
    """The last facts."""
    from weir.cli.log import tail

    tail(instance, number, follow=follow, output=output)


@log_app.command()
def show(
    sequence: Annotated[int, typer.Argument(metavar="SEQUENCE", min=1)], instance: Instance = "weir", output: As = Output.table
) -> None:
    """One fact, whole."""
    from weir.cli.log import show

    show(instance, sequence, output)


@log_app.command()
def stat(instance: Instance = "weir", output: As = Output.table) -> None:
    """How large the log is, and who writes what."""
    from weir.cli.log import stat

    stat(instance, output)


@log_app.command()
def why(
    subject: Annotated[str, typer.Argument(metavar="VIP|SERVICE|BACKEND|SEQUENCE")], instance: Instance = "weir", output: As = Output.table
) -> None:
    """The chain of causes behind what is now."""
    from weir.cli.why import why

    why(instance, subject, output)


@app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running and say what to try.")] = False,
    fast: Annotated[bool, typer.Option("--fast", help="No pauses for reading.")] = False,
    ended: Annotated[bool, typer.Option("--stop", help="End what --keep left running.")] = False,
) -> None:
    """Play the main job on real packets.  In network namespaces of this machine."""
    from weir.demo.story import run, stop

    raise typer.Exit(stop() if ended else run(keep=keep, fast=fast))


async def _until_terminated(work) -> None:  # type: ignore[no-untyped-def]
    import asyncio
    import contextlib
    import signal

    task = asyncio.ensure_future(work)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _fail(message: str, code: int = 1) -> None:
    typer.echo(f"weir: {message}", err=True)
    raise typer.Exit(code)


def main() -> None:
    """The entry point."""
    app()


if __name__ == "__main__":
    main()
