"""`weir`: every command.  A command imports what it needs when it runs, so that --help is fast."""

import os
import signal
import sys
from enum import StrEnum
from typing import Annotated, Any

import typer
import typer.core

from weir.cli.box import commands as box_commands
from weir.cli.box import node_commands, run_commands
from weir.cli.log import commands as log_commands
from weir.cli.migrate import commands as migrate_commands
from weir.cli.options import (
    As,
    Credentials,
    Instance,
    Interfaces,
    Moment,
    MomentArguments,
    Output,
    Port,
    Recorded,
    WithWait,
    example,
    fail,
    of_file,
)
from weir.cli.show import commands as get_commands
from weir.where import node_name

BROKEN_PIPE = 128 + signal.SIGPIPE  # the exit code of a command whose reader has gone, as a shell shows it of others


class Commands(typer.core.TyperGroup):
    """All commands.  A closed pipe (`| head -1`) is not an error."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise typer.Exit(BROKEN_PIPE) from error


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Weir: an event-sourced load balancer.",
)
app.add_typer(log_commands.app, name="log")
app.add_typer(migrate_commands.app, name="migrate")
app.add_typer(node_commands.app, name="node")
log_commands.app.command(epilog=example("weir log limit --size 4GiB", "weir log limit --age 7d"))(box_commands.limit)
app.command(
    epilog=example(
        "weir get svc", "weir get svc shop/web -o yaml", "weir get lb -n shop -o wide", "weir get svc -l app=web", "weir get ep -w"
    )
)(get_commands.get)
app.command(epilog=example("weir route shop/edge GET http://shop.example.com/cart -H 'x-user: 7'"))(get_commands.route)
app.command(epilog=example("weir describe svc shop/web", "weir describe pools public"))(get_commands.describe)
app.command(epilog=example("weir backup weir.backup"))(box_commands.backup)
app.command(epilog=example("weir restore weir.backup"))(box_commands.restore)
app.command(
    epilog=example(
        "weir install -f /etc/weir -i eth0",
        "weir install -f /etc/weir -i eth0 --print",
        "weir install --join nats://192.0.2.1:4222 --credentials /etc/weir/keys -i eth0",
    )
)(box_commands.install)
app.command(
    epilog=example("weir lint -f manifests/", "helm template shop | weir lint -f -", "weir lint -f manifests/ -o json"),
)(run_commands.lint)
app.command(epilog=example("weir translate -f manifests/", "weir translate -f manifests/ --to envoy"))(run_commands.translate)
app.command(epilog=example("weir up -f manifests/ -i eth0 --metrics 127.0.0.1:9600", "weir up -f manifests/ --dry-run"))(run_commands.up)
app.command(epilog=example("weir join nats://192.0.2.1:4222 --credentials /etc/weir/keys -i eth0 --node lb-1"))(run_commands.join)
app.command(epilog=example("weir uninstall"))(box_commands.uninstall)
app.command(epilog=example("weir credentials keys --node lb-1 --node lb-2"))(box_commands.credentials)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"weir {version('weir')}")
        raise typer.Exit


@app.callback()
def _weir(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")] = False,
) -> None:
    """Weir: an event-sourced load balancer."""


class Wait(StrEnum):
    """What `status` can wait for."""

    all = "all"
    programmed = "programmed"
    serving = "serving"


@app.command(epilog=example("weir leave --node lb-1"))
def leave(
    node: Annotated[str, typer.Option(metavar="NAME", callback=node_name, help="Name of the node.")],
    url: Annotated[str, typer.Argument(metavar="[URL]", help="NATS of the log (default: WEIR_NATS, or this machine's).")] = "",
    credentials: Credentials = None,
    instance: Instance = "weir",
) -> None:
    """Remove an LB node that is gone.  Until then, addresses that it may still forward for are not reassigned."""
    from weir.bus.reader import LogError
    from weir.cli.box.leave import leave
    from weir.cli.box.supervise import UpError
    from weir.view.history import url_of

    try:
        known = leave(url or url_of(instance), credentials, node)
    except (LogError, UpError) as error:
        fail(str(error), 2)
    if not known:
        fail(f"node {node!r} not found")
    typer.echo(f"node {node} removed")


@app.command(epilog=example("weir down"))
def down(instance: Instance = "weir") -> None:
    """Detach and remove the packet path.  Forwarding stops; the log and the last plan stay."""
    from services.dataplane import keeper
    from services.dataplane.l7.local_vips import LocalVips
    from services.dataplane.load.loader import detach
    from weir.cli.box.supervise import UpError, claim
    from weir.view.processes import running
    from weir.where import Where

    where = Where(instance)
    if pids := running(where):
        fail(f"instance {instance} is up, pid {pids['up']}: stop it first")
    try:
        if not where.pins.exists() and not where.settings.exists():
            fail(f"packet path of instance {instance} not found on this machine", 2)
        if where.run.exists():
            claim(where)  # held until this command ends
        for line in detach(where.pins, where.settings):
            typer.echo(line)
        for name in keeper.stop(where.run / keeper.KEEPERS):
            typer.echo(f"the keeper of {name} ended")
        LocalVips().set(())
    except (OSError, UpError) as error:
        fail(str(error))


@app.command(epilog=example("weir check -i eth0"))
def check(
    interface: Annotated[list[str] | None, Interfaces] = None,
    instance: Instance = "weir",
    nats_port: Port = 4222,
    output: As = Output.table,
) -> None:
    """Check that this machine can run Weir.  Exit code 0: it can, 1: something is missing."""
    from weir.cli.box.check import problems
    from weir.cli.output import MACHINE, emit
    from weir.where import Where

    found = problems(Where(instance), interface or (), nats_port)
    if output in MACHINE:
        emit([{"problem": problem} for problem in found], output)
    else:
        for problem in found:
            typer.echo(f"✗ {problem}")
        if not found:
            typer.echo("✓ this machine can run Weir")
    raise typer.Exit(bool(found))


@app.command(cls=WithWait, epilog=example("weir status", "weir status --wait=programmed --timeout 30"))
def status(
    instance: Instance = "weir",
    wait: Annotated[
        Wait | None, typer.Option("--wait", help="Wait until all is well, or for programmed or serving.", show_default=False)
    ] = None,
    timeout: Annotated[int, typer.Option("--timeout", metavar="SECONDS", min=0, help="How long --wait waits.")] = 60,
    output: As = Output.table,
) -> None:
    """Show services, the log, nodes and conditions.  Exit code 0: all well, or the --wait condition holds; 1: not; 2: Weir is not up."""
    from weir.cli.show.status import status

    raise typer.Exit(status(instance, wait=wait or "", timeout_s=timeout, output=output))


@app.command(epilog=example("weir sync", "weir sync -o json"))
def sync(instance: Instance = "weir", output: As = Output.table) -> None:
    """Compare nodes with the plan, and this node's maps entry by entry.  Exit code 0: in sync, 1: not, 2: no answer."""
    from weir.cli.show.sync import sync

    raise typer.Exit(sync(instance, output))


