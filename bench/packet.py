"""ns for each packet, by BPF_PROG_TEST_RUN:  python -m bench.packet [--rounds N] [--only WORD] [--json]

The kernel does not restore the packet between repeats, and a NAT program would then be timed on its miss path.  So a wrapper
restores it and tail-calls; the same wrapper around a program that does nothing is the floor, which is subtracted.  Rounds are
interleaved, round 0 is thrown away, figures are medians.  "evicting": the table is full, each new flow takes another's place.
"""

import argparse
import ctypes
import json
import os
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.table import Row, Table
from services.dataplane.l4.layout import AFFINITY_OF, FRONTEND_AFFINITY, ID
from services.dataplane.load.programs import HOOKS
from tests.dataplane.frames import SYN, Packet
from tests.dataplane.lab import Lab, load_code, namespace, run_program
from weir.pins import address_bytes, libbpf

CONNTRACK = 262_144
ROUND_REPEATS, NEW_REPEATS = 1_000_000, 100_000
VIPS = {"v4": "198.51.100.1", "v6": "fd03::1"}
CLIENTS = {"v4": "192.0.2.1", "v6": "fd02::1"}
BACKENDS = {"v4": [f"10.1.0.1{i}" for i in range(1, 7)], "v6": [f"fd01::1{i}" for i in range(1, 7)]}
PORTS = {"default": 80, "onearm": 81, "fullnat": 82}  # in the order of layout.MODES
KEPT_PORT, SPREAD_PORT = 83, 84  # a client keeps its backend; six backends
ENDLESS = 1 << 32
VARIED = {"v4": (34, 28), "v6": (54, 36)}  # source port, end of the source address

WRAPPER = """
#include <uapi/linux/bpf.h>
#include <uapi/linux/in.h>
struct original { __u64 count; __u64 fresh; __u64 word[16]; };
static long (*tail_call)(void *ctx, void *programs, __u32 index) = (void *)BPF_FUNC_tail_call;
int wrapper(struct CTX *ctx)
{
	__u32 zero = 0;
	struct original *from = bpf_map_lookup_elem((void *)bpf_pseudo_fd(1, FD_original), &zero);
	__u64 *to = (void *)(long)ctx->data;

	if (!from || (void *)to + LENGTH > (void *)(long)ctx->data_end)
		return 0;
	for (int i = 0; i < LENGTH / 8; i++)
		to[i] = from->word[i];
	if (from->fresh) {
		from->count = (from->count + 1) & from->fresh;
		*(__u16 *)((void *)to + PORT_AT) = from->count;
		*(__u16 *)((void *)to + SOURCE_AT) = from->count >> 16;
	}
	tail_call(ctx, (void *)bpf_pseudo_fd(1, FD_programs), 0);
	return 0;
}
int nothing(struct CTX *ctx)
{
	return DONE;
}
"""
LENGTH = 72


@dataclass(frozen=True)
class Case:
    """One row.  target: ns net of the floor, None = none set."""

    hook: str
    family: str
    name: str
    packet: Packet
    flows: int = 1  # a power of two, each packet of another of them; ENDLESS: each begins one
    room: bool = False  # empty the flow table first
    opened_by: Packet | None = None  # of a reply
    target: int | None = None


