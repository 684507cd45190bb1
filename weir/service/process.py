"""The process of a service: its files, its tasks, SIGTERM and exit codes."""

import asyncio
import contextlib
import gc
import resource
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
import uvloop

from weir.service.runner import Runner

RELOAD: Final = 75  # exit code of a dataplane that needs the loader to run again
REPLICATED: Final = ("watcher", "ipam", "planner")  # services of which several replicas may run

log = structlog.get_logger()
Edge = Callable[[Runner], Awaitable[None]]


class LoadAgain(Exception):
    """Something that the loader put in place is missing.  React: run the loader before the next life of this process."""


def allow_files() -> None:
    """Raise the limit of open files to what the machine allows: a probe is a socket."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def serve(runner: Runner, *edges: Edge) -> None:
    """Run the service until SIGTERM.  An unexpected exception ends the process: the log is the recovery."""
    allow_files()
    gc.freeze()
    sys.exit(uvloop.run(_until_stopped(runner, edges)))


async def _until_stopped(runner: Runner, edges: tuple[Edge, ...]) -> int:
    task = asyncio.current_task()
    assert task
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        return await _run(runner, edges)
    return 0


async def _run(runner: Runner, edges: tuple[Edge, ...]) -> int:
    """Return the exit code, once a task has ended the process."""
    code = 0
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(runner.beat())
            group.create_task(runner.run())
            for edge in edges:
                group.create_task(edge(runner))  # type: ignore[arg-type]
    except* LoadAgain as again:
        log.warning("load_again", service=runner.author, reason=str(again.exceptions[0]))
        code = RELOAD
    return code
