"""`weir join`: forward by a remote log, with the services that run on each node and this node's keys.

A machine without a plan attaches nothing before the log answers to its keys: it would only drop packets.  One that has
a plan on disk starts without the log.
"""

import asyncio
import os
import ssl
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from weir.bus.client import Bus
from weir.bus.permissions import HELLO_KEY, OF_NODES, OPERATOR, user
from weir.bus.reader import Forbidden, LogError
from weir.cli.box.limits import answered
from weir.cli.box.oversee import oversee
from weir.cli.box.supervise import Env, UpError, forward, instance, metrics_options
from weir.events import token
from weir.view.processes import HELLO
from weir.where import Where, write_file


class NoKeysError(UpError):
    """The node's keys are missing."""


async def join(
    where: Where,
    url: str,
    credentials: Path | None,
    *,
    interfaces: Sequence[str],
    node: str,
    hook: str,
    metrics: tuple[str, int] | None,
    timeout_s: float,
    hello: str = "100x3",
) -> None:
    """Runs until cancelled.  credentials: a folder of `weir credentials`, or of what it made for this node; None: NATS asks for none.

    hello: ms between hellos, and how many may be missed.
    Raises NoKeysError, LogError where the log does not answer within timeout_s, UpError, or OSError where a file cannot be written.
    """
    if (where.state / "nats").exists():
        raise UpError(f"instance {where.instance} has a log of its own: choose another name with --instance")
    envs = {service: {"WEIR_NATS": url, **(keys(credentials, service, node) if credentials else {})} for service in OF_NODES}
    interval_ms, _, missed = hello.partition("x")
    hellos = [f"--interval-ms={interval_ms}", f"--multiplier={missed}", *_hello_key(credentials)]
    if not (where.state / "plan.json").exists():
        await answered(partial(_reach, url, node, envs), timeout_s)
    async with instance(where, interfaces, node, hook) as supervisor:
        write_file(where.state / "nats.url", f"{url}\n".encode(), secret=True)  # for commands
        async with asyncio.TaskGroup() as group:
            group.create_task(forward(supervisor, interfaces, node, hook, metrics_options(metrics), envs, hello=hellos))
            group.create_task(oversee(supervisor, (*OF_NODES, HELLO)))


async def _reach(url: str, node: str, envs: Mapping[str, Env]) -> None:
    """Read the log as each service does first.  Raises LogError."""
    for service, env in envs.items():
        os.environ.update(env)
        author = f"{service}-{token(node)}"
        try:
            async with await Bus.connect(url, author) as bus:
                await bus.last(author)
        except LogError as error:
            if not isinstance(error, Forbidden) and not isinstance(error.__cause__, ssl.SSLError):
                raise  # it may answer later
            words = "" if "WEIR_NATS_SEED" in env else "; give its keys with --credentials FOLDER"
            raise Forbidden(f"{error}{words}") from error


def _hello_key(credentials: Path | None) -> list[str]:
    """Raises NoKeysError."""
    if credentials is None:
        return []
    path = credentials.absolute() / HELLO_KEY
    if not path.is_file():
        raise NoKeysError(f"{path}: no such file; create it with: weir credentials {credentials}")
    return [f"--key={path}"]


def speak_as_operator(credentials: Path | None) -> None:
    """Show this process to NATS as the operator; without `credentials` as its environment has it.  Raises NoKeysError."""
    os.environ.update(keys(credentials, OPERATOR, "") if credentials else {})


def keys(credentials: Path, service: str, node: str) -> Env:
    """Raises NoKeysError."""
    seed, authority = credentials.absolute() / user(service, node).file, credentials.absolute() / "ca.crt"
    if missing := [path for path in (seed, authority) if not path.is_file()]:
        more = f" --node {node}" if node else ""
        raise NoKeysError(f"{missing[0]}: no such file; create it with: weir credentials {credentials}{more}")
    return {"WEIR_NATS_SEED": str(seed), "WEIR_NATS_CA": str(authority)}