class Harness:
    """The wrapper around the lab's program, or around nothing.  varied: where in the frame the two words are that make packets differ."""

    def __init__(self, lab: Lab, family: str, varied: tuple[int, int] | None = None) -> None:
        self.lab = lab
        self._varied = varied or VARIED[family]
        create = libbpf().bpf_map_create
        self.original = create(2, b"original", 4, 144, 1, None)
        self.programs, self.nothing = create(3, b"programs", 4, 4, 1, None), create(3, b"nothing", 4, 4, 1, None)
        self.wrapper = self._load("wrapper", self.programs)
        self.floor_wrapper = self._load("wrapper", self.nothing)
        self._set(self.programs, lab.program)
        self._set(self.nothing, self._load("nothing", self.nothing))

    def _load(self, name: str, programs: int) -> int:
        from bcc import BPF

        context, done = ("__sk_buff", 7) if self.lab.hook == "tc" else ("xdp_md", 3)
        flags = {"LENGTH": LENGTH, "FD_original": self.original, "FD_programs": programs, "CTX": context, "DONE": done}
        flags |= {"PORT_AT": self._varied[0], "SOURCE_AT": self._varied[1]}
        module = BPF(text=WRAPPER.encode(), cflags=[f"-D{key}={value}" for key, value in flags.items()])
        return load_code(HOOKS[self.lab.hook], bytes(module.dump_func(name.encode())), name)

    def _set(self, programs: int, program: int) -> None:
        key, value = ctypes.c_uint32(0), ctypes.c_uint32(program)
        code = libbpf().bpf_map_update_elem(programs, ctypes.byref(key), ctypes.byref(value), 0)
        assert code == 0, os.strerror(-code)

    def put(self, frame: bytes, flows: int) -> None:
        """What the wrapper restores before each run."""
        assert len(frame) >= LENGTH
        value = os.urandom(4) + bytes(4) if flows == ENDLESS else bytes(8)
        value += (flows - 1).to_bytes(8, "little") + frame[:LENGTH].ljust(128, b"\0")
        key = ctypes.c_uint32(0)
        libbpf().bpf_map_update_elem(self.original, ctypes.byref(key), value, 0)

    def time(self, packet: Packet, flows: int, repeat: int, floor: bool = False) -> int:
        frame = packet.frame()
        self.put(frame, flows)
        before = self.lab.verdicts()
        _, _, ns = run_program(self.floor_wrapper if floor else self.wrapper, frame, repeat)
        after = self.lab.verdicts()
        if not floor:
            self.shares = {name: (after[name] - before[name]) / repeat for name in after if after[name] != before[name]}
            self.verdict = max(self.shares, key=lambda name: self.shares[name])
        return ns


def cases(hook: str, family: str) -> Iterator[Case]:
    body, most = b"x" * 32, 60 if hook == "tc" else 50
    there = Packet(src=CLIENTS[family], dst=VIPS[family], body=body)
    spread = there.but(dport=SPREAD_PORT)
    back = there.but(src=BACKENDS[family][0], dst=CLIENTS[family], sport=8080, dport=40000)
    yield Case(hook, family, "TCP established", there, target=most)
    yield Case(hook, family, "UDP established", there.but(proto="UDP"), target=most)
    for flows in (2, 64, 4096, 65_536):
        yield Case(hook, family, f"TCP established, {flows} flows", spread, flows, target=80 if flows <= 4096 else None)
    yield Case(hook, family, "TCP reply", back, opened_by=there, target=60)
    yield Case(hook, family, "TCP new flow", there.but(flags=SYN), ENDLESS, room=True, target=400)
    yield Case(hook, family, "TCP new flow, evicting", there.but(flags=SYN), ENDLESS, target=600)
    yield Case(hook, family, "TCP new flow, affinity", there.but(dport=KEPT_PORT, flags=SYN), ENDLESS, room=True)
    yield Case(hook, family, "TCP established fullnat", there.but(dport=PORTS["fullnat"]))
    yield Case(hook, family, "TCP new flow fullnat", there.but(dport=PORTS["fullnat"], flags=SYN), ENDLESS, target=800)
    yield Case(hook, family, "TCP established onearm", there.but(dport=PORTS["onearm"]))
    yield Case(hook, family, "not ours", there.but(dst=CLIENTS[family], src=BACKENDS[family][0], sport=9), target=50)


def prepare(lab: Lab) -> None:
    lab.clear()
    for number, (family, vip) in enumerate(VIPS.items()):
        for mode, port in enumerate(PORTS.values()):
            frontend = 1 + 3 * number + mode
            backends = BACKENDS[family][: 6 if mode else 1]  # source NAT: enough ports for a full conntrack
            lab.serve(vip, backends, port=port, frontend=frontend, first=frontend * 8, to=8080 + mode, mode=mode)
        lab.serve(vip, BACKENDS[family][:1], protocol="UDP", frontend=8 + number, first=64 + number)
        kept = 16 + number
        lab.serve(vip, BACKENDS[family][:1], port=KEPT_PORT, to=8090, frontend=kept, first=80 + number, flags=FRONTEND_AFFINITY)
        lab.serve(vip, BACKENDS[family], port=SPREAD_PORT, to=8091, frontend=18 + number, first=96 + 8 * number)
        lab.map("affinity_s").put(AFFINITY_OF.pack(kept, 80 + number), ID.pack(3600))
    lab.map("vips").put(address_bytes("198.51.100.9"), bytes(16))


