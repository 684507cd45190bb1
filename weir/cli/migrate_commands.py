"""`weir migrate ...`: from other load balancers to Weir."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from weir.cli.options import example, fail

if TYPE_CHECKING:
    from services.watcher.fields import Field
    from weir.cli.migrate import Migrated

app = typer.Typer(no_args_is_help=True, help="Print what another load balancer was told, as Weir is told it.")

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", exists=True, dir_okay=False)]


@app.command(name="kube-loxilb", epilog=example("weir migrate kube-loxilb kube-loxilb.yaml > pools.yaml"))
def kube_loxilb(files: Files) -> None:
    """VIPPools and the watcher's options, of kube-loxilb's Deployment and its --config file.  Services stay as they are."""
    from weir.cli.kube_loxilb import migrate

    _run(files, migrate)


@app.command(epilog=example("weir migrate metallb pools.yaml services.yaml > weir.yaml"))
def metallb(files: Files) -> None:
    """VIPPools of MetalLB's pools, and the Services that have its annotations with Weir's."""
    from weir.cli.metallb import migrate

    _run(files, migrate)


def _run(files: list[Path], made_of: "Callable[[Iterable[Field]], Migrated]") -> None:
    from weir.cli.migrate import MigrateError, migrate

    try:
        migrate(files, made_of)
    except MigrateError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
