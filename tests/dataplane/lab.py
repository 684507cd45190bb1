"""The program under test, in a network namespace of its own, fed by BPF_PROG_TEST_RUN.

Packets arrive on lo.  Backends live behind `back`, clients behind `front`; both have permanent neighbours.  All runs
stay on one CPU, since next hops are kept per CPU.
"""

import ctypes
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from services.dataplane.kernel_clock import TestRun
from services.dataplane.layout import (
    ID,
    LAYOUT,
    VERDICTS,
    Backend,
    Flow,
    FlowKey,
    Frontend,
    FrontendKey,
    Interface,
    Origin,
    Stats,
    Vip,
    map_specs,
    table_pairs,
)
from services.dataplane.links import MODES
from services.dataplane.loader import Options, detach
from services.dataplane.pinned_maps import create_or_open
from services.dataplane.programs import HOOKS, load_programs
from tests.dataplane.frames import Packet, read
from weir.pins import Map, address_bytes, libbpf

PASS, DROP, OUT = "pass", "drop", "out"
ACTIONS = {
    "tc": {0xFFFFFFFF: PASS, 2: DROP, 7: OUT},
    "xdp": {2: PASS, 1: DROP, 3: OUT, 4: OUT},
}
MAC = bytes.fromhex("02000000beef")
BACKEND_MAC = bytes.fromhex("0200000000b1")
TICK_MOST_NS = 20_000_000  # the programs read the time to a tick, 10 ms at most
CLIENT_HOP_MAC = bytes.fromhex("0200000000c2")


def sh(command: str, check: bool = True) -> str:
    done = subprocess.run(command, shell=True, check=False, capture_output=True, text=True)
    assert not check or not done.returncode, f"{command}: {done.stderr}"
    return done.stdout


