"""The C and the Python side of every map agree: sizes, offsets, names of verdicts."""

import subprocess
from pathlib import Path
from struct import Struct

import pytest

from services.dataplane.hello.frame import ETHER_TYPE
from services.dataplane.l4.layout import (
    AFFINITY,
    AFFINITY_KEY,
    AFFINITY_OF,
    ANNOUNCERS,
    CHUNK,
    FIRST_DROP,
    FLOW_MORE,
    FLOW_SET,
    FRAGMENT,
    FRAGMENT_KEY,
    HELLO_SEEN,
    ID,
    LB_NODE,
    NEXT_HOP_SIZE,
    SCRATCH_SIZE,
    SOURCE_RANGE_KEY,
    STATES,
    TABLE_CHUNK,
    TABLE_KEY,
    VERDICT_COUNT,
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
    source_range_key,
    table_keys,
    table_pairs,
)
from services.dataplane.load.clock import Clock
from tests.dataplane.conftest import needs_kernel
from weir.pins import PROTOCOLS

BPF = Path(__file__).parents[2] / "bpf"

FIELDS: dict[str, tuple[Struct, str]] = {
    "frontend": (Frontend.FORMAT, "set size id idle_timeout_s algorithm mode flags plan_seq"),
    "table_key": (TABLE_KEY, "set size chunk"),
    "backend": (Backend.FORMAT, "addr port proto flags"),
    "flow": (
        Flow.FORMAT,
        "src dst sport dport proto mode idle life seen cut packets_in packets_out new_src new_dst new_sport new_dport addrs_delta "
        "l4_delta frontend_id backend_id bytes_in bytes_out",
    ),
    "flow_more": (FLOW_MORE, "plan_seq created_ns"),
    "config": (
        Constants.FORMAT,
        "keys[0] keys[1] keys[2] keys[3] keys[4] keys[5] keys[6] keys[7] keys[8] keys[9] v4_part tick_ns epoch_ns hz slot_mask",
    ),
    "vip": (Vip.FORMAT, "flags count order"),
    "lb_node": (LB_NODE, "alive_until_ns ready_until_ns"),
    "hello_seen": (HELLO_SEEN, "group at_ns"),
    "interface": (Interface.FORMAT, "v4 v6 mac flags"),
    "stats": (Stats.FORMAT, "packets_in bytes_in packets_out bytes_out flows"),
    "affinity_key": (AFFINITY_KEY, "frontend_id client"),
    "affinity": (AFFINITY, "backend_id last_ns"),
    "affinity_of": (AFFINITY_OF, "frontend_id backend_id"),
    "fragment_key": (FRAGMENT_KEY, "src dst id proto"),
    "fragment": (FRAGMENT, "sport dport id seen kind header"),
    "source_range_key": (SOURCE_RANGE_KEY, "bits frontend_id network"),
}
SIZES = {
    "scratch": SCRATCH_SIZE,
    "flow_set": FLOW_SET.size,
    "frontend_key": 20,
    "backend_key": 20,
    "table_chunk": TABLE_CHUNK.size,
    "next_hop": NEXT_HOP_SIZE,
}


def offsets(form: Struct) -> list[int]:
    """Where each value of a format lies: its own bytes are the only ones that differ from all zeros."""
    blank = [bytes(16) if isinstance(value, bytes) else 0 for value in form.unpack(bytes(form.size))]
    found = []
    for index, value in enumerate(blank):
        marked = [*blank]
        marked[index] = b"\xff" * 16 if isinstance(value, bytes) else 255
        found.append(form.pack(*marked).index(b"\xff"))
    return found


def assertions() -> str:
    lines = [f'_Static_assert(sizeof(struct {name}) == {size}, "{name}");' for name, size in SIZES.items()]
    for name, (form, fields) in FIELDS.items():
        lines.append(f'_Static_assert(sizeof(struct {name}) == {form.size}, "{name}");')
        for field, at in zip(fields.split(), offsets(form), strict=True):
            lines.append(f'_Static_assert(offsetof(struct {name}, {field}) == {at}, "{name}.{field}");')
    for number, name in VERDICTS.items():
        lines.append(f'_Static_assert({"DROP_" if number >= FIRST_DROP else ""}{name.upper()} == {number}, "{name}");')
    lines.append(f'_Static_assert(CHUNK == {CHUNK} && ANNOUNCERS == {ANNOUNCERS}, "counts");')
    lines.append(f'_Static_assert(ETH_P_HELLO == {ETHER_TYPE}, "hellos");')
    lines += [f'_Static_assert(STATE_{name.upper()} == {number}, "{name}");' for number, name in enumerate(STATES)]
    return "\n".join(lines)


def compiles(text: str) -> bool:
    source = '#include "lib/headers.h"\n#include "lib/types.h"\n#include "lib/maps.h"\n#include "lib/drop.h"\n' + text
    arguments = ["make", "-s", "-C", str(BPF), "check", f"TEXT={source}"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    print(done.stderr)
    return done.returncode == 0


@needs_kernel
def test_c_and_python_agree() -> None:
    assert compiles(assertions())


@needs_kernel
def test_a_disagreement_does_not_compile() -> None:
    assert not compiles('_Static_assert(sizeof(struct flow) == 127, "x");')


def test_every_value_survives_the_way_there_and_back() -> None:
    key = FrontendKey("198.51.100.1", 80, "TCP")
    for value in (
        key,
        Frontend(5, 1009, 7, 60, 1, 2, 3, 2**40),
        Backend("fd00::1", 65535, "UDP", 1),
        Flow(
            FlowKey("192.0.2.1", "fd00::1", 40000, 80, "UDP"), "192.0.2.1", "10.1.0.11", 40000, 8080, 1, 60, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
        ),
        Constants(tuple(range(1, 11)), 4_000_000, -5, 250, 4096),
        Vip(1, (0, 63, 7)),
        Interface(b"abcdef", "192.0.2.1", "fd00::1", 1),
    ):
        assert type(value).unpack(value.pack()) == value
    assert Backend.unpack(bytes(20)) is None


def test_sizes_of_keys_and_values_are_those_of_the_maps() -> None:
    specs = {spec.name: spec for spec in map_specs()}
    assert len(FrontendKey("10.0.0.1", 1, "TCP").pack()) == specs["frontends"].key_size
    assert Flow.FORMAT.size == specs["flows"].value_size == 128, "two cache lines"
    assert specs["verdicts"].max_entries == VERDICT_COUNT > max(VERDICTS)
    assert all(len(spec.name) < 16 for spec in specs.values()), "the kernel cuts longer names"
    assert ID.size == specs["backends"].key_size


@pytest.mark.parametrize("size", [1, 63, 64, 65, 1009])
def test_table_is_cut_into_chunks(size: int) -> None:
    pairs = list(table_pairs(7, range(1, size + 1)))
    assert [key for key, _ in pairs] == list(table_keys(7, size))
    ids = [number for _, value in pairs for number in TABLE_CHUNK.unpack(value)]
    assert ids[:size] == list(range(1, size + 1))
    assert not any(ids[size:])


def test_source_range_of_v4_is_mapped() -> None:
    bits, frontend, network = SOURCE_RANGE_KEY.unpack(source_range_key(3, "10.0.0.0", 8))
    assert (bits, frontend, network[12]) == (32 + 96 + 8, 3, 10)


def test_protocol_numbers() -> None:
    assert PROTOCOLS == {"TCP": 6, "UDP": 17, "SCTP": 132}
    assert Clock(4_000_000, -1, 250).tick_ns == 4_000_000
