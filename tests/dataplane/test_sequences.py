"""Random sequences of packets and events, the program beside the model of life.py: verdict, frame and state are compared after each.

WEIR_SEQUENCES sets how many.  Of one that fails, the events that it does not need are left out and the rest is shown.
"""

import ctypes
import mmap
import os
import random
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from struct import Struct

import pytest

from services.dataplane.l4.conntrack import FlowTable, Parted
from services.dataplane.l4.layout import (
    AFFINITY,
    AFFINITY_KEY,
    AFFINITY_OF,
    ALGORITHMS,
    FLOW_OVER,
    FRONTEND_AFFINITY,
    ID,
    MODES,
    NO_BACKEND,
    STATES,
    Backend,
    Flow,
    Frontend,
    FrontendKey,
    table_pairs,
)
from services.dataplane.load.clock import TestRun
from tests.dataplane.frames import ACK, FIN, RST, SYN, Packet, cut, joined
from tests.dataplane.lab import ACTIONS, DROP, OUT, PASS, Lab
from tests.dataplane.life import BackKey, Difference, Model, World
from weir.pins import address_bytes, libbpf

SEQUENCES = int(os.environ.get("WEIR_SEQUENCES", "100000"))
SEED = int(os.environ.get("WEIR_SEED", "20261130"))
LENGTH = 10  # events of a sequence after its prefix
SLOTS = 64
WORDS, LIFE_AT, SEEN_AT = Flow.FORMAT.size // 8, 40, 48
SEEN = Struct("=I")
PORTS = {"default": range(1024, 65536), "fullnat": range(1024, 65536), "onearm": {*range(1024, 32768), *range(61000, 65536)}}
KINDS = (("TCP", 0, ""), ("TCP", 3600, ""), ("TCP", 20, ""), ("UDP", 0, ""), ("UDP", 300, ""))
CHOICES = ("round robin", "affinity")  # how a backend is chosen, where that is not by hash; who has none to keep goes round robin
WORLDS = [(mode, *kind) for mode in MODES for kind in KINDS]
WORLDS += [("default", proto, 0, choice) for proto in ("TCP", "UDP") for choice in CHOICES] + [("default", "SCTP", 0, "")]
KEEPS_S = 600
FLAGS = (SYN, SYN, ACK, ACK, ACK, FIN | ACK, RST)
ANSWERS = (SYN | ACK, ACK, ACK, ACK, FIN | ACK, RST, SYN)
WAITS = (1, 1, 25, 35, 100, 130, 1700, 1900, 3700)
Event = tuple[str, int, int]
OPENED: list[Event] = [("in", 1, 0), ("out", 0, 0), ("in", 1, 2)]  # the numbers choose among VIPs, packets known, FLAGS and ANSWERS
FINS: list[Event] = [("in", 1, 5), ("out", 0, 4)]
PREFIXES: list[list[Event]] = [[], OPENED, OPENED + FINS[:1], OPENED + FINS, [*OPENED, ("in", 1, 6)]]
SIDES = [f"{kind} {side}" for kind in ("FIN", "RST") for side in ("in", "out")]
CELLS = {("none", event) for event in (*SIDES, "SYN", "in", "out", "SYN+ACK out")}
CELLS |= {
    (state, event)
    for state in STATES[1:]
    for event in (
        *SIDES,
        "SYN",
        "SYN, lost",
        "SYN, left",
        "in",
        "in, lost",
        "out",
        "SYN+ACK out",
        "expired",
        "expired, out",
        "cut",
        "cut, out",
    )
}
UDP_CELLS = {(state, event) for state, event in CELLS if state in STATES[:3] and not {"SYN", "FIN", "RST"} & {event[:3]}}


def sequences(dice: random.Random, count: int) -> Iterator[list[Event]]:
    """Half of them from an empty table."""
    kinds = ("in",) * 12 + ("out",) * 9 + ("wait",) * 3 + ("down", "up", "leave", "drain", "join", "cut", "gone", "direct")
    kinds += ("pieces", "answer_pieces")
    for _ in range(count):
        prefix = PREFIXES[max(0, dice.randrange(-4, len(PREFIXES)))]
        yield prefix + [(dice.choice(kinds), dice.randrange(1 << 16), dice.randrange(1 << 16)) for _ in range(LENGTH)]


