"""The program under test, in a network namespace of its own, fed by BPF_PROG_TEST_RUN.

Packets arrive on lo.  Backends live behind `back`, clients behind `front`; both have permanent neighbours.  All runs
stay on one CPU, since next hops are kept per CPU.
"""

import ctypes
import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from services.dataplane.l4.layout import (
    FLOW_MORE,
    FLOW_OVER,
    FLOW_SET,
    ID,
    LAYOUT,
    VERDICTS,
    Backend,
    Constants,
    Flow,
    FlowKey,
    Frontend,
    FrontendKey,
    Interface,
    Stats,
    Vip,
    map_specs,
    table_pairs,
)
from services.dataplane.load.clock import TestRun
from services.dataplane.load.links import MODES
from services.dataplane.load.loader import Options, detach
from services.dataplane.load.pinned_maps import create_or_open
from services.dataplane.load.programs import HOOKS, Hook, load_programs
from tests.dataplane.frames import Packet, read
from weir.pins import PROTOCOLS, Map, address_bytes, libbpf

PASS, DROP, OUT = "pass", "drop", "out"
ACTIONS = {
    "tc": {0xFFFFFFFF: PASS, 2: DROP, 7: OUT},
    "xdp": {2: PASS, 1: DROP, 3: OUT, 4: OUT},
}
MAC = bytes.fromhex("02000000beef")
BACKEND_MAC = bytes.fromhex("0200000000b1")
OVERFLOWED, GUEST = 1 << 30, 1 << 28  # of the words in `flow_index`
TICK_MOST_NS = 20_000_000  # the programs read the time to a tick, 10 ms at most
CLIENT_HOP_MAC = bytes.fromhex("0200000000c2")


def sh(command: str, check: bool = True) -> str:
    done = subprocess.run(command, shell=True, check=False, capture_output=True, text=True)
    assert not check or not done.returncode, f"{command}: {done.stderr}"
    return done.stdout


