"""Real namespaces and veths: clients - the balancer - backends.

wb-lb holds the program, attached to `front` and `back`.  wb-c is the client, wb-b1 and wb-b2 are backends on one segment, whose
default route is the balancer.
"""

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from services.dataplane.l4.layout import ID, VERDICTS, Backend, Frontend, FrontendKey, Interface, Vip, map_specs, table_pairs
from services.dataplane.load.loader import Options, detach, load
from tests.dataplane.lab import inside, sh
from weir.pins import Map, address_bytes

VIPS = ("198.51.100.1", "fd03::1")
BACKENDS = {"b1": ("10.1.0.11", "fd01::11"), "b2": ("10.1.0.12", "fd01::12")}
SPACES = ("lb", "c", "b1", "b2")

SERVER = """
import http.server, socket, sys, threading
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = (sys.argv[1].encode() + b" ") * int(self.path[1:] or 1)
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def do_POST(self):
        left = int(self.headers["Content-Length"])
        while left: left -= len(self.rfile.read(min(left, 65536)))
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    def log_message(self, *_): pass
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6; daemon_threads = True
def echo():
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.bind(("::", 8080))
    while True:
        data, who = s.recvfrom(65536); s.sendto(sys.argv[1].encode() + b" " + data, who)
threading.Thread(target=echo, daemon=True).start()
Server(("::", 8080), Handler).serve_forever()
"""


def name(space: str) -> str:
    return f"wb-{space}-{os.getpid()}"


class Wire:
    """The balancer as a user has it: loaded, attached, its maps reached through the pins alone."""

    def __init__(self, *interfaces: str, backends: Mapping[str, tuple[str, str]]) -> None:
        self.backends = backends
        self.pins = Path(f"/sys/fs/bpf/weir-test-{os.getpid()}-wire")
        self.options = Options(interfaces, self.pins, "tc", None, map_specs(4096, 64, 256, 1024))

    def load(self) -> list[str]:
        with inside(name("lb")):
            return list(load(self.options))

    def map(self, title: str) -> Map:
        return Map.open(self.options.directory / title)

    def without_flows(self) -> Self:
        """Itself, as the next test wants to find it."""
        for title in ("flows", "flow_index"):
            held = self.map(title)
            held.put_many((key, bytes(held.value_size)) for key, _ in list(held.filled()))
        return self

    def verdict(self, title: str) -> int:
        """How many packets came to it so far."""
        number = next(number for number, name in VERDICTS.items() if name == title)
        counters = self.map("verdicts")
        return sum(int.from_bytes(each, "little") for each in counters.split(counters.get(ID.pack(number)) or b""))

    def serve(self, *backends: str, mode: int = 0) -> None:
        for number, vip in enumerate(VIPS):
            for protocol in ("TCP", "UDP"):
                which = number * 2 + (protocol == "UDP") + 1
                key = FrontendKey(vip, 80, protocol)
                self.map("vips").put(address_bytes(vip), Vip().pack())
                ids = []
                for order, backend in enumerate(backends):
                    entry = Backend(self.backends[backend][number], 8080, protocol)
                    ids.append(which * 8 + order)
                    self.map("backends").put(ID.pack(ids[-1]), entry.pack())
                    self.map("backend_hosts").put(address_bytes(entry.address), b"\1")
                    self.map("backend_ids").put(entry.key(), ID.pack(ids[-1]))
                self.map("tables").put_many(table_pairs(which, ids))
                self.map("frontends").put(key.pack(), Frontend(which, len(ids), which, mode=mode, algorithm=1).pack())


@contextmanager
def wire(*interfaces: str) -> Iterator[Wire]:
    """interfaces: front and back, with the hook of each if need be."""
    with loaded(Wire(*(interfaces or ("front", "back")), backends=BACKENDS), SPACES, _build) as built:
        with inside(name("lb")):
            for interface, v4, v6 in (("front", "192.0.2.254", "fd02::fe"), ("back", "10.1.0.1", "fd01::1")):
                index = socket.if_nametoindex(interface)
                held = Interface.unpack(built.map("interfaces").get(ID.pack(index)) or b"")
                assert (held.v4, held.v6) == (v4, v6)
        yield built


@contextmanager
def loaded(built: Wire, spaces: Sequence[str], build: Callable[[], None]) -> Iterator[Wire]:
    """build: makes the namespaces, "lb" among them and one for each backend."""
    servers = []
    try:
        build()
        servers = [serving(space) for space in built.backends]
        built.load()
        yield built
    finally:
        for server in servers:
            server.kill()
            server.wait()
        list(detach(built.pins))
        for space in spaces:
            sh(f"ip netns delete {name(space)}", check=False)


def serving(space: str) -> subprocess.Popen[bytes]:
    server = subprocess.Popen(["ip", "netns", "exec", name(space), sys.executable, "-c", SERVER, space])
    with inside(name(space)):
        for _ in range(1500):  # an interpreter starts: on a busy machine that takes seconds
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", 8080), 1):
                return server
            threading.Event().wait(0.02)
    raise AssertionError(f"no server in {space}")


def _build() -> None:
    lb, c, b1, b2 = (name(space) for space in SPACES)
    sh(f"""set -e
    for n in {lb} {c} {b1} {b2}; do ip netns add $n; ip -n $n link set lo up
        ip netns exec $n sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0; done
    ip -n {lb} link add front type veth peer name eth0 netns {c}
    ip -n {lb} link add back type bridge; ip -n {lb} link add p1 type veth peer name eth0 netns {b1}
    ip -n {lb} link add p2 type veth peer name eth0 netns {b2}""")
    sh(f"""set -e
    ip -n {lb} link set p1 master back; ip -n {lb} link set p2 master back
    for i in front back p1 p2; do ip -n {lb} link set $i up; done
    ip -n {lb} address add 192.0.2.254/24 dev front; ip -n {lb} address add fd02::fe/64 dev front nodad
    ip -n {lb} address add 10.1.0.1/24 dev back; ip -n {lb} address add fd01::1/64 dev back nodad
    ip -n {c} link set eth0 up; ip -n {c} address add 192.0.2.1/24 dev eth0; ip -n {c} address add fd02::1/64 dev eth0 nodad
    ip -n {c} route add 198.51.100.0/24 dev eth0; ip -n {c} route add fd03::/64 dev eth0
    for b in 1 2; do n=wb-b$b-{os.getpid()}; ip -n $n link set eth0 up
        ip -n $n address add 10.1.0.1$b/24 dev eth0; ip -n $n address add fd01::1$b/64 dev eth0 nodad
        ip -n $n route add default via 10.1.0.1; ip -n $n route add default via fd01::1; done""")
