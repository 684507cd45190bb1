"""`weir`: every command.  Imports of what a command needs stand in the command, so that --help answers at once."""

import contextlib
import os
import sys
from collections.abc import Coroutine
from enum import StrEnum
from typing import Annotated, Any

import typer

from weir.cli import box_commands, get_commands, log_commands, migrate_commands
from weir.cli.amounts import LogAge, LogSize
from weir.cli.options import (
    As,
    Classes,
    Clusters,
    Credentials,
    DefaultClass,
    ExternalIps,
    Hook,
    Instance,
    Interfaces,
    Liveness,
    Manifests,
    Metrics,
    ModeOfAll,
    ModeWord,
    Moment,
    MomentArguments,
    Node,
    Output,
    Port,
    Recorded,
    StatusHostname,
    TargetsOfAll,
    TargetsWord,
    Verbose,
    WithWait,
    example,
    fail,
    of_file,
)
from weir.where import node_name

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Weir: an event-sourced load balancer.",
)
app.add_typer(log_commands.app, name="log")
app.add_typer(migrate_commands.app, name="migrate")
log_commands.app.command(epilog=example("weir log limit --size 4GiB", "weir log limit --age 7d"))(box_commands.limit)
app.command(
    epilog=example(
        "weir get svc", "weir get svc shop/web -o yaml", "weir get lb -n shop -o wide", "weir get svc -l app=web", "weir get ep -w"
    )
)(get_commands.get)
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
)(box_commands.lint)
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


@app.command(epilog=example("weir up -f manifests/ -i eth0 --metrics 127.0.0.1:9600", "weir up -f manifests/ --dry-run"))
def up(
    interface: Annotated[list[str] | None, Interfaces] = None,
    manifests: Manifests = None,
    cluster: Clusters = None,
    load_balancer_class: Classes = None,
    default_class: DefaultClass = True,
    mode: ModeOfAll = ModeWord.default,
    targets: TargetsOfAll = TargetsWord.endpoints,
    liveness: Liveness = False,
    external_ips: ExternalIps = False,
    status_hostname: StatusHostname = "",
    instance: Instance = "weir",
    node: Node = os.uname().nodename,
    hook: Annotated[Hook, typer.Option(help="tc for virtual devices, xdp for NICs with native support.")] = Hook.tc,
    nats_port: Port = 4222,
    log_size: LogSize = None,
    log_age: LogAge = None,
    metrics: Metrics = "",
    verbose: Verbose = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the manifests as weir lint does, and start nothing.")] = False,
    output: As = Output.table,
) -> None:
    """Run Weir on this machine.  The log, the services and the packet path, until Ctrl-C or SIGTERM; the kernel keeps forwarding after."""
    if dry_run:
        box_commands.lint(manifests, load_balancer_class, default_class, mode, targets, liveness, external_ips, output)
    if not interface:
        fail("Missing option '--interface' / '-i'.", 2)
    import asyncio
    from pathlib import Path

    from services.watcher.files import unreadable
    from weir.cli.check import hindrances
    from weir.cli.limits import Limits
    from weir.cli.ready import announce, quiet_at_a_terminal, serving, stopped
    from weir.cli.supervise import UpError, up
    from weir.service import configure_logging
    from weir.where import Where, listen_address

    attended = quiet_at_a_terminal(verbose=verbose)
    configure_logging()
    where = Where(instance)
    if not (manifests or cluster):
        fail("nothing to follow: expected --manifests or --cluster", 2)
    if found := list(unreadable(map(Path.absolute, manifests or ()))) or hindrances(where, interface, nats_port):
        fail("; ".join(found))
    try:
        asyncio.run(
            _until_terminated(
                up(
                    where,
                    follows=[
                        *(f"--cluster={word}" for word in cluster or ()),
                        *(f"--class={word}" for word in load_balancer_class or ()),
                        *(["--no-default-class"] if not default_class else []),
                        *(["--liveness"] if liveness else []),
                        *(["--external-ips"] if external_ips else []),
                        *(f"--mode={mode.value}", f"--targets={targets.value}", f"--status-hostname={status_hostname}"),
                        *(str(path.resolve()) for path in manifests or ()),
                    ],
                    interfaces=interface,
                    node=node,
                    hook=hook,
                    nats_port=nats_port,
                    limits=Limits(log_size, log_age),
                    metrics=listen_address(metrics) if metrics else None,
                ),
                beside=announce(lambda: serving(instance)) if attended else None,
            )
        )
    except (UpError, OSError) as error:
        fail(str(error))
    if attended:
        stopped(instance)


@app.command(epilog=example("weir join nats://192.0.2.1:4222 --credentials /etc/weir/keys -i eth0 --node lb-1"))
def join(
    url: Annotated[str, typer.Argument(metavar="URL", help="NATS of the log to follow.")],
    interface: Annotated[list[str], Interfaces],
    credentials: Credentials = None,
    instance: Instance = "weir",
    node: Node = os.uname().nodename,
    hook: Annotated[Hook, typer.Option(help="tc for virtual devices, xdp for NICs with native support.")] = Hook.tc,
    metrics: Metrics = "",
    verbose: Verbose = False,
    timeout: Annotated[int, typer.Option(metavar="SECONDS", min=0, help="How long to wait for the log, the first time.")] = 60,
) -> None:
    """Forward on this machine by the log of a cluster, until Ctrl-C or SIGTERM; the kernel keeps forwarding after.

    Attaches nothing before it has reached the log.  Exit code 2: the log does not answer, or this node has no keys.
    """
    import asyncio

    from weir.cli.check import hindrances
    from weir.cli.join import NoKeysError, join
    from weir.cli.ready import announce, forwarding, quiet_at_a_terminal, stopped
    from weir.cli.supervise import UpError
    from weir.reader import LogError
    from weir.service import configure_logging
    from weir.where import Where, listen_address

    attended = quiet_at_a_terminal(verbose=verbose)
    configure_logging()
    where = Where(instance)
    if found := hindrances(where, interface, nats_port=None):
        fail("; ".join(found))
    counted = listen_address(metrics) if metrics else None
    try:
        work = join(where, url, credentials, interfaces=interface, node=node, hook=hook, metrics=counted, timeout_s=timeout)
        asyncio.run(_until_terminated(work, beside=announce(lambda: forwarding(instance, url)) if attended else None))
    except (NoKeysError, LogError) as error:
        fail(str(error), 2)
    except (UpError, OSError) as error:
        fail(str(error))
    if attended:
        stopped(instance)


