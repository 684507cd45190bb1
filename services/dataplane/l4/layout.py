"""Every map's key and value, as Python sees them; `bpf/lib/types.h` is the same in C, and a test compares the two.

Any change of a size, an offset or a meaning raises LAYOUT, the directory of the pins: a program never meets maps of another layout.
Addresses are text here and 16 bytes in the maps, IPv4 v4-mapped; ports are numbers here and in network order there.
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import ClassVar, Self

from weir.pins import LAYOUT as LAYOUT
from weir.pins import PROTOCOL_NAMES, PROTOCOLS, address_bytes, address_text, backend_key

HASH, ARRAY, PROG_ARRAY, PERCPU_ARRAY, LRU_HASH, LPM_TRIE = 1, 2, 3, 6, 9, 11  # enum bpf_map_type
NO_PREALLOC, MMAPABLE = 1, 1 << 10

ALGORITHMS = ("maglev", "rr")
MODES = ("default", "onearm", "fullnat")
STATES = ("none", "opening", "established", "half_closed", "closed", "reset")

FRONTEND_LOCAL = 1  # count, then hand to this machine's own stack (Envoy)
FRONTEND_AFFINITY = 2  # a client keeps its backend; without one its address alone chooses, so that all nodes choose alike
FRONTEND_SOURCES = 4  # only clients in `source_ranges` may start a flow
FRONTEND_REJECT = 8  # no backend: say so (reset, port unreachable) instead of nothing
VIP_SHARED = 1  # an LB node's own address: not announced, and what has no frontend is the machine's
INTERFACE_STACK = 1  # overlay: what XDP rewrote and leaves here goes through the stack
INTERFACE_NATIVE, INTERFACE_GENERIC = 2, 4  # XDP is attached here, in the driver or before the stack; neither: tc
HOOK_WORDS = {0: "tc", INTERFACE_NATIVE: "xdp native", INTERFACE_GENERIC: "xdp generic"}
FLOW_FIN_IN, FLOW_FIN_OUT, FLOW_REPLIED, FLOW_OVER = 1, 2, 4, 8
OPENING_S, CLOSED_S = 30, 120  # as conntrack.h
IDLE_MINUTES = 0x8000  # Flow.idle counts minutes, not seconds

CHUNK = 64  # backend ids in one value of `tables`
VERDICT_COUNT = 64

VERDICTS: dict[int, str] = {
    0: "passed",
    1: "forwarded",
    2: "replied",
    3: "delivered",
    4: "arp_answered",
    5: "ndp_answered",
    6: "echo_answered",
    7: "icmp_forwarded",
    8: "told_too_big",
    9: "told_ttl_exceeded",
    10: "told_no_backend",
    11: "fragment_retried",
    16: "no_frontend",
    17: "no_backend",
    18: "fragment",
    19: "malformed",
    20: "ttl_exceeded",
    21: "nat_ports_exhausted",
    22: "conntrack_full",
    23: "no_route",
    24: "forwarding_off",
    25: "unsupported",
    26: "source_denied",
    27: "not_owner",
    28: "martian",
    29: "too_big",
    30: "no_interface",
    31: "rewrite_failed",
    32: "bad_fragment",
}
"""Name of each verdict; from FIRST_DROP on the packet was dropped."""
FIRST_DROP = 16


@dataclass(frozen=True, slots=True)
class MapSpec:
    """How the loader creates one map.  Sizes in bytes."""

    name: str
    kind: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int = 0


@dataclass(frozen=True, slots=True)
class FrontendKey:
    """Key of `frontends`.  20 bytes."""

    vip: str
    port: int
    protocol: str

    def pack(self) -> bytes:
        return backend_key(self.vip, self.port, self.protocol)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        return cls(address_text(data[:16]), int.from_bytes(data[16:18], "big"), PROTOCOL_NAMES[data[18]])


@dataclass(frozen=True, slots=True)
class Frontend:
    """Value of `frontends`.  set_id and size name its table; size 0 = no backend."""

    FORMAT: ClassVar[Struct] = Struct("=QIIIBBHQ")
    set_id: int
    size: int
    id: int
    idle_timeout_s: int = 0  # 0 = 1800 for TCP, 120 otherwise
    algorithm: int = 0  # index into ALGORITHMS
    mode: int = 0  # index into MODES
    flags: int = 0  # FRONTEND_*
    plan_seq: int = 0

    def pack(self) -> bytes:
        return self.FORMAT.pack(self.set_id, self.size, self.id, self.idle_timeout_s, self.algorithm, self.mode, self.flags, self.plan_seq)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        return cls(*cls.FORMAT.unpack(data))


TABLE_KEY = Struct("=QII")  # set, size, chunk
TABLE_CHUNK = Struct(f"={CHUNK}I")


def table_pairs(set_id: int, table: Sequence[int]) -> Iterable[tuple[bytes, bytes]]:
    """Keys and values of `tables` for a table of backend ids, chunk by chunk; the last is filled up with id 0."""
    size, ids = len(table), array("I", table).tobytes()
    for chunk, start in enumerate(range(0, len(ids), TABLE_CHUNK.size)):
        yield TABLE_KEY.pack(set_id, size, chunk), ids[start : start + TABLE_CHUNK.size].ljust(TABLE_CHUNK.size, b"\0")


def table_keys(set_id: int, size: int) -> Iterable[bytes]:
    """Keys of the table of `size` slots of `set_id`, to remove it."""
    return (TABLE_KEY.pack(set_id, size, chunk) for chunk in range(-(-size // CHUNK)))


ID = Struct("=I")  # key of backends, interfaces, and of the per-CPU arrays


@dataclass(frozen=True, slots=True)
class Backend:
    """Value of `backends`, an array by id.  Id 0 is never a backend; port 0 = no such backend."""

    FORMAT: ClassVar[Struct] = Struct("=16s2sBB")
    address: str
    port: int
    protocol: str
    flags: int = 0  # BACKEND_*

    def pack(self) -> bytes:
        return self.key()[:19] + bytes((self.flags,))

    def key(self) -> bytes:
        """Its key in `backend_up` and `backend_ids`."""
        return backend_key(self.address, self.port, self.protocol)

    @classmethod
    def unpack(cls, data: bytes) -> Self | None:
        """None for an empty slot of the array."""
        if data[16:18] == b"\0\0":
            return None
        return cls(address_text(data[:16]), int.from_bytes(data[16:18], "big"), PROTOCOL_NAMES[data[18]], data[19])


NO_BACKEND = bytes(Backend.FORMAT.size)  # value of a free slot of `backends`


@dataclass(frozen=True, slots=True)
class FlowKey:
    """The ends of a packet as it arrives."""

    source: str
    destination: str
    source_port: int
    destination_port: int
    protocol: str


def idle_s(word: int) -> int:
    """Seconds of `idle` of struct flow."""
    return (word & ~IDLE_MINUTES) * 60 if word & IDLE_MINUTES else word


def timeout_s(state: int, protocol: int, idle_s: int) -> int:
    """How long a flow lives unseen, as `timeout` of conntrack.h has it.  protocol: IPPROTO_*."""
    if STATES[state] == "opening" and protocol == PROTOCOLS["TCP"]:
        return min(idle_s, OPENING_S)
    return min(idle_s, CLOSED_S) if STATES[state] == "closed" else idle_s


@dataclass(frozen=True, slots=True)
class Flow:
    """Value of `flows`, an array by slot.  key: the client's packet.  new_*: that packet as it leaves; the NAT port is new_source_port."""

    FORMAT: ClassVar[Struct] = Struct("=16s16s2s2sBBHQIIII16s16s2s2sHHIIQQ")
    key: FlowKey
    new_source: str
    new_destination: str
    new_source_port: int
    new_destination_port: int
    mode: int = 0  # index into MODES
    idle_s: int = 1800  # as it holds for this flow, never 0
    seq: int = 2  # odd while the slot is written
    state: int = 2  # index into STATES
    flags: int = 0  # FLOW_*
    changed: int = 0  # how often the state or the flags did
    seen: int = 0  # jiffies, in 32 bits
    cut: int = 0  # the agent's: `seq` of a flow that ends, `seq` + 1 of one that begins no connection any more
    packets_in: int = 0
    packets_out: int = 0
    addrs_delta: int = 0
    l4_delta: int = 0
    frontend_id: int = 0
    backend_id: int = 0
    bytes_in: int = 0
    bytes_out: int = 0

    def pack(self) -> bytes:
        key, minutes = self.key, -(-self.idle_s // 60)
        return self.FORMAT.pack(
            address_bytes(key.source),
            address_bytes(key.destination),
            key.source_port.to_bytes(2, "big"),
            key.destination_port.to_bytes(2, "big"),
            PROTOCOLS[key.protocol],
            self.mode,
            self.idle_s if self.idle_s < IDLE_MINUTES else IDLE_MINUTES | min(minutes, IDLE_MINUTES - 1),
            self.seq | self.state << 32 | self.flags << 40 | self.changed << 48,
            self.seen,
            self.cut,
            self.packets_in,
            self.packets_out,
            address_bytes(self.new_source),
            address_bytes(self.new_destination),
            self.new_source_port.to_bytes(2, "big"),
            self.new_destination_port.to_bytes(2, "big"),
            self.addrs_delta,
            self.l4_delta,
            self.frontend_id,
            self.backend_id,
            self.bytes_in,
            self.bytes_out,
        )

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        src, dst, sport, dport, proto, mode, idle, life, seen, cut, packets_in, packets_out, *rest = cls.FORMAT.unpack(data)
        new_src, new_dst, new_sport, new_dport, addrs_delta, l4_delta, frontend_id, backend_id, bytes_in, bytes_out = rest
        return cls(
            key=FlowKey(
                address_text(src),
                address_text(dst),
                int.from_bytes(sport, "big"),
                int.from_bytes(dport, "big"),
                PROTOCOL_NAMES.get(proto, str(proto)),
            ),
            new_source=address_text(new_src),
            new_destination=address_text(new_dst),
            new_source_port=int.from_bytes(new_sport, "big"),
            new_destination_port=int.from_bytes(new_dport, "big"),
            mode=mode,
            idle_s=idle_s(idle),
            seq=life & 0xFFFFFFFF,
            state=life >> 32 & 0xFF,
            flags=life >> 40 & 0xFF,
            changed=life >> 48,
            seen=seen,
            cut=cut,
            packets_in=packets_in,
            packets_out=packets_out,
            addrs_delta=addrs_delta,
            l4_delta=l4_delta,
            frontend_id=frontend_id,
            backend_id=backend_id,
            bytes_in=bytes_in,
            bytes_out=bytes_out,
        )

    def timeout_s(self) -> int:
        """How long it lives unseen."""
        return timeout_s(self.state, PROTOCOLS[self.key.protocol], self.idle_s)

    def lives(self, unseen_s: float) -> bool:
        """Whether it is a flow, and not over."""
        ended = not self.state or self.seq & 1 or self.cut == self.seq or self.flags & FLOW_OVER
        return not ended and unseen_s <= self.timeout_s()


FLOW_MORE = Struct("=QQ")  # the plan that chose the backend, CLOCK_MONOTONIC of its first packet
FLOW_SET = Struct("=8Q")
SCRATCH_SIZE, NEXT_HOP_SIZE, CLUSTER_SEED_SIZE = 80, 80, 8


@dataclass(frozen=True, slots=True)
class Constants:
    """Value of `constants`: what holds on this machine as long as it is up.  struct config of types.h.

    keys: of the flow index's hash, secret.   CLOCK_MONOTONIC = jiffies * tick_ns + epoch_ns, to a tick.
    """

    FORMAT: ClassVar[Struct] = Struct("=10QQQqII")
    keys: tuple[int, ...]
    tick_ns: int
    epoch_ns: int
    hz: int
    slots: int

    def pack(self) -> bytes:
        # What the words of v4-mapped addresses that are always the same add to the hash of `hash_of` in conntrack.h.
        v4_part = int.from_bytes(b"\0\0\xff\xff", "little") * (self.keys[2] + self.keys[6]) % (1 << 64)
        return self.FORMAT.pack(*self.keys, v4_part, self.tick_ns, self.epoch_ns, self.hz, self.slots - 1)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        *keys, _, tick_ns, epoch_ns, hz, mask = cls.FORMAT.unpack(data)
        return cls(tuple(keys), tick_ns, epoch_ns, hz, mask + 1)

    def tick(self, now_ns: int) -> int:
        """`Flow.seen` of a packet at this moment of CLOCK_MONOTONIC."""
        return (now_ns - self.epoch_ns) // self.tick_ns & 0xFFFFFFFF

    def unseen_s(self, seen: int, now_ns: int) -> float:
        """Seconds since a flow was seen; below zero by a tick where another CPU is ahead."""
        ticks = (self.tick(now_ns) - seen) & 0xFFFFFFFF
        return (ticks - (ticks >> 31 << 32)) / self.hz


ANNOUNCERS = 11  # at most, of one VIP
LB_NODES = 64  # slots; 0 is this node


@dataclass(frozen=True, slots=True)
class Vip:
    """Value of `vips`; the key is the address.  order: slots of those that may announce it; empty: this node does, always."""

    FORMAT: ClassVar[Struct] = Struct(f"=IB{ANNOUNCERS}s")
    flags: int = 0
    order: tuple[int, ...] = ()

    def pack(self) -> bytes:
        order = self.order[:ANNOUNCERS]
        return self.FORMAT.pack(self.flags, len(order), bytes(order))

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        flags, count, order = cls.FORMAT.unpack(data)
        return cls(flags, tuple(order[:count]))


LB_NODE = Struct("=QQ")  # alive and ready until: CLOCK_MONOTONIC
HELLO_SEEN = Struct("=8sQ")  # group, and when a hello of it was last on the wire: CLOCK_MONOTONIC


@dataclass(frozen=True, slots=True)
class Interface:
    """Value of `interfaces`; the key is the ifindex.  mac: 6 bytes.  v4, v6: its source address for onearm, or unspecified."""

    FORMAT: ClassVar[Struct] = Struct("=16s16s6sH")
    mac: bytes
    v4: str = "0.0.0.0"  # noqa: S104
    v6: str = "::"
    flags: int = 0  # INTERFACE_*

    def pack(self) -> bytes:
        return self.FORMAT.pack(address_bytes(self.v4), address_bytes(self.v6), self.mac, self.flags)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        v4, v6, mac, flags = cls.FORMAT.unpack(data)
        return cls(mac, address_text(v4), address_text(v6), flags)


@dataclass(frozen=True, slots=True)
class Stats:
    """Value of `frontend_stats` and `backend_stats`, per CPU.  in: from clients; bytes with the Ethernet header."""

    FORMAT: ClassVar[Struct] = Struct("=QQQQQ")
    packets_in: int = 0
    bytes_in: int = 0
    packets_out: int = 0
    bytes_out: int = 0
    flows: int = 0

    @classmethod
    def sum(cls, values: bytes) -> Self:
        """All CPUs' values, as `Map.get` gives them, in one."""
        return cls(*map(sum, zip(*cls.FORMAT.iter_unpack(values), strict=True)))


SOURCE_RANGE_KEY = Struct("=II16s")


def source_range_key(frontend_id: int, network: str, bits: int) -> bytes:
    """Key of `source_ranges`; the value is one byte.  bits: length of the prefix, in the family of `network`."""
    return SOURCE_RANGE_KEY.pack(32 + bits + (0 if ":" in network else 96), frontend_id, address_bytes(network))


FRAGMENTS = 8192  # datagrams of several packets that are known at a time
FRAGMENT_KEY = Struct("=16s16sIB3x")  # source, destination, IP id, protocol
FRAGMENT = Struct("=HHIIBB2x")  # ports, the id that it leaves with, when its first came (jiffies), kind, bytes of its L4 header


AFFINITY_KEY = Struct("=I4x16s")  # frontend, client
AFFINITY = Struct("=I4xQ")  # backend, and when the client last began a flow: CLOCK_MONOTONIC
AFFINITY_OF = Struct("=II")  # frontend, backend: key of `affinity_s`, whose value is seconds


def map_specs(conntrack: int = 262_144, frontends: int = 65_536, backends: int = 262_144, tables: int = 1_048_576) -> tuple[MapSpec, ...]:
    """Every map, sized for that many flows, frontends, backends and chunks of tables.  Flows: the next power of two."""
    slots = 1 << max(conntrack - 1, 63).bit_length()
    return (
        MapSpec("frontends", HASH, 20, Frontend.FORMAT.size, frontends, NO_PREALLOC),
        MapSpec("tables", HASH, TABLE_KEY.size, TABLE_CHUNK.size, tables, NO_PREALLOC),
        MapSpec("backends", ARRAY, 4, Backend.FORMAT.size, backends),
        MapSpec("cluster_seed", ARRAY, 4, CLUSTER_SEED_SIZE, 1),
        MapSpec("backend_up", HASH, 20, 1, backends, NO_PREALLOC),
        MapSpec("backend_hosts", HASH, 16, 1, backends, NO_PREALLOC),
        MapSpec("backend_ids", HASH, 20, 4, backends, NO_PREALLOC),
        MapSpec("flow_index", ARRAY, 4, FLOW_SET.size, slots // 2, MMAPABLE),
        MapSpec("flows", ARRAY, 4, Flow.FORMAT.size, slots, MMAPABLE),
        MapSpec("flow_more", ARRAY, 4, FLOW_MORE.size, slots),
        MapSpec("flow_blocks", ARRAY, 4, 8, 1),
        MapSpec("constants", ARRAY, 4, Constants.FORMAT.size, 1),
        MapSpec("next_hops", PERCPU_ARRAY, 4, NEXT_HOP_SIZE, 16_384),
        MapSpec("scratch", PERCPU_ARRAY, 4, SCRATCH_SIZE, 1),
        MapSpec("interfaces", HASH, 4, Interface.FORMAT.size, 1_024, NO_PREALLOC),
        MapSpec("vips", HASH, 16, Vip.FORMAT.size, frontends, NO_PREALLOC),
        MapSpec("lb_nodes", ARRAY, 4, LB_NODE.size, LB_NODES, MMAPABLE),
        MapSpec("hello_seen", ARRAY, 4, HELLO_SEEN.size, 1, MMAPABLE),
        MapSpec("source_ranges", LPM_TRIE, SOURCE_RANGE_KEY.size, 1, frontends * 8, NO_PREALLOC),
        MapSpec("fragments", LRU_HASH, FRAGMENT_KEY.size, FRAGMENT.size, FRAGMENTS),
        MapSpec("fragment_ids", ARRAY, 4, 4, 1),
        MapSpec("affinity", LRU_HASH, AFFINITY_KEY.size, AFFINITY.size, conntrack // 4),
        MapSpec("affinity_s", HASH, AFFINITY_OF.size, 4, backends, NO_PREALLOC),
        MapSpec("frontend_stats", PERCPU_ARRAY, 4, Stats.FORMAT.size, frontends),
        MapSpec("backend_stats", PERCPU_ARRAY, 4, Stats.FORMAT.size, backends),
        MapSpec("verdicts", PERCPU_ARRAY, 4, 8, VERDICT_COUNT),
        MapSpec("programs_tc", PROG_ARRAY, 4, 4, 4),
        MapSpec("programs_xdp", PROG_ARRAY, 4, 4, 4),
    )


def memory_bytes(specs: Iterable[MapSpec], cpus: int) -> int:
    """What the maps take from the start; entries of hashes come on top as they are written."""
    preallocated = (spec for spec in specs if not spec.flags & NO_PREALLOC and spec.kind != PROG_ARRAY)
    return sum(spec.max_entries * (spec.key_size + spec.value_size * (cpus if spec.kind == PERCPU_ARRAY else 1)) for spec in preallocated)
