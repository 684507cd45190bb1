"""`weir status`: is it up, does the log answer, is everything that was requested in the kernel."""

import asyncio
import sys
import time
from collections.abc import Sequence

from weir.cli.output import MACHINE, emit_one, harmless, paint, row_of
from weir.view import status as view
from weir.view.gateways import GatewayView, RouteView
from weir.view.ingresses import IngressView
from weir.view.processes import ProcessView
from weir.view.status import NodeStatus, Status

WAITS = {
    "all": "all is well",
    "programmed": "every Service and Gateway is in the kernel of every node",
    "serving": "every Service and Gateway is programmed, every Service has an endpoint, and every route and Ingress is served",
}  # what can be waited for


def status(instance: str, *, wait: str, timeout_s: int, output: str) -> int:
    """Print the state; with `wait` once that holds, or after `timeout_s`.  Return 0: it holds, 1: it does not, 2: not up."""
    end = time.monotonic() + (timeout_s if wait else 0)
    if wait and sys.stderr.isatty():
        print(paint(f"waiting until {WAITS[wait]}, at most {timeout_s} s", "dim"), file=sys.stderr)
    while True:
        found = asyncio.run(view.status(instance))
        good = _holds(found, wait)
        if good or time.monotonic() >= end:
            break
        time.sleep(0.2)  # polling for a person; nothing is synchronised by it
    if output in MACHINE:
        emit_one(row_of(found), output)
    else:
        _print(found)
    return 0 if good else 1 if found.up else 2


def _holds(found: Status, wait: str) -> bool:
    if wait in ("", "all"):
        return found.ok
    return found.following and (found.serving() if wait == "serving" else found.programmed())


def _print(found: Status) -> None:
    if not found.up:
        print(paint(f"✗ instance {found.instance} is not up", "red"), "(weir up -f MANIFESTS -i INTERFACE)")
    if found.starting:
        print(paint(f"! instance {found.instance} is starting:", "yellow"), found.starting)
    for process in found.processes:
        if process.name != "up" or not found.starting:
            print(_mark(process.good), harmless(line(process)))
    print(_mark(found.log_ok), f"{'log':<10} {found.log}")
    for node in found.nodes:
        print(_mark(node.heard), _node(node))
    for service in found.services:
        _print_served("service", f"{service.service} {_vips(service.vips)}", service.summary, good=service.good)
    for gateway in found.gateways:
        _print_served("gateway", f"{gateway.name} {_vips(gateway.vips)}", _state(gateway), good=gateway.good)
    for route in found.routes:
        _print_served("route", f"{route.name} at {route.parent}", _state(route), good=route.good)
    for ingress in found.ingresses:
        _print_served("ingress", f"{ingress.name} {_vips(ingress.vips)}", _state(ingress), good=ingress.good)
    for problem in found.problems:
        print(_mark(False), harmless(problem))
    sys.stdout.flush()


def _print_served(noun: str, name: str, words: str, *, good: bool) -> None:
    print(paint("✓", "green") if good else paint("!", "yellow"), f"{noun:<10} {name}: {harmless(words)}")


def _vips(vips: Sequence[str]) -> str:
    return ",".join(vips) or "no VIP"


def _state(found: GatewayView | RouteView | IngressView) -> str:
    return view.SERVING if found.good else ": ".join(filter(None, (found.state, found.message)))


def _mark(good: bool) -> str:
    return paint("✓", "green") if good else paint("✗", "red")


def _node(node: NodeStatus) -> str:
    plan = f"{_events(node.behind)} behind the plan" if node.behind else "plan applied"
    return f"{'node':<10} {node.node}: {node.hook} on {', '.join(node.interfaces)}, {plan}"


def line(process: ProcessView) -> str:
    """Format one process: `ipam       following, heard 1 s ago, 0 events behind`."""
    words = ["not responding" if process.state == "silent" else process.state]
    words += [f"heard {process.heard_s:.0f} s ago"] if process.heard_s is not None and process.state != "silent" else []
    words += [f"{_events(process.behind)} behind"] if process.behind is not None else []
    return f"{process.name:<10} {', '.join(words)}{': ' if process.reason else ''}{process.reason}"


def _events(count: int) -> str:
    return f"{count} event{'' if count == 1 else 's'}"