def load_code(hook: Hook, code: bytes, name: str) -> int:
    """A descriptor of a program of these instructions."""
    wishes = struct.pack("=Qii", 16, 0, hook.attach_type)  # struct bpf_prog_load_opts, to expected_attach_type
    fd = int(libbpf().bpf_prog_load(hook.program_type, name.encode(), b"GPL", code, ctypes.c_size_t(len(code) // 8), wishes))
    assert fd >= 0, os.strerror(-fd)
    return fd


def compiled(source: Path, to: Path) -> None:
    """One C file, as bpf/Makefile compiles those of the packet path."""
    arguments = ["make", "-s", "-C", str(Path(__file__).parents[2] / "bpf"), "one", f"FROM={source}", f"TO={to}"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr


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
            elif each.name == "constants":
                continue
            else:
                each.put_many((key, bytes(len(value))) for key, value in list(each.filled()))
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
        **settings: int,
    ) -> None:
        """A frontend whose table is its backends in order, ids from `first`."""
        key = FrontendKey(vip, port, protocol)
        ids = list(range(first, first + len(backends)))
        self.map("vips").put(address_bytes(vip), Vip().pack())
        self.map("tables").put_many(table_pairs(frontend, ids))
        for number, address in zip(ids, backends, strict=True):
            backend = Backend(address, to, protocol)
            self.map("backends").put(ID.pack(number), backend.pack())
            self.map("backend_ids").put(backend.key(), ID.pack(number))
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

    def slots(self) -> dict[FlowKey, int]:
        """Where each flow is."""
        found = ((ID.unpack(at)[0], Flow.unpack(value)) for at, value in self.map("flows").filled())
        return {flow.key: at for at, flow in found if flow.state}

    def flows(self) -> dict[FlowKey, Flow]:
        found = (Flow.unpack(value) for _, value in self.map("flows").filled())
        return {flow.key: flow for flow in found if flow.state}

    def change_flow(self, flow: Flow) -> None:
        self.map("flows").put(ID.pack(self.slots()[flow.key]), flow.pack())

    def age(self, seconds: float) -> None:
        """Makes every flow as old as that: in jiffies, which wrap as the programs' do."""
        tick = self.constants.tick(time.clock_gettime_ns(time.CLOCK_MONOTONIC))
        then = (tick - round(seconds * self.constants.hz)) & 0xFFFFFFFF
        for flow in self.flows().values():
            self.change_flow(replace(flow, seen=then))

    @property
    def constants(self) -> Constants:
        return Constants.unpack(self.map("constants").get(ID.pack(0)) or b"")

    def plan_seq(self, flow: Flow) -> int:
        more = self.map("flow_more").get(ID.pack(self.slots()[flow.key])) or b""
        return int(FLOW_MORE.unpack(more)[0])

    def fill(self, flows: Iterable[Flow]) -> None:
        """Puts flows into the table, from its last slot down, as `enter` does.  A table too small for them is the test's fault."""
        keys, slots = self.constants.keys, self.map("flows").max_entries
        sets: dict[int, list[int]] = {}
        values = list(flows)
        for slot, flow in zip(range(slots - 1, -1, -1), values, strict=False):
            ends = FlowKey(flow.new_destination, flow.new_source, flow.new_destination_port, flow.new_source_port, flow.key.protocol)
            for back, key in ((0, flow.key), (1 << 31, ends)):
                value = hash_of(keys, key)
                tag = value >> 8 & 0xFFFFFFFF | 1
                first = value >> 40 & slots // 2 - 1
                words, guest = sets.setdefault(first, []), 0
                if len(words) == 8:
                    words[0] |= OVERFLOWED
                    words, guest = sets.setdefault(first ^ 1, []), GUEST
                assert len(words) < 8, f"set {first} and the next are full: {len(values)} flows are too many for {slots} slots"
                words.append(tag << 32 | 1 << 29 | back | slot | guest)
        pairs = ((ID.pack(number), FLOW_SET.pack(*words, *[0] * (8 - len(words)))) for number, words in sets.items())
        self.map("flow_index").put_many(pairs)
        self.map("flows").put_many((ID.pack(slots - 1 - at), flow.pack()) for at, flow in enumerate(values))

    def faults(self) -> list[str]:
        """What is wrong with the table: an index word that leads nowhere, or a flow that no word leads to."""
        keys, slots = self.constants.keys, self.map("flows").max_entries
        flows = {ID.unpack(at)[0]: Flow.unpack(value) for at, value in self.map("flows").filled()}
        faults = [f"slot {at} is being written" for at, flow in flows.items() if flow.seq & 1]
        expected = {}
        for slot, flow in flows.items():
            ends = FlowKey(flow.new_destination, flow.new_source, flow.new_destination_port, flow.new_source_port, flow.key.protocol)
            for back, key in ((0, flow.key), (1 << 31, ends)) if flow.state and not flow.flags & FLOW_OVER else ():
                value = hash_of(keys, key)
                expected[(value >> 8 & 0xFFFFFFFF | 1) << 32 | 1 << 29 | back | slot] = value >> 40 & slots // 2 - 1
        sets = {ID.unpack(number)[0]: FLOW_SET.unpack(value) for number, value in self.map("flow_index").filled()}
        found = set[int]()
        for number, words in sets.items():
            for held in filter(lambda word: word & ~OVERFLOWED, words):
                word, home = held & ~(OVERFLOWED | GUEST), number ^ bool(held & GUEST)
                owner = flows.get(word & 0xFFFFFFF)
                if expected.get(word) != home and (not owner or not owner.flags & FLOW_OVER):
                    faults.append(f"set {number}: {held:#x} leads to no flow of that key: {owner}")
                if held & GUEST and not sets.get(home, (0,))[0] & OVERFLOWED:
                    faults.append(f"set {number}: {held:#x} is a guest of {home}, which does not show it")
                if word in found:
                    faults.append(f"word {word:#x} stands twice")
                found.add(word)
        return faults + [f"no word {word:#x} for {flows[word & 0xFFFFFFF]}" for word in expected.keys() - found]

    def empty(self) -> None:
        """Takes every flow away."""
        for name in ("flows", "flow_index"):
            held = self.map(name)
            held.put_many((key, bytes(held.value_size)) for key, _ in list(held.filled()))

    def stats(self, name: str, number: int) -> Stats:
        return Stats.sum(self.map(name).get(ID.pack(number)) or b"")

    def pin_directory(self) -> Path:
        return self.pins / f"v{LAYOUT}"


def hash_of(keys: Sequence[int], key: FlowKey) -> int:
    """As `hash_of` of conntrack.h."""
    words = struct.unpack("=8I", address_bytes(key.source) + address_bytes(key.destination))
    ports = [int.from_bytes(port.to_bytes(2, "big"), "little") for port in (key.source_port, key.destination_port)]
    tail = keys[8] * (ports[0] << 16 | ports[1]) + keys[9] * PROTOCOLS[key.protocol]
    value = (sum(a * b for a, b in zip(keys, words, strict=False)) + tail) % (1 << 64)
    return (value ^ value >> 32) * 0x9E3779B97F4A7C15 % (1 << 64)


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