Timed = tuple[Case, Harness, list[tuple[int, int, str]]]


def measure(only: str, rounds: int) -> list[dict[str, object]]:
    labs = {hook: Lab(hook, CONNTRACK) for hook in ("tc", "xdp")}
    try:
        rows: list[Timed] = []
        for hook, lab in labs.items():
            prepare(lab)
            for family in VIPS:
                harness = Harness(lab, family)
                wanted = (case for case in cases(hook, family) if only in f"{hook} {family} {case.name}")
                rows += [(case, harness, []) for case in wanted]
        for turn in range(rounds + 1):
            for case, harness, figures in rows:
                ready(case, harness)
                repeat = NEW_REPEATS if case.flows == ENDLESS else ROUND_REPEATS
                floor = harness.time(case.packet, case.flows, repeat, floor=True)
                whole = harness.time(case.packet, case.flows, repeat)
                assert harness.shares[harness.verdict] > 0.99, f"{case.hook} {case.family} {case.name}: {harness.shares}"
                if turn:
                    figures.append((whole, floor, harness.verdict))
        return [_row(case, figures) for case, _, figures in rows]
    finally:
        for lab in labs.values():
            lab.close()


def ready(case: Case, harness: Harness) -> None:
    """The flow table as the case wants it: empty, full, or with its flows in it."""
    if case.room:
        harness.lab.empty()
    elif case.flows == ENDLESS:
        harness.time(case.packet, ENDLESS, CONNTRACK)
    else:
        harness.time(case.opened_by or case.packet, case.flows, max(10, 2 * case.flows))


def _row(case: Case, figures: list[tuple[int, int, str]]) -> dict[str, object]:
    net = statistics.median(whole - floor for whole, floor, _ in figures)
    return {
        "hook": case.hook,
        "family": case.family,
        "case": case.name,
        "ns": net,
        "samples": [whole - floor for whole, floor, _ in figures],
        "least": min(whole - floor for whole, floor, _ in figures),
        "floor": statistics.median(floor for _, floor, _ in figures),
        "verdict": figures[-1][2],
        "target": case.target,
    }


def run(quick: bool) -> list[Table]:
    """A table for each hook and family."""
    rows = _pinned("", 1 if quick else 7)
    kinds = sorted({(str(row["hook"]), str(row["family"])) for row in rows})
    return [
        Table(
            title=f"{hook} {family}, net of the harness",
            unit="ns per packet",
            rows=tuple(_as_row(row) for row in rows if (row["hook"], row["family"]) == (hook, family)),
            less_is_better=True,
        )
        for hook, family in kinds
    ]


def _as_row(row: dict[str, Any]) -> Row:
    return Row(row["case"], tuple(row["samples"]), note=f"aimed at {row['target']}" if row["target"] else "")


def _pinned(only: str, rounds: int) -> list[dict[str, object]]:
    """Measured on one CPU, in a namespace of its own."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        with namespace(f"wb-{os.getpid()}"):
            return measure(only, rounds)
    finally:
        os.sched_setaffinity(0, before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = _pinned(given.only, given.rounds)
    if given.json:
        print(json.dumps(rows))
        return
    print(f"{'hook':5}{'':4}{'case':30}{'ns net':>8}{'least':>8}{'floor':>7}  {'target':8}verdict")
    for row in rows:
        target = f"<= {row['target']}" if row["target"] else ""
        figures = f"{row['ns']:8.0f}{row['least']:8.0f}{row['floor']:7.0f}"
        print(f"{row['hook']:5}{row['family']:4}{row['case']:30}{figures}  {target:8}{row['verdict']}")


if __name__ == "__main__":
    main()
