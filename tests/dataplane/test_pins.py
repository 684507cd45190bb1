"""Maps opened from their pins, without bcc."""

import os
from collections.abc import Iterator
from errno import E2BIG, ENOENT
from pathlib import Path

import pytest

from services.dataplane.l4.layout import HASH, LPM_TRIE, LRU_HASH, NO_PREALLOC, PERCPU_ARRAY, MapSpec
from services.dataplane.load.loader import Options
from services.dataplane.load.pinned_maps import create_or_open
from tests.dataplane.conftest import needs_kernel
from weir.pins import LAYOUT, Map, MapError, address_bytes, address_text, backend_key

pytestmark = needs_kernel
WORD = 8


def number(value: int) -> bytes:
    return value.to_bytes(WORD, "little")


@pytest.fixture
def directory() -> Iterator[Path]:
    pins = Path(f"/sys/fs/bpf/weir-test-{os.getpid()}-pins")
    (pins / f"v{LAYOUT}").mkdir(parents=True)
    yield pins
    for pin in (pins / f"v{LAYOUT}").iterdir():
        pin.unlink()
    (pins / f"v{LAYOUT}").rmdir()
    pins.rmdir()


def made(pins: Path, kind: int = HASH, entries: int = 5000, flags: int = NO_PREALLOC, key_size: int = WORD) -> Map:
    spec = MapSpec("tried", kind, key_size, WORD, entries, flags)
    os.close(create_or_open(Options((), pins).directory, spec))
    return Map.open(pins / f"v{LAYOUT}" / "tried")


@pytest.mark.parametrize(("kind", "flags"), [(HASH, NO_PREALLOC), (LRU_HASH, 0)], ids=["hash", "lru"])
def test_many_entries_go_in_and_come_out(directory: Path, kind: int, flags: int) -> None:
    with made(directory, kind, 20_000, flags) as tried:
        wanted = {number(at): number(at * 7) for at in range(5000)}
        tried.put_many(wanted.items())
        assert dict(tried.items()) == wanted
        tried.delete_many(number(each) for at in range(0, 5000, 2) for each in (10_000 + at, at))  # half are not there
        assert dict(tried.items()) == {key: value for key, value in wanted.items() if key[0] % 2}


def test_single_entries(directory: Path) -> None:
    with made(directory) as tried:
        assert tried.get(number(1)) is None
        assert tried.put_new(number(1), number(2))
        assert not tried.put_new(number(1), number(3))
        assert tried.get(number(1)) == number(2)
        tried.put(number(1), number(4))
        assert tried.delete(number(1))
        assert not tried.delete(number(1))
        assert list(tried.items()) == []


def test_map_that_changes_under_the_reader_loses_no_entry_that_stays(directory: Path) -> None:
    with made(directory, entries=50_000) as tried:
        tried.put_many((number(at), number(0)) for at in range(10_000))
        seen = []
        for turn, (key, _) in enumerate(tried.items()):
            seen.append(key)
            if turn % 10 == 0:
                tried.put(number(20_000 + turn), number(1))
                tried.delete(number(30_000 + turn))
        stayed = [key for key in seen if int.from_bytes(key, "little") < 10_000]
        assert len(stayed) == len(set(stayed)) == 10_000


def test_per_cpu_values(directory: Path) -> None:
    with made(directory, PERCPU_ARRAY, 4, 0, key_size=4) as tried:
        value = tried.get(bytes(4))
        assert value is not None
        parts = tried.split(value)
        assert set(parts) == {bytes(WORD)}
        tried.put(bytes(4), b"".join(number(at) for at in range(len(parts))))
        assert tried.split(tried.get(bytes(4)) or b"") == [number(at) for at in range(len(parts))]
        assert len(list(tried.items())) == 4


def test_trie(directory: Path) -> None:
    with made(directory, LPM_TRIE, 100) as tried:
        keys = [(32).to_bytes(4, "little") + bytes((10, 0, 0, at)) for at in range(9)]
        tried.put_many((key, number(1)) for key in keys)
        assert sorted(key for key, _ in tried.items()) == sorted(keys)
        tried.delete_many(keys)
        assert list(tried.items()) == []


def test_faults_name_the_map_and_the_reason(directory: Path) -> None:
    with pytest.raises(MapError, match="open: No such file") as missing:
        Map.open(directory / f"v{LAYOUT}" / "none")
    assert missing.value.errno == ENOENT
    with made(directory, entries=4) as tried:
        with pytest.raises(MapError, match="map tried: put: the map is full") as full:
            tried.put_many((number(at), number(0)) for at in range(9))
        assert full.value.errno == E2BIG
        with pytest.raises(ValueError, match="key of 1 bytes, expected 8"):
            tried.get(b"x")
        with pytest.raises(ValueError, match="value of 1 bytes, expected 8"):
            tried.put(number(1), b"x")


def test_addresses() -> None:
    for text in ("10.0.0.1", "fd00::1", "::"):
        assert address_text(address_bytes(text)) == text
    assert address_text(address_bytes("::ffff:10.0.0.1")) == "10.0.0.1"
    for wrong in ("10.0.0", "fd00::x", "", "10.0.0.1/8"):
        with pytest.raises(ValueError, match="expected IPv4 or IPv6"):
            address_bytes(wrong)
    assert backend_key("10.0.0.1", 8080, "tcp") == address_bytes("10.0.0.1") + b"\x1f\x90\x06\x00"
    with pytest.raises(ValueError, match="expected one of TCP, UDP, SCTP"):
        backend_key("10.0.0.1", 1, "ICMP")