@contextmanager
def inside(netns: str) -> Iterator[None]:
    """This thread in `netns`."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{netns}", os.O_RDONLY)
    try:
        assert libc.setns(there, 0) == 0, os.strerror(ctypes.get_errno())
        yield
    finally:
        libc.setns(home, 0)
        os.close(home)
        os.close(there)


def run_program(program: int, frame: bytes, repeat: int = 1, context: bytes = b"") -> tuple[int, bytes, int]:
    """What the program returned, the frame as it left, and ns for each run."""
    out = ctypes.create_string_buffer(len(frame) + 256)
    run = TestRun(
        sz=ctypes.sizeof(TestRun),
        data_in=frame,
        data_size_in=len(frame),
        data_out=ctypes.addressof(out),
        data_size_out=len(out),
        ctx_in=context or None,
        ctx_size_in=len(context),
        repeat=repeat,
    )
    code = libbpf().bpf_prog_test_run_opts(program, ctypes.byref(run))
    assert code == 0, os.strerror(-code)
    return run.retval, out.raw[: run.data_size_out], run.duration


class Lab:
    """One loaded program and its maps, which each test finds empty."""

    def __init__(self, hook: str, conntrack: int = 4096, name: str = "lab") -> None:
        self.hook = hook
        self.pins = Path(f"/sys/fs/bpf/weir-test-{os.getpid()}-{name}-{hook}")
        self.options = Options((), self.pins, hook, None, map_specs(conntrack, 1024, 4096, 65536))
        self.options.directory.mkdir(parents=True)
        descriptors = {spec.name: create_or_open(self.options.directory, spec) for spec in self.options.maps}
        self._loaded = load_programs(HOOKS[hook], descriptors)
        self.program = self._loaded.__enter__()
        self.maps = {name: Map(fd, name) for name, fd in descriptors.items()}
        self.before: dict[str, int] = {}

    def close(self) -> None:
        self._loaded.__exit__(None, None, None)
        for each in self.maps.values():
            each.close()
        list(detach(self.pins))

    def map(self, name: str) -> Map:
        return self.maps[name]

    def clear(self) -> None:
        for each in self.maps.values():
            if each.kind == 3:
                continue
            if each.kind in (1, 9, 11):
                each.delete_many([key for key, _ in each.items()])
            elif each.name in ("backends", "frontend_stats", "backend_stats"):
                each.put_many((ID.pack(at), bytes(each._value_bytes)) for at in range(32))
            else:
                each.put_many((key, bytes(len(value))) for key, value in list(each.items()))
        self.map("interfaces").put(ID.pack(1), Interface(MAC, flags=MODES[self.hook]).pack())
        self.map("interfaces").put(ID.pack(self.index("back")), Interface(MAC, "10.1.0.1", "fd01::1", MODES[self.hook]).pack())
        self.map("interfaces").put(ID.pack(self.index("front")), Interface(MAC, "192.0.2.254", "fd02::fe", MODES[self.hook]).pack())
        self.before = self.verdicts()

    def index(self, name: str) -> int:
        return socket.if_nametoindex(name)

    def serve(
        self,
        vip: str,
        backends: Sequence[str],
        port: int = 80,
        to: int = 8080,
        protocol: str = "TCP",
        frontend: int = 1,
        first: int = 1,
        shared: int = 0,
        **settings: int,
    ) -> None:
        """A frontend whose table is its backends in order, ids from `first`."""
        key = FrontendKey(vip, port, protocol)
        ids = list(range(first, first + len(backends)))
        self.map("vips").put(address_bytes(vip), Vip().pack())
        self.map("tables").put_many(table_pairs(frontend, ids))
        for number, address in zip(ids, backends, strict=True):
            backend = Backend(address, to, protocol, shared)
            self.map("backends").put(ID.pack(number), backend.pack())
            self.map("origins").put(backend.key(), Origin(number, (key,)).pack())
        self.map("frontends").put(key.pack(), Frontend(frontend, len(ids), frontend, **settings).pack())

    def down(self, *backends: str, port: int = 8080, protocol: str = "TCP") -> None:
        for address in backends:
            self.map("backend_up").put(Backend(address, port, protocol).key(), b"\0")

    def send(self, packet: Packet | bytes) -> tuple[str, str, bytes]:
        """Verdict, action, and the frame as it left."""
        frame = packet.frame() if isinstance(packet, Packet) else packet
        before = self.verdicts()
        value, out, _ = run_program(self.program, frame)
        after = self.verdicts()
        changed = {name: after[name] - before[name] for name in after if after[name] != before[name]}
        assert sum(changed.values()) == 1, f"one packet, verdicts {changed}"
        return next(iter(changed)), ACTIONS[self.hook][value], out

    def out(self, packet: Packet | bytes, verdict: str) -> Packet:
        """The packet as it left, which it must, by this verdict.  Its MACs are in `macs`, not in what is returned."""
        got, action, frame = self.send(packet)
        assert (got, action) == (verdict, OUT)
        self.macs = frame[:12]
        return read(frame).but(eth=(packet.eth if isinstance(packet, Packet) else packet[:12]))

    def dropped(self, packet: Packet | bytes, verdict: str) -> None:
        got, action, _ = self.send(packet)
        assert (got, action) == (verdict, DROP)

    def passed(self, packet: Packet | bytes, verdict: str = "passed") -> None:
        frame = packet.frame() if isinstance(packet, Packet) else packet
        got, action, out = self.send(frame)
        assert (got, action) == (verdict, PASS)
        assert out == frame, "passed, but not untouched"

    def verdicts(self) -> dict[str, int]:
        counters = self.map("verdicts")
        return {
            VERDICTS[ID.unpack(key)[0]]: sum(int.from_bytes(each, "little") for each in counters.split(value))
            for key, value in counters.items()
            if ID.unpack(key)[0] in VERDICTS
        }

    def flows(self) -> dict[FlowKey, Flow]:
        return {FlowKey.unpack(key): Flow.unpack(value) for key, value in self.map("conntrack").items()}

    def change_flow(self, key: FlowKey, flow: Flow) -> None:
        self.map("conntrack").put(key.pack(), flow.pack())

    def stats(self, name: str, number: int) -> Stats:
        return Stats.sum(self.map(name).get(ID.pack(number)) or b"")

    def pin_directory(self) -> Path:
        return self.pins / f"v{LAYOUT}"


@contextmanager
def namespace(name: str) -> Iterator[None]:
    sh(f"ip netns add {name}")
    try:
        with inside(name):
            sh(f"""set -e
            ip link set lo up; sysctl -qw net.ipv4.conf.all.forwarding=1 net.ipv6.conf.all.forwarding=1
            sysctl -qw net.ipv4.conf.lo.forwarding=1 net.ipv6.conf.lo.forwarding=1 net.ipv6.conf.default.accept_dad=0
            ip link add back type veth peer name back1; ip link add front type veth peer name front1
            ip link set back1 up; ip link set front1 up
            ip link set back address {MAC.hex(":")} up; ip link set front address {MAC.hex(":")} up
            ip address add 10.1.0.1/24 dev back; ip address add fd01::1/64 dev back nodad
            ip address add 192.0.2.254/24 dev front; ip address add fd02::fe/64 dev front nodad
            for i in 1 2 3 4 5 6; do
                ip neighbour add 10.1.0.1$i lladdr 02:00:00:00:00:b1 dev back
                ip neighbour add fd01::1$i lladdr 02:00:00:00:00:b1 dev back
                ip neighbour add 192.0.2.$i lladdr 02:00:00:00:00:c2 dev front
                ip neighbour add fd02::$i lladdr 02:00:00:00:00:c2 dev front
            done
            ip route add blackhole 203.0.113.0/24; ip -6 route add blackhole fd99::/64""")
            yield
    finally:
        sh(f"ip netns delete {name}")