@app.command(cls=MomentArguments, epilog=example("weir diff 15m", "weir diff 14:00 14:05", "weir diff 1 4206 --from monday.log.gz -o json"))
def diff(
    before: Annotated[str, typer.Argument(metavar="MOMENT", help="A sequence, a UTC time (14:03, 2026-11-24T14:03) or an age (15m).")],
    after: Annotated[str, typer.Argument(metavar="MOMENT", help="Another moment (default: now).", show_default=False)] = "",
    instance: Instance = "weir",
    file: Recorded = None,
    output: As = Output.table,
) -> None:
    """Show what changed between two points in the log.  Exit code 0: nothing, 1: something, 2: no answer."""
    from weir.cli.log.diff import diff

    raise typer.Exit(diff(instance, before, after, output, file))


@app.command(epilog=example("weir replay --at 4206", "weir replay --diff", "weir replay --from monday.log --at 14:03"))
def replay(
    instance: Instance = "weir",
    at: Moment = "",
    file: Recorded = None,
    diff: Annotated[
        bool, typer.Option("--diff", help="Compare the kernel with it: exit code 0 if they match, 1 if not, 2 if it cannot be compared.")
    ] = False,
    output: As = Output.table,
) -> None:
    """Show the plan as it was at a moment."""
    from weir.cli.log.replay import replay

    raise typer.Exit(replay(instance, at, output, diff=diff, file=file))


@app.command(epilog=example("weir demo --keep"))
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running and show what to try.")] = False,
    fast: Annotated[bool, typer.Option("--fast", help="No pauses for reading.")] = False,
    ended: Annotated[bool, typer.Option("--stop", help="Stop what --keep left running.")] = False,
) -> None:
    """Show Weir balancing real packets, in network namespaces of this machine."""
    from weir.demo.story import run, stop

    if os.geteuid():
        fail("the demo makes network namespaces: run it as root", 2)
    raise typer.Exit(stop() if ended else run(keep=keep, fast=fast))


def main() -> None:
    """The entry point.  A file that cannot be read or written is reported in one line, with exit code 2."""
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except OSError as error:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())  # what is left of the output cannot be written at exit either
        if isinstance(error, BrokenPipeError):
            sys.exit(BROKEN_PIPE)
        typer.echo(f"weir: {of_file(error)}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