@app.command(epilog=example("weir leave --node lb-1"))
def leave(
    node: Annotated[str, typer.Option(metavar="NAME", callback=node_name, help="Name of the node.")],
    url: Annotated[str, typer.Argument(metavar="[URL]", help="The NATS of the log; without it WEIR_NATS, or this machine's.")] = "",
    credentials: Credentials = None,
    instance: Instance = "weir",
) -> None:
    """Remove an LB node that is gone.  Until then, addresses that it may still forward for are not reassigned."""
    from weir.cli.history import url_of
    from weir.cli.leave import leave
    from weir.cli.supervise import UpError
    from weir.reader import LogError

    try:
        known = leave(url or url_of(instance), credentials, node)
    except (LogError, UpError) as error:
        fail(str(error), 2)
    if not known:
        fail(f"no node {node} in the log")
    typer.echo(f"node {node} removed")


@app.command(epilog=example("weir down"))
def down(instance: Instance = "weir") -> None:
    """Detach and remove the packet path.  Forwarding stops; the log and the last plan stay."""
    from services.dataplane.loader import detach
    from weir.cli.supervise import UpError, claim, running
    from weir.where import Where

    where = Where(instance)
    if pids := running(where):
        fail(f"instance {instance} is up, pid {pids['up']}: stop it first")
    try:
        if not where.pins.exists() and not where.settings.exists():
            fail(f"the packet path of instance {instance} is not on this machine", 2)
        if where.run.exists():
            claim(where)  # held until this command ends
        for line in detach(where.pins, where.settings):
            typer.echo(line)
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
    from weir.cli.check import problems
    from weir.cli.output import MACHINE, emit
    from weir.where import Where

    found = problems(Where(instance), interface or (), nats_port)
    if output in MACHINE:
        emit([{"problem": problem} for problem in found], output)
    else:
        for problem in found:
            typer.echo(f"✗ {problem}")
        if not found:
            typer.echo("✓ this machine has everything that Weir needs")
    raise typer.Exit(bool(found))


@app.command(cls=WithWait, epilog=example("weir status", "weir status --wait=programmed --timeout 30"))
def status(
    instance: Instance = "weir",
    wait: Annotated[Wait | None, typer.Option("--wait", help="Wait for this; without a value: all.", show_default=False)] = None,
    timeout: Annotated[int, typer.Option("--timeout", metavar="SECONDS", min=0, help="How long --wait waits.")] = 60,
    output: As = Output.table,
) -> None:
    """Show services, the log, nodes and conditions.  Exit code 0: all well, or what --wait asks for; 1: not; 2: Weir is not up."""
    from weir.cli.status import status

    raise typer.Exit(status(instance, wait=wait or "", timeout_s=timeout, output=output))


@app.command(epilog=example("weir sync", "weir sync -o json"))
def sync(instance: Instance = "weir", output: As = Output.table) -> None:
    """Compare nodes with the plan, and this node's maps entry by entry.  Exit code 0: in sync, 1: not, 2: no answer."""
    from weir.cli.sync import sync

    raise typer.Exit(sync(instance, output))


@app.command(cls=MomentArguments, epilog=example("weir diff 15m", "weir diff 14:00 14:05", "weir diff 1 4206 --from monday.log.gz -o json"))
def diff(
    before: Annotated[str, typer.Argument(metavar="MOMENT", help="A sequence, a UTC time (14:03, 2026-11-24T14:03) or an age (15m).")],
    after: Annotated[str, typer.Argument(metavar="MOMENT", help="Another; default: now.", show_default=False)] = "",
    instance: Instance = "weir",
    file: Recorded = None,
    output: As = Output.table,
) -> None:
    """Show what changed between two points in the log.  Exit code 0: nothing, 1: something, 2: no answer."""
    from weir.cli.diff import diff

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
    from weir.cli.replay import replay

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


async def _until_terminated(work: "Coroutine[Any, Any, None]", beside: "Coroutine[Any, Any, None] | None" = None) -> None:
    import asyncio
    import signal

    task = asyncio.ensure_future(work)
    signals = (signal.SIGTERM, signal.SIGINT)
    loop = asyncio.get_running_loop()

    def end() -> None:
        for number in signals:  # once: a second one must not disturb the orderly end, which has its own limit
            loop.add_signal_handler(number, lambda: None)
        task.cancel()

    for number in signals:
        loop.add_signal_handler(number, end)
    other = asyncio.ensure_future(beside) if beside else None
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await task
    finally:
        if other:
            other.cancel()


def main() -> None:
    """The entry point.  A file that cannot be read or written is no fault of the program: one line, exit code 2."""
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except OSError as error:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())  # what is left of the output cannot be written at exit either
        typer.echo(f"weir: {of_file(error)}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
