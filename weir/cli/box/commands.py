"""Commands that administer Weir on a machine: the log's limits, backup, and the systemd unit."""

from pathlib import Path
from typing import Annotated, Any

import typer

from weir.cli.amounts import Age, Size
from weir.cli.options import (
    Credentials,
    Instance,
    Interfaces,
    Manifests,
    fail,
    of_file,
)
from weir.where import node_name


def limit(instance: Instance = "weir", age: Age = None, size: Size = None) -> None:
    """Show or change the limits of the log, while it runs.  A full log takes no events until it has room again."""
    from weir.cli.box.limits import Limits, limit

    limit(instance, Limits(size, age))


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", dir_okay=False, help="Written atomically; an older one is replaced.")],
    instance: Instance = "weir",
) -> None:
    """Back up the whole log to a file, while Weir runs."""
    from weir.cli.box.backup import backup

    try:
        backup(instance, file.absolute())
    except OSError as error:
        fail(f"{file}: {error.strerror}", 2)


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False)],
    instance: Instance = "weir",
    force: Annotated[bool, typer.Option("--force", help="Move an existing log aside.")] = False,
) -> None:
    """Restore the log from a backup, while Weir is stopped.  The kernel keeps forwarding."""
    from weir.bus.reader import LogError
    from weir.cli.box.backup import BackupError, restore
    from weir.cli.box.supervise import UpError

    try:
        restore(instance, file, force=force)
    except (BackupError, OSError) as error:
        fail(str(error), 2)
    except (UpError, LogError) as error:
        fail(str(error))


def install(
    ctx: typer.Context,
    interface: Annotated[list[str], Interfaces],
    manifests: Manifests = None,
    join: Annotated[str, typer.Option(metavar="URL", help="Run weir join instead, with the log of this NATS.")] = "",
    credentials: Credentials = None,
    instance: Instance = "weir",
    more: Annotated[list[str] | None, typer.Argument(metavar="[-- OPTIONS OF UP]", show_default=False)] = None,
    only_print: Annotated[bool, typer.Option("--print", help="Print the unit instead of writing it.")] = False,
) -> None:
    """Write a systemd unit that runs weir up, or weir join, on this machine."""
    from weir.cli.box.check import absent
    from weir.cli.box.install import install

    if (manifests and join) or not (manifests or join or more):
        fail("expected --manifests, or options of up, or else --join", 2)
    keys = [f"--credentials={credentials.absolute()}"] if credentials else []
    command = ["join", join, *keys] if join else ["up", *(f"--manifests={path.absolute()}" for path in manifests or ())]
    command += [*(f"--interface={name}" for name in interface), *(more or ()), "--instance", instance]
    found = [*absent(interface), *(f"{path}: no such file or directory" for path in manifests or () if not path.exists())]
    if found and not only_print:
        fail("; ".join(found), 2)
    commands: dict[str, Any] = ctx.find_root().command.commands  # type: ignore[attr-defined]
    commands[command[0]].make_context(command[0], list(command[1:]))  # ends with 2 where that command would not take them
    try:
        install(instance, command, only_print=only_print)
    except OSError as error:
        fail(of_file(error))


def uninstall(instance: Instance = "weir") -> None:
    """Remove the systemd unit.  The log stays, and the kernel keeps forwarding until weir down."""
    from weir.cli.box.install import uninstall
    from weir.cli.box.supervise import UpError

    try:
        uninstall(instance)
    except (UpError, OSError) as error:
        fail(str(error))


def credentials(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", file_okay=False, help="Created if missing; existing keys are kept.")],
    node: Annotated[list[str] | None, typer.Option("--node", metavar="NAME", help="An LB node; repeatable.")] = None,
    host: Annotated[list[str] | None, typer.Option("--host", metavar="NAME", help="Another name or address of NATS; repeatable.")] = None,
) -> None:
    """Create keys and certificates for NATS in a cluster: a seed for each user, and secrets.yaml for kubectl apply."""
    from weir.cli.box.credentials import CredentialsError, credentials

    try:
        names = credentials(folder, [node_name(name) for name in node or ()], host or ())
    except (CredentialsError, OSError) as error:
        fail(str(error))
    typer.echo(f"{folder}: {len(names)} users: {', '.join(names)}")
    typer.echo(f"Next: kubectl apply -f {folder / 'secrets.yaml'}; restart NATS if it is running")
