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
from weir.pins import PROTOCOL_NAMES, address_bytes, address_text, backend_key

HASH, ARRAY, PROG_ARRAY, PERCPU_ARRAY, LRU_HASH, LPM_TRIE = 1, 2, 3, 6, 9, 11  # enum bpf_map_type
NO_PREALLOC = 1

ALGORITHMS = ("maglev", "rr")
MODES = ("default", "onearm", "fullnat")
STATES = ("none", "half_open", "established", "closing", "closed")
KINDS = ("forward", "reverse")

FRONTEND_LOCAL = 1  # count, then hand to this machine's own stack (Envoy)
FRONTEND_AFFINITY = 2  # a client keeps its backend; without one its address alone chooses, so that all nodes choose alike
FRONTEND_SOURCES = 4  # only clients in `source_ranges` may start a flow
FRONTEND_REJECT = 8  # no backend: say so (reset, port unreachable) instead of nothing
BACKEND_SHARED = 1  # serves several frontends: its flows get a reverse entry
INTERFACE_STACK = 1  # overlay: what XDP rewrote and leaves here goes through the stack
INTERFACE_NATIVE, INTERFACE_GENERIC = 2, 4  # XDP is attached here, in the driver or before the stack; neither: tc
HOOK_WORDS = {0: "tc", INTERFACE_NATIVE: "xdp native", INTERFACE_GENERIC: "xdp generic"}
FLOW_FIN_IN, FLOW_FIN_OUT, FLOW_PAIRED = 1, 2, 4
SYNC_CHANGED, SYNC_REMOTE = 1, 2  # BPF sets the first, whoever inserts a peer's flow the second

CHUNK = 64  # backend ids in one value of `tables`
CANDIDATES = 4
VERDICT_COUNT = 32

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
        """Its key in `backend_up` and `origins`."""
        return backend_key(self.address, self.port, self.protocol)

    @classmethod
    def unpack(cls, data: bytes) -> Self | None:
        """None for an empty slot of the array."""
        if data[16:18] == b"\0\0":
            return None
        return cls(address_text(data[:16]), int.from_bytes(data[16:18], "big"), PROTOCOL_NAMES[data[18]], data[19])


NO_BACKEND = bytes(Backend.FORMAT.size)  # value of a free slot of `backends`


@dataclass(frozen=True, slots=True)
class Origin:
    """Value of `origins`: the frontends whose flows a reply of this backend may belong to.  88 bytes.

    At most CANDIDATES are kept; a backend that serves more than one frontend also wants BACKEND_SHARED.
    """

    backend_id: int
    candidates: tuple[FrontendKey, ...]

    def pack(self) -> bytes:
        return origin_value(self.backend_id, [each.pack() for each in self.candidates])

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        keys = (data[at : at + 20] for at in range(8, 8 + 20 * data[4], 20))
        return cls(int.from_bytes(data[:4], "little"), tuple(FrontendKey.unpack(key) for key in keys))


def origin_value(backend_id: int, candidates: Sequence[bytes]) -> bytes:
    """The same of keys that are packed already."""
    kept = candidates[:CANDIDATES]
    return (backend_id.to_bytes(4, "little") + bytes((len(kept), 0, 0, 0)) + b"".join(kept)).ljust(88, b"\0")


@dataclass(frozen=True, slots=True)
class FlowKey:
    """Key of `conntrack`: the packet as it arrives.  40 bytes."""

    FORMAT: ClassVar[Struct] = Struct("=16s16s2s2sB3x")
    source: str
    destination: str
    source_port: int
    destination_port: int
    protocol: str

    def pack(self) -> bytes:
        tail = backend_key(self.destination, self.destination_port, self.protocol)
        ports = self.source_port.to_bytes(2, "big") + tail[16:18]
        return address_bytes(self.source) + tail[:16] + ports + tail[18:] + bytes(2)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        source, destination, source_port, destination_port, protocol = cls.FORMAT.unpack(data)
        return cls(
            address_text(source),
            address_text(destination),
            int.from_bytes(source_port, "big"),
            int.from_bytes(destination_port, "big"),
            PROTOCOL_NAMES.get(protocol, str(protocol)),
        )


