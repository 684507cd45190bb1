"""`weir up --join`: forwards by a log that others write.  Of the services only those that run on each node, with the node's own keys."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from weir.cli.oversee import oversee
from weir.cli.supervise import Env, UpError, forward, instance, metrics_options
from weir.permissions import OF_NODES, user
from weir.where import Where, write_file


async def join(
    where: Where, url: str, credentials: Path | None, *, interfaces: Sequence[str], node: str, hook: str, metrics: tuple[str, int] | None
) -> None:
    """Runs until cancelled.  credentials: a folder of `weir credentials`, or of what it made for this node; None: NATS asks for none.

    Raises UpError, or OSError where a file cannot be written.
    """
    if (where.state / "nats").exists():
        raise UpError(f"instance {where.instance} has a log of its own: join as another, with --instance")
    envs = {service: {"WEIR_NATS": url, **(keys(credentials, service, node) if credentials else {})} for service in OF_NODES}
    async with instance(where, interfaces, node, hook) as supervisor:
        write_file(where.state / "nats.url", f"{url}\n".encode(), secret=True)  # for commands
        async with asyncio.TaskGroup() as group:
            group.create_task(forward(supervisor, interfaces, node, hook, metrics_options(metrics), envs))
            group.create_task(oversee(supervisor, OF_NODES))


def keys(credentials: Path, service: str, node: str) -> Env:
    """Raises UpError where the node has none."""
    seed, authority = credentials.absolute() / user(service, node).file, credentials.absolute() / "ca.crt"
    if missing := [path for path in (seed, authority) if not path.is_file()]:
        option = f" --node {node}" if node else ""
        raise UpError(f"{missing[0]}: no such file; create it with: weir credentials FOLDER{option}")
    return {"WEIR_NATS_SEED": str(seed), "WEIR_NATS_CA": str(authority)}
