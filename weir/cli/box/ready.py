"""Messages of `weir up` and `weir join` at a terminal: when they are ready, and what stays when they have stopped."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable

import typer

from weir.view.processes import processes
from weir.view.status import status
from weir.where import Where

PATIENCE_S = 60.0
_FIRST_S, _MOST_S = 0.5, 4.0
Answer = Callable[[], Awaitable[str]]  # what to say once ready; "" until then


def quiet_at_a_terminal(*, verbose: bool) -> bool:
    """Whether standard output is a terminal; then log warnings only, unless `verbose`."""
    if not sys.stdout.isatty():
        return False
    if not verbose:
        os.environ["WEIR_LOG"] = "warning"
    return True


async def announce(answer: Answer) -> None:
    """Print the message of `answer` once there is one; check at growing intervals, up to PATIENCE_S."""
    typer.echo("starting: loading the packet path")
    pause_s, waited_s = _FIRST_S, 0.0
    while not (words := await answer()) and waited_s < PATIENCE_S:
        await asyncio.sleep(pause_s)
        waited_s += pause_s
        pause_s = min(pause_s * 1.5, _MOST_S)
    typer.echo(words or f"not ready after {PATIENCE_S:.0f} s; weir status shows what is missing")


async def serving(instance: str) -> str:
    """Of `weir up`."""
    found = await status(instance)
    if not (found.following and found.programmed()):
        return ""
    vips = {vip for service in found.services for vip in service.vips} | {vip for gateway in found.gateways for vip in gateway.vips}
    backends = sum(service.backends for service in found.services)
    gateways = [(len(found.gateways), "Gateway")] if found.gateways else []
    counts = ((len(found.services), "Service"), *gateways, (len(vips), "VIP"), (backends, "backend"))
    words = ", ".join(f"{count} {what}{'' if count == 1 else 's'}" for count, what in counts)
    return f"ready: {words}{'' if found.ok else '; there are problems: see weir status'}"


async def forwarding(instance: str, url: str) -> str:
    """Of `weir join`."""
    found = processes(Where(instance))
    ready = bool(found) and all(process.good for process in found)
    return f"ready: forwarding by the log at {url.rpartition('@')[2]}" if ready else ""


def stopped(instance: str) -> None:
    """Print what stays."""
    option = "" if instance == "weir" else f" --instance {instance}"
    typer.echo(f"stopped; the kernel keeps forwarding; weir down{option} removes the packet path")
