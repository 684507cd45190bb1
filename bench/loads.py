"""What the peers are loaded with.  Each load lasts about a second, from the client's namespace to the VIP, and counts what came through.

A load that met one error has measured something else than it says, and raises.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from weir.demo.network import HTTP_PORT, UDP_PORT, Network

VIP6 = "2001:db8:113::10"
VIP, STREAM_VIP = "203.0.113.10", "203.0.113.11"  # iperf3 opens two connections that must meet at one backend: the second has one only
STREAM_PORT = 5201
SECONDS = 1  # wrk takes whole ones only

_SEGMENT_BYTES = 65_536  # the most that one GSO packet carries
_SCRIPT = Path(__file__).with_name("wrk.lua")


class LoadError(Exception):
    """What was measured is not what was meant."""


@dataclass(frozen=True)
class Outcome:
    """figures: one for each of the load's `figures`, but for the last, which is the CPU time that one unit of `work` took.

    packets: so many, at least, must have passed the load balancer.   starting_s: CPU time that does not count.
    """

    figures: tuple[float, ...]
    packets: int
    work: float
    starting_s: float = 0


@dataclass(frozen=True)
class Load:
    """figures: title, unit and whether less is better, of each figure."""

    name: str
    figures: tuple[tuple[str, str, bool], ...]
    run: Callable[[Network], Outcome]


def stream(network: Network) -> Outcome:
    """One TCP stream.  Both ends on a CPU of their own: where the scheduler puts them decides more than what lies between."""
    command = ("iperf3", "-c", STREAM_VIP, "-p", str(STREAM_PORT), "-t", str(SECONDS), "-A", "0,1", "-J")
    received = json.loads(_out(network, *command))["end"]["sum_received"]
    return Outcome((received["bits_per_second"] / 1e9,), int(received["bytes"] / _SEGMENT_BYTES), received["bytes"] / 1e9)


def udp(network: Network) -> Outcome:
    """64-byte frames on 64 flows, as fast as one sender can."""
    before = delivered(network)
    command = ("taskset", "-c", "0", sys.executable, "-m", "bench.udp", "send", VIP, str(UDP_PORT), str(SECONDS))
    sent, starting_s = _out(network, *command).split()
    came = delivered(network) - before
    if not 0 < came <= int(sent):
        raise LoadError(f"{came} datagrams came of {sent} sent")
    return Outcome((came / SECONDS / 1e3,), came, came / 1e6, float(starting_s))


def http(connections: int, network: Network, *options: str, vip: str = VIP) -> Outcome:
    """Requests on kept connections, as fast as answers come."""
    command = ("wrk", "-t", "2", "-c", str(connections), "-d", f"{SECONDS}s", "-s", str(_SCRIPT), *options, url(vip))
    out = _out(network, *command)
    told = json.loads(out.strip().rpartition("\n")[2])
    if told["errors"] or not told["requests"]:
        raise LoadError(f"wrk: {out}")
    return Outcome((told["requests"] / told["seconds"], told["p50_ms"], told["p99_ms"]), told["requests"], told["requests"] / 1e6)


def url(vip: str) -> str:
    """Of its HTTP server."""
    return f"http://[{vip}]:{HTTP_PORT}/" if ":" in vip else f"http://{vip}:{HTTP_PORT}/"


def connections(network: Network, vip: str = VIP) -> Outcome:
    """A new connection for each request."""
    outcome = http(64, network, "-H", "Connection: close", vip=vip)
    return replace(outcome, figures=outcome.figures[:1])


def delivered(network: Network) -> int:
    """Datagrams that the backends' applications have taken."""
    return sum(snmp(network, backend, "Udp", "InDatagrams") for backend in network.backends)


def snmp(network: Network, place: str, protocol: str, counter: str) -> int:
    """One of the counters that a namespace keeps."""
    names, values = (line.split() for line in network.run(place, "grep", f"^{protocol}:", "/proc/net/snmp").stdout.splitlines())
    return int(values[names.index(counter)])


def _out(network: Network, *command: str) -> str:
    """What a command of the client prints."""
    done = network.run("client", *command, check=False, timeout=30)
    if done.returncode:
        raise LoadError(f"{' '.join(command)}: {done.stderr.strip()[-200:] or done.stdout.strip()[-200:]}")
    return str(done.stdout)


def _http(count: int, vip: str = VIP) -> Load:
    kind, family = ("HTTP, IPv6", "v6") if ":" in vip else ("HTTP", "")
    figures = (
        (f"{kind}, {count} connections", "requests/s", False),
        (f"{kind} p50, {count} connections", "ms", True),
        (f"{kind} p99, {count} connections", "ms", True),
        (f"{kind}, {count} connections, CPU", "µs/request", True),
    )
    return Load(f"http{count}{family}", figures, partial(http, count, vip=vip))


def _connections(vip: str = VIP) -> Load:
    kind, family = ("HTTP, IPv6", "v6") if ":" in vip else ("HTTP", "")
    figures = (f"{kind}, new connections", "connections/s", False), (f"{kind}, new connections, CPU", "µs/connection", True)
    return Load(f"connections{family}", figures, partial(connections, vip=vip))


LOADS = (
    Load("stream", (("TCP, one stream", "Gb/s", False), ("TCP, one stream, CPU", "s/GB", True)), stream),
    Load("udp", (("UDP, 64-byte frames", "kpps", False), ("UDP, 64-byte frames, CPU", "µs/packet", True)), udp),
    _http(64),
    _http(256),
    _connections(),
    _http(64, VIP6),
    _connections(VIP6),
)