@dataclass(frozen=True, slots=True)
class Flow:
    """Value of `conntrack`.  new_*: the packet as it leaves.  A reverse entry only leads to its forward entry, whose key is
    (new_destination, new_source, new_destination_port, new_source_port).  The NAT port is new_source_port of a forward entry.
    """

    FORMAT: ClassVar[Struct] = Struct("=16s16s2s2sBBBBB3xIIIQQQQQQQ")
    new_source: str
    new_destination: str
    new_source_port: int
    new_destination_port: int
    kind: int = 0  # index into KINDS
    mode: int = 0  # index into MODES
    state: int = 2  # index into STATES
    flags: int = 0  # FLOW_*
    sync: int = 0  # SYNC_*
    idle_timeout_s: int = 1800  # as it holds for this flow, never 0
    frontend_id: int = 0
    backend_id: int = 0
    plan_seq: int = 0
    last_seen_ns: int = 0  # CLOCK_MONOTONIC of this machine
    created_ns: int = 0
    packets_in: int = 0
    bytes_in: int = 0
    packets_out: int = 0
    bytes_out: int = 0

    def pack(self) -> bytes:
        return self.FORMAT.pack(
            address_bytes(self.new_source),
            address_bytes(self.new_destination),
            self.new_source_port.to_bytes(2, "big"),
            self.new_destination_port.to_bytes(2, "big"),
            self.kind,
            self.mode,
            self.state,
            self.flags,
            self.sync,
            self.idle_timeout_s,
            self.frontend_id,
            self.backend_id,
            self.plan_seq,
            self.last_seen_ns,
            self.created_ns,
            self.packets_in,
            self.bytes_in,
            self.packets_out,
            self.bytes_out,
        )

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        source, destination, source_port, destination_port, *rest = cls.FORMAT.unpack(data)
        return cls(
            address_text(source),
            address_text(destination),
            int.from_bytes(source_port, "big"),
            int.from_bytes(destination_port, "big"),
            *rest,
        )


@dataclass(frozen=True, slots=True)
class Vip:
    """Value of `vips`; the key is the address.  announce_until_ns: CLOCK_MONOTONIC, 0 = no deadline."""

    FORMAT: ClassVar[Struct] = Struct("=QII")
    announce_until_ns: int = 0
    flags: int = 0

    def pack(self) -> bytes:
        return self.FORMAT.pack(self.announce_until_ns, self.flags, 0)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        return cls(*cls.FORMAT.unpack(data)[:2])


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


AFFINITY_KEY = Struct("=I4x16s")  # frontend, client
AFFINITY = Struct("=I4xQ")  # backend, and when the client last began a flow: CLOCK_MONOTONIC
AFFINITY_OF = Struct("=II")  # frontend, backend: key of `affinity_s`, whose value is seconds


def map_specs(conntrack: int = 262_144, frontends: int = 65_536, backends: int = 262_144, tables: int = 1_048_576) -> tuple[MapSpec, ...]:
    """Every map, sized for that many flows, frontends, backends and chunks of tables."""
    return (
        MapSpec("frontends", HASH, 20, Frontend.FORMAT.size, frontends, NO_PREALLOC),
        MapSpec("tables", HASH, TABLE_KEY.size, TABLE_CHUNK.size, tables, NO_PREALLOC),
        MapSpec("backends", ARRAY, 4, Backend.FORMAT.size, backends),
        MapSpec("backend_up", HASH, 20, 1, backends, NO_PREALLOC),
        MapSpec("backend_hosts", HASH, 16, 1, backends, NO_PREALLOC),
        MapSpec("origins", HASH, 20, 88, backends, NO_PREALLOC),
        MapSpec("conntrack", HASH, FlowKey.FORMAT.size, Flow.FORMAT.size, conntrack),
        MapSpec("flow_keys", ARRAY, 4, FlowKey.FORMAT.size, conntrack),
        MapSpec("flow_blocks", ARRAY, 4, 8, 1),
        MapSpec("next_hops", PERCPU_ARRAY, 4, 64, 16_384),
        MapSpec("scratch", PERCPU_ARRAY, 4, Flow.FORMAT.size + 56, 1),
        MapSpec("interfaces", HASH, 4, Interface.FORMAT.size, 1_024, NO_PREALLOC),
        MapSpec("vips", HASH, 16, Vip.FORMAT.size, frontends, NO_PREALLOC),
        MapSpec("source_ranges", LPM_TRIE, SOURCE_RANGE_KEY.size, 1, frontends * 8, NO_PREALLOC),
        MapSpec("affinity", LRU_HASH, AFFINITY_KEY.size, AFFINITY.size, conntrack // 4),
        MapSpec("affinity_s", HASH, AFFINITY_OF.size, 4, backends, NO_PREALLOC),
        MapSpec("frontend_stats", PERCPU_ARRAY, 4, Stats.FORMAT.size, frontends),
        MapSpec("backend_stats", PERCPU_ARRAY, 4, Stats.FORMAT.size, backends),
        MapSpec("verdicts", PERCPU_ARRAY, 4, 8, VERDICT_COUNT),
        MapSpec("programs_tc", PROG_ARRAY, 4, 4, 4),
        MapSpec("programs_xdp", PROG_ARRAY, 4, 4, 4),
    )