class Runner:
    """The program and the model of one world: two VIPs, of which both are served by the first backend, one also by the second.

    SCTP's checksum does not allow another port: there each VIP has a backend of its own, and flows never meet.
    """

    def __init__(self, lab: Lab, v6: bool, mode: str, proto: str, idle_s: int, choice: str) -> None:
        self.lab, self.mode, self.proto, self.idle_s, self.choice = lab, mode, proto, idle_s, choice
        self.port = 8080 if proto == "SCTP" else 80
        self.vips = ["fd03::1", "fd03::2"] if v6 else ["198.51.100.1", "198.51.100.2"]
        self.backends = ["fd01::11", "fd01::12"] if v6 else ["10.1.0.11", "10.1.0.12"]
        self.ours, client = ("fd01::1", "fd02::1") if v6 else ("10.1.0.1", "192.0.2.1")
        self.client = (client, 40000)
        flows, index = lab.map("flows"), lab.map("flow_index")
        self.slots = memoryview(mmap.mmap(flows.fd, SLOTS * Flow.FORMAT.size))
        self.index = memoryview(mmap.mmap(index.fd, index.max_entries * 64))
        self.words = self.slots.cast("Q")
        self.table = FlowTable(flows, lab.map("constants"))
        self.hz = lab.constants.hz
        self.frames: dict[tuple[object, ...], bytes] = {}
        self.verdicts: Counter[str] = Counter()
        self.cells: Counter[tuple[str, str]] = Counter()
        self.out = ctypes.create_string_buffer(512)
        self.run_options = TestRun(sz=ctypes.sizeof(TestRun), data_out=ctypes.addressof(self.out), repeat=1)
        self.call, self.options_at = libbpf().bpf_prog_test_run_opts, ctypes.byref(self.run_options)
        self.set: dict[object, object] = {}
        self.ident = 0

    # ── one sequence ──

    def run(self, events: list[Event]) -> None:
        """Raises Difference, or AssertionError."""
        self._start()
        for kind, first, second in events:
            getattr(self, f"_{kind}")(first, second)
        self.cells += self.model.cells

    def _start(self) -> None:
        self.slots[:] = bytes(len(self.slots))
        self.index[:] = bytes(len(self.index))
        source = {"default": None, "onearm": self.ours}
        turns = {vip: self.lab.stats("frontend_stats", number).flows for number, vip in enumerate(self.vips, 1)}
        members = (self.backends[:1], self.backends[1:]) if self.proto == "SCTP" else (self.backends, self.backends[:1])
        self.model = Model(
            World(
                proto=self.proto,
                client=self.client,
                members=dict(zip(self.vips, members, strict=True)),
                idle_s=self.idle_s or (1800 if self.proto == "TCP" else 120),
                sources={vip: source.get(self.mode, vip) for vip in self.vips},
                ports=PORTS[self.mode],
                exist=set(self.backends),
                turns=turns if self.choice else {},
                keeps_s=KEEPS_S if self.choice == "affinity" else 0,
            )
        )
        self.lab.map("affinity").delete_many([key for key, _ in self.lab.map("affinity").items()] if self.choice == "affinity" else [])
        self.held: dict[str, int] = {}
        self.backs: list[BackKey] = [((backend, 8080), self.client) for backend in self.backends]
        for number, backend in enumerate(self.backends, 1):
            self._exists(number, Backend(backend, 8080, self.proto).pack())
            self._is_up(backend, up=True)
        for vip in self.vips:
            self._serve(vip)

    # ── events ──

    def _wait(self, first: int, _: int) -> None:
        seconds = self.model.wait(WAITS[first % len(WAITS)])
        self._age(seconds * self.hz)
        kept = self.lab.map("affinity")
        for key in [AFFINITY_KEY.pack(self.vips.index(vip) + 1, address_bytes(self.client[0])) for vip in self.model.kept]:
            backend, last_ns = AFFINITY.unpack(kept.get(key) or b"")
            kept.put(key, AFFINITY.pack(backend, (last_ns - seconds * 10**9) % 2**64))

    def _down(self, first: int, _: int) -> None:
        self._is_up(self.backends[first % 2], up=False)

    def _up(self, first: int, _: int) -> None:
        self._is_up(self.backends[first % 2], up=True)

    def _leave(self, first: int, second: int) -> None:
        self._part(self.vips[first % 2], self.backends[second % 2], leaving=False)

    def _drain(self, first: int, second: int) -> None:
        self._part(self.vips[first % 2], self.backends[second % 2], leaving=True)

    def _join(self, first: int, second: int) -> None:
        vip, backend = self.vips[first % 2], self.backends[second % 2]
        if self.proto == "SCTP" and first % 2 != second % 2:
            return
        if backend in self.model.exist and backend not in self.model.members[vip]:
            self.model.members[vip].append(backend)
            self._serve(vip)

    def _cut(self, first: int, second: int) -> None:
        vip, backend = first % 2, second % 2
        self.model.cut(self.vips[vip], self.backends[backend])
        self.table.cut({(vip + 1, backend + 1)})

    def _gone(self, first: int, _: int) -> None:
        """From the plan: of every frontend, and its number is free."""
        backend = self.backends[first % 2]
        for vip in self.vips:
            self._part(vip, backend, leaving=False)
        self.model.exist.discard(backend)
        self._exists(first % 2 + 1, NO_BACKEND)

    def _direct(self, first: int, second: int) -> None:
        """The client dials a backend itself, from the port that it dialled the VIP from."""
        self._passes(self._frame(self.client, (self.backends[first % 2], 8080), self._flags(FLAGS, second)), "passed")

    def _in(self, first: int, second: int) -> None:
        vip, flags = self.vips[first % 4 == 0], self._flags(FLAGS, second)
        why = self.model.sent(vip, flags)
        action, frame = self._send(self._frame(self.client, (vip, self.port), flags))
        if why and not self.model.choices(vip):
            self._expect(action, DROP, "no_backend")
            self._compare()
            return
        self._expect(action, OUT, "forwarded")
        source, target = _ends(frame)
        if why:
            self.model.begin(vip, (target, source), flags, why)
        else:
            self.model.goes_on(vip, (target, source), flags)
        if self._frame(source, target, flags, 63)[12:] != frame[12:]:
            raise Difference(f"{frame.hex()} left")
        self._learn(vip, (target, source))
        self._compare()

    def _out(self, first: int, second: int) -> None:
        back, flags = self.backs[-1 - first % min(3, len(self.backs))], self._flags(ANSWERS, second)
        frame = self._frame(back[0], back[1], flags)
        vip = self.model.answered(back, flags)
        if not vip:
            self._passes(frame, "no_frontend" if back[1][0] in self.vips else "passed")
            return
        action, left = self._send(frame)
        self._expect(action, OUT, "replied")
        if left[12:] != self._frame((vip, self.port), self.client, flags, 63)[12:]:
            raise Difference(f"{left.hex()} left")
        self._compare()

    def _pieces(self, first: int, _: int) -> None:
        """A datagram of the client in three fragments: as one that is whole, but for its id."""
        vip = self.vips[first % 4 == 0]
        if self.proto != "UDP":
            return
        why = self.model.sent(vip, ACK)
        pieces = self._cut_up(self.client, (vip, self.port))
        if why and not self.model.choices(vip):
            self._expect(self._send(pieces[0])[0], DROP, "no_backend")
            return
        packet = self._joined(pieces, "forwarded")
        back = (packet.dst, packet.dport), (packet.src, packet.sport)
        if why:
            self.model.begin(vip, back, ACK, why)
        else:
            self.model.goes_on(vip, back, ACK)
        self._learn(vip, back)
        self._compare()

    def _answer_pieces(self, first: int, _: int) -> None:
        """The same of a backend; where it answers no flow, all of it is passed."""
        back = self.backs[-1 - first % min(3, len(self.backs))]
        if self.proto != "UDP":
            return
        vip, pieces = self.model.answered(back, ACK), self._cut_up(*back)
        if not vip and back[1][0] in self.vips:
            return
        if not vip:
            for piece in pieces:
                self._passes(piece, "passed")
            return
        packet = self._joined(pieces, "replied")
        if ((packet.src, packet.sport), (packet.dst, packet.dport)) != ((vip, self.port), self.client):
            raise Difference(f"{packet} left")
        self._compare()

    def _cut_up(self, source: tuple[str, int], target: tuple[str, int]) -> list[bytes]:
        self.ident += 1
        packet = Packet(src=source[0], dst=target[0], sport=source[1], dport=target[1], proto="UDP", body=bytes(40))
        return cut(packet, self.ident % 65536, 16)

    def _joined(self, pieces: list[bytes], verdict: str) -> Packet:
        left = []
        for piece in pieces:
            action, frame = self._send(piece)
            self._expect(action, OUT, verdict)
            left.append(frame)
        return joined(left)[0]

    # ── what they need ──

    def _flags(self, some: Sequence[int], number: int) -> int:
        return some[number % len(some)] if self.proto == "TCP" else ACK

    def _part(self, vip: str, backend: str, *, leaving: bool) -> None:
        self.model.part(vip, backend, leaving=leaving)
        self._serve(vip)
        pair = {(self.vips.index(vip) + 1, self.backends.index(backend) + 1)}
        self.table.part(Parted(left=set() if leaving else pair, leaving=pair if leaving else set(), frontends=set()))

    def _changes(self, what: object, value: object) -> bool:
        """Whether the maps hold another value: a system call that changes nothing is not worth its time."""
        before, self.set[what] = self.set.get(what), value
        return before != value

    def _exists(self, number: int, value: bytes) -> None:
        if self._changes(number, value):
            self.lab.map("backends").put(ID.pack(number), value)

    def _is_up(self, backend: str, *, up: bool) -> None:
        (self.model.up.add if up else self.model.up.discard)(backend)
        if self._changes(backend, up):
            self.lab.map("backend_up").put(Backend(backend, 8080, self.proto).key(), bytes((up,)))

    def _serve(self, vip: str) -> None:
        number = self.vips.index(vip) + 1
        ids = [self.backends.index(backend) + 1 for backend in self.model.members[vip]]
        if not self._changes(vip, ids):
            return
        self.lab.map("tables").put_many(table_pairs(number, ids))
        if self.choice == "affinity":
            keeps = self.lab.map("affinity_s")
            keeps.delete_many([AFFINITY_OF.pack(number, backend) for backend in (1, 2)])
            keeps.put_many([(AFFINITY_OF.pack(number, backend), ID.pack(KEEPS_S)) for backend in ids])
        value = Frontend(
            number,
            len(ids),
            number,
            self.idle_s,
            algorithm=ALGORITHMS.index("rr" if self.choice else "maglev"),
            mode=MODES.index(self.mode),
            flags=FRONTEND_AFFINITY if self.choice == "affinity" else 0,
        )
        self.lab.map("frontends").put(FrontendKey(vip, self.port, self.proto).pack(), value.pack())

    def _frame(self, source: tuple[str, int], target: tuple[str, int], flags: int, ttl: int = 64) -> bytes:
        key = (source, target, flags, ttl)
        if key not in self.frames:
            packet = Packet(src=source[0], dst=target[0], sport=source[1], dport=target[1], proto=self.proto, flags=flags, ttl=ttl)
            self.frames[key] = packet.frame()
        return self.frames[key]

    def _send(self, frame: bytes) -> tuple[str, bytes]:
        self._age(1)  # the program checks a flow once a tick: every packet here is in one of its own
        options = self.run_options
        options.data_in, options.data_size_in, options.data_size_out = frame, len(frame), len(self.out)
        assert self.call(self.lab.program, self.options_at) == 0
        return ACTIONS[self.lab.hook][options.retval], self.out.raw[: options.data_size_out]

    def _expect(self, action: str, expected: str, verdict: str) -> None:
        self.verdicts[verdict] += 1
        if action != expected:
            raise Difference(f"{action}, expected {expected}: {verdict}")

    def _passes(self, frame: bytes, verdict: str) -> None:
        action, left = self._send(frame)
        self._expect(action, PASS if verdict == "passed" else DROP, verdict)
        if verdict == "passed" and left != frame:
            raise Difference("passed, but not untouched")
        self._compare()

    def _age(self, ticks: int) -> None:
        for slot in self.held.values():
            at = slot * Flow.FORMAT.size + SEEN_AT
            SEEN.pack_into(self.slots, at, SEEN.unpack_from(self.slots, at)[0] - ticks & 0xFFFFFFFF)

    def _lives(self) -> list[int]:
        return self.words[LIFE_AT // 8 :: WORDS].tolist()

    def _learn(self, vip: str, back: BackKey) -> None:
        """In which slot the flow is."""
        if back not in self.backs:
            self.backs.append(back)
        number = self.vips.index(vip) + 1
        for slot, life in enumerate(self._lives()):
            if life >> 32 & 0xFF and not life >> 40 & FLOW_OVER and self.slots[slot * 128 + 104] == number:
                self.held[vip] = slot

    def _compare(self) -> None:
        """The states of the flows that are not over, and that there are no others."""
        lives = self._lives()
        program = {slot: STATES[life >> 32 & 0xFF] for slot, life in enumerate(lives) if life >> 32 & 0xFF and not life >> 40 & FLOW_OVER}
        model = {self.held[vip]: flow.state for vip, flow in self.model.flows.items() if not flow.over}
        if program != model:
            raise Difference(f"states {program}, expected {model}")


def _ends(frame: bytes) -> tuple[tuple[str, int], tuple[str, int]]:
    v6 = frame[12:14] == b"\x86\xdd"
    family, at, size, l4 = (socket.AF_INET6, 22, 16, 54) if v6 else (socket.AF_INET, 26, 4, 34)
    source, target = (socket.inet_ntop(family, frame[start : start + size]) for start in (at, at + size))
    return (source, int.from_bytes(frame[l4 : l4 + 2], "big")), (target, int.from_bytes(frame[l4 + 2 : l4 + 4], "big"))


def shrunk(runner: Runner, events: list[Event]) -> tuple[list[Event], str]:
    """The same failure with fewer events."""
    reason = _failure(runner, events)
    for at in range(len(events) - 1, -1, -1):
        less = events[:at] + events[at + 1 :]
        if other := _failure(runner, less):
            events, reason = less, other
    return events, reason


def _failure(runner: Runner, events: list[Event]) -> str:
    try:
        runner.run(events)
    except AssertionError as error:
        return str(error) or "failed"
    return ""


@pytest.fixture(params=["tc", "xdp"])
def small(labs: dict[str, Lab], request: pytest.FixtureRequest) -> Iterator[Lab]:
    lab = Lab(request.param, SLOTS, "sequences")
    try:
        yield lab
    finally:
        lab.close()


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_every_sequence_goes_as_the_model_says(small: Lab, family: str) -> None:
    dice = random.Random(f"{SEED} {small.hook} {family}")
    cells: dict[str, Counter[tuple[str, str]]] = {"TCP": Counter(), "UDP": Counter(), "SCTP": Counter()}
    for mode, proto, idle_s, choice in WORLDS:
        small.clear()
        runner = Runner(small, family == "v6", mode, proto, idle_s, choice)
        for vip in runner.vips:
            small.serve(vip, runner.backends, protocol=proto, port=runner.port)
        before = small.verdicts()
        for number, events in enumerate(sequences(dice, SEQUENCES // 4 // len(WORLDS))):
            try:
                runner.run(events)
            except AssertionError as error:
                pytest.fail(f"{mode} {proto} {idle_s} {choice} sequence {number}: {error}: {shrunk(runner, events)}")
        after = small.verdicts()
        assert {name: after[name] - before[name] for name in after if after[name] != before[name]} == dict(runner.verdicts)
        cells[proto] += runner.cells
    missed = (CELLS - set(cells["TCP"])) | (UDP_CELLS - set(cells["UDP"])) | (UDP_CELLS - set(cells["SCTP"]))
    assert not missed or SEQUENCES < 20_000, f"cells of the table that no sequence came to: {sorted(missed)}"


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_a_flow_whose_backends_are_all_down_is_begun_once_though_a_tick_passes_meanwhile(small: Lab, family: str) -> None:
    """The packet is looked at again once its flow is written, by a clock that may have gone on."""
    runner = Runner(small, family == "v6", "default", "UDP", 0, "round robin")
    small.serve(runner.vips[0], runner.backends, protocol="UDP", port=runner.port)
    small.serve(runner.vips[1], runner.backends, protocol="UDP", port=runner.port, frontend=2)
    runner._start()
    for backend in runner.backends:
        runner._is_up(backend, up=False)
    frame = runner._frame(runner.client, (runner.vips[0], runner.port), 0)
    before, packets = small.stats("frontend_stats", 1).flows, 100_000
    for _ in range(packets):
        runner.slots[:], runner.index[:] = bytes(len(runner.slots)), bytes(len(runner.index))
        runner._send(frame)
    assert small.stats("frontend_stats", 1).flows - before == packets
