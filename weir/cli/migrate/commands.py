"""`weir migrate ...`: convert the configuration of other load balancers."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from weir.cli.options import example, fail, of_file

if TYPE_CHECKING:
    from services.watcher.kinds.fields import Field
    from weir.cli.migrate.manifests import Migrated

app = typer.Typer(
    no_args_is_help=True,
    help="Convert the configuration of another load balancer.  Exit code 0: converted, 1: partly converted, 2: cannot be read.",
)

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", exists=True, dir_okay=False, allow_dash=True, help='"-": standard input.')]
Keep = Annotated[
    bool, typer.Option("--keep-addresses", help="Let Services request the addresses in their status (kubectl get svc -A -o yaml).")
]


@app.command(name="kube-loxilb", epilog=example("weir migrate kube-loxilb kube-loxilb.yaml > pools.yaml"))
def kube_loxilb(files: Files, keep_addresses: Keep = False) -> None:
    """Convert kube-loxilb's Deployment and its --config file to VIPPools and options of the watcher.

    Services stay as they are, but for --keep-addresses.
    """
    from weir.cli.migrate.kube_loxilb import migrate

    _run(files, partial(migrate, keep=keep_addresses))


@app.command(epilog=example("weir migrate metallb pools.yaml services.yaml > weir.yaml"))
def metallb(files: Files, keep_addresses: Keep = False) -> None:
    """Convert MetalLB's pools to VIPPools, and its annotations on Services to Weir's."""
    from weir.cli.migrate.metallb import migrate

    _run(files, partial(migrate, keep=keep_addresses))


def _run(files: list[Path], made_of: "Callable[[Iterable[Field]], Migrated]") -> None:
    from weir.cli.migrate.manifests import MigrateError, migrate

    try:
        complete = migrate(files, made_of)
    except MigrateError as error:
        fail(str(error), 2)
    except OSError as error:
        fail(of_file(error), 2)
    raise typer.Exit(0 if complete else 1)
