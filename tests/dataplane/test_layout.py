"""The C and the Python side of every map agree: sizes, offsets, names of verdicts."""

from struct import Struct

import pytest

from services.dataplane.kernel_clock import Clock
from services.dataplane.layout import (
    AFFINITY,
    AFFINITY_KEY,
    AFFINITY_OF,
    CANDIDATES,
    CHUNK,
    FIRST_DROP,
    ID,
    SOURCE_RANGE_KEY,
    TABLE_CHUNK,
    TABLE_KEY,
    VERDICT_COUNT,
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
    source_range_key,
    table_keys,
    table_pairs,
)
from services.dataplane.programs import SOURCE, one_text
from tests.dataplane.conftest import needs_kernel
from weir.pins import PROTOCOLS

FIELDS: dict[str, tuple[Struct, str]] = {
    "frontend": (Frontend.FORMAT, "set size id idle_timeout_s algorithm mode flags plan_seq"),
    "table_key": (TABLE_KEY, "set size chunk"),
    "backend": (Backend.FORMAT, "addr port proto flags"),
    "flow_key": (FlowKey.FORMAT, "src dst sport dport proto"),
    "flow": (
        Flow.FORMAT,
        "new_src new_dst new_sport new_dport kind mode state flags sync idle_timeout_s frontend_id backend_id plan_seq "
        "last_seen_ns created_ns packets_in bytes_in packets_out bytes_out",
    ),
    "vip": (Vip.FORMAT, "announce_until_ns flags pad"),
    "interface": (Interface.FORMAT, "v4 v6 mac flags"),
    "stats": (Stats.FORMAT, "packets_in bytes_in packets_out bytes_out flows"),
    "affinity_key": (AFFINITY_KEY, "frontend_id client"),
    "affinity": (AFFINITY, "backend_id last_ns"),
    "affinity_of": (AFFINITY_OF, "frontend_id backend_id"),
    "source_range_key": (SOURCE_RANGE_KEY, "bits frontend_id network"),
}
SIZES = {
    "scratch": next(spec.value_size for spec in map_specs() if spec.name == "scratch"),
    "frontend_key": 20,
    "backend_key": 20,
    "origin": 88,
    "table_chunk": TABLE_CHUNK.size,
    "next_hop": 64,
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
    lines.append(f'_Static_assert(CHUNK == {CHUNK} && CANDIDATES == {CANDIDATES}, "counts");')
    return "\n".join(lines)


@needs_kernel
def test_c_and_python_agree() -> None:
    from bcc import BPF

    text = "".join(one_text(SOURCE / "lib" / name) for name in ("headers.h", "types.h", "maps.h"))
    verdicts = one_text(SOURCE / "lib/drop.h").partition("static")[0]
    BPF(text=(text + verdicts + assertions()).encode(), cflags=[])


@needs_kernel
def test_a_disagreement_does_not_compile() -> None:
    from bcc import BPF

    text = "".join(one_text(SOURCE / "lib" / name) for name in ("headers.h", "types.h"))
    with pytest.raises(Exception, match="compile"):
        BPF(text=(text + '_Static_assert(sizeof(struct flow) == 127, "x");').encode(), cflags=[])


def test_every_value_survives_the_way_there_and_back() -> None:
    key = FrontendKey("198.51.100.1", 80, "TCP")
    for value in (
        key,
        Frontend(5, 1009, 7, 60, 1, 2, 3, 2**40),
        Backend("fd00::1", 65535, "UDP", 1),
        Origin(9, (key, FrontendKey("fd00::2", 443, "SCTP"))),
        FlowKey("192.0.2.1", "198.51.100.1", 40000, 80, "TCP"),
        Flow("192.0.2.1", "10.1.0.11", 40000, 8080, 1, 2, 3, 4, 1, 60, 7, 8, 9, 10, 11, 12, 13, 14, 15),
        Vip(2**60, 1),
        Interface(b"abcdef", "192.0.2.1", "fd00::1", 1),
    ):
        assert type(value).unpack(value.pack()) == value
    assert Backend.unpack(bytes(20)) is None


def test_sizes_of_keys_and_values_are_those_of_the_maps() -> None:
    specs = {spec.name: spec for spec in map_specs()}
    assert len(FrontendKey("10.0.0.1", 1, "TCP").pack()) == specs["frontends"].key_size
    assert len(Origin(1, ()).pack()) == specs["origins"].value_size
    assert len(FlowKey("10.0.0.1", "10.0.0.2", 1, 2, "TCP").pack()) == specs["conntrack"].key_size
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
    assert Clock(4_000_000, -1).tick_ns == 4_000_000
