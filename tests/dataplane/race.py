"""Several CPUs in the packet path at once: race.c written to, run from several threads, and read back."""

import os
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.dataplane.l4.layout import FLOW_OVER, ID, Flow, FlowKey
from services.dataplane.load.programs import HOOKS, Hook, load_programs
from tests.dataplane.frames import ACK, Packet, packed
from tests.dataplane.lab import Lab, compiled, run_program
from weir.pins import Map, libbpf, possible_cpus

SOURCE = Path(__file__).with_name("race.c")
TEMPLATES = 64
LENGTH = 112  # of each frame
THREADS = 4  # on two CPUs: the kernel takes turns
_ORDER = "=Q10I"
_COUNTS = ("random", "sent", "left", "replied", "dropped", "passed", "bad_sum", "illegal", "misdirected", "is_known")


@dataclass(frozen=True, kw_only=True)
class Order:
    """What race.c sends.   shift: packets of a key in a row are 2^shift, on whichever CPU; 32: keys are random.   replies, syns, fins,
    resets: of 256.
    """

    clients: Sequence[Packet]
    backends: Sequence[str]
    ports: int = 60_000
    shift: int = 32
    replies: int = 0
    syns: int = 0
    fins: int = 0
    resets: int = 0
    source_kept: bool = True

    def pack(self) -> bytes:
        numbers = (self.ports, self.shift, self.replies, self.syns, self.fins, self.resets, self.source_kept, len(self.backends), 0)
        head = struct.pack(_ORDER, 0, len(self.clients), *numbers)
        return head + b"".join(map(packed, self.backends)).ljust(128, b"\0")

    def templates(self) -> Iterator[bytes]:
        """Frames of one length that carry their own ends in the payload."""
        for client in self.clients:
            ends = packed(client.src) + packed(client.dst) + bytes(2)
            body = (bytes(12) if client.proto == "UDP" else b"") + ends
            short = client.but(body=body, sport=0, flags=ACK)
            yield client.but(body=body + bytes(LENGTH - len(short.frame())), sport=0, flags=ACK).frame()


class Driver:
    """race.c, loaded beside the lab's program."""

    def __init__(self, program: int, maps: dict[str, Map]) -> None:
        self._program, self._maps = program, maps

    def race(self, order: Order, packets: int, seed: int, meanwhile: Callable[[], None] | None = None) -> Counter[str]:
        """That many packets from each thread.  meanwhile: is called again and again until all have been sent."""
        templates = list(order.templates())
        self._maps["race_order"].put(bytes(4), order.pack())
        self._maps["race_templates"].put_many((ID.pack(at), frame) for at, frame in enumerate(templates))
        size = self._maps["race_outcomes"].value_size
        seeds = (struct.pack("=Q", seed * 1000 + cpu + 1).ljust(size, b"\0") for cpu in range(possible_cpus()))
        self._maps["race_outcomes"].put(bytes(4), b"".join(seeds))
        cpus = range(os.cpu_count() or 1)
        threads = [threading.Thread(target=self._send, args=(templates[0], packets, cpus[at % len(cpus)])) for at in range(THREADS)]
        for thread in threads:
            thread.start()
        while meanwhile and any(thread.is_alive() for thread in threads):
            meanwhile()
        for thread in threads:
            thread.join()
        return self.outcome()

    def _send(self, frame: bytes, packets: int, cpu: int) -> None:
        os.sched_setaffinity(0, {cpu})
        run_program(self._program, frame, packets)

    def outcome(self) -> Counter[str]:
        outcomes = self._maps["race_outcomes"]
        total: Counter[str] = Counter()
        for value in outcomes.split(outcomes.get(bytes(4)) or b""):
            counts = dict(zip(_COUNTS, struct.unpack_from(f"={len(_COUNTS)}Q", value), strict=True))
            total.update({name: count for name, count in counts.items() if name not in ("random", "is_known")})
        return total


@contextmanager
def driver(lab: Lab, family: str, proto: str, directory: Path) -> Iterator[Driver]:
    """race.c for this hook, family and protocol."""
    words = "".join(f"#define {word}\n" for word in (family.upper(), lab.hook.upper(), proto))
    (directory / "race.c").write_text(f'{words}#include "{SOURCE}"\n', encoding="utf-8")
    compiled(directory / "race.c", directory / "weir_race.o")
    kind = HOOKS[lab.hook]
    with ExitStack() as stack:
        maps = {name: stack.enter_context(each) for name, each in _maps().items()}
        descriptors = {name: each.fd for name, each in (lab.maps | maps).items()}
        descriptors["programs_tc"] = descriptors[f"programs_{lab.hook}"]
        hook = Hook("race", kind.program_type, kind.attach_type, kind.link_type, ("",))
        yield Driver(stack.enter_context(load_programs(hook, descriptors, directory)), maps)


def _maps() -> dict[str, Map]:
    sizes = {"race_order": (2, 48 + 128, 1), "race_templates": (2, LENGTH, TEMPLATES), "race_outcomes": (6, 80 + 2 * LENGTH, 1)}
    create = libbpf().bpf_map_create
    return {name: Map(create(kind, name.encode(), 4, size, entries, None), name) for name, (kind, size, entries) in sizes.items()}


def ends(flow: Flow) -> tuple[FlowKey, FlowKey]:
    """The client's packet, and the backend's."""
    back = FlowKey(flow.new_destination, flow.new_source, flow.new_destination_port, flow.new_source_port, flow.key.protocol)
    return flow.key, back


def shared_ends(lab: Lab) -> list[FlowKey]:
    """Ends that lead to more than one flow: of clients or, NAT ports, of backends."""
    flows = [Flow.unpack(value) for _, value in lab.map("flows").filled()]
    counts = Counter(key for flow in flows if flow.state and not flow.flags & FLOW_OVER for key in ends(flow))
    return [key for key, count in counts.items() if count > 1]
