"""Lookup tables: even, steady when a backend leaves, the same on every node, and as the paper says."""

from array import array
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.dataplane.l4 import maglev
from services.dataplane.l4.maglev import SIZES, PlanError, Weighted, shares

NAMES = st.lists(st.integers(0, 250).map(lambda number: f"10.0.0.{number}:80/TCP"), min_size=1, max_size=10, unique=True)


def backends(count: int) -> tuple[list[str], list[int]]:
    return [f"10.0.{number // 256}.{number % 256}:8080/TCP" for number in range(count)], list(range(1, count + 1))


def maglev_table(names: Sequence[str], ids: Sequence[int], size: int) -> "array[int]":
    """Of one set."""
    return maglev.maglev_table(shares([Weighted(1, names)], size), dict(zip(names, ids, strict=True)))


def round_robin_table(names: Sequence[str], ids: Sequence[int]) -> "array[int]":
    return maglev.round_robin_table([Weighted(1, names)], dict(zip(names, ids, strict=True)))


def table_size(count: int) -> int:
    return maglev.table_size([Weighted(1, backends(count)[0])])


def slow_table(names: Sequence[str], ids: Sequence[int], size: int) -> list[int]:
    """Pseudocode 1 of the paper, word for word, with whole permutations."""
    pairs = sorted(zip(names, ids, strict=True))
    permutations = []
    for name, _ in pairs:
        digest = blake2b(name.encode(), digest_size=16).digest()
        offset = int.from_bytes(digest[:8], "little") % size
        skip = int.from_bytes(digest[8:], "little") % (size - 1) + 1
        permutations.append([(offset + j * skip) % size for j in range(size)])
    following, entry, filled = [0] * len(pairs), [-1] * size, 0
    while True:
        for i in range(len(pairs)):
            c = permutations[i][following[i]]
            while entry[c] >= 0:
                following[i] += 1
                c = permutations[i][following[i]]
            entry[c] = i
            following[i] += 1
            filled += 1
            if filled == size:
                return [pairs[i][1] for i in entry]


@settings(max_examples=40, deadline=None)
@given(NAMES, st.sampled_from(SIZES[:3]))
def test_table_is_that_of_the_paper_in_c_and_in_python(names: list[str], size: int) -> None:
    """A node without the library chooses as the others do."""
    ids = list(range(1, len(names) + 1))
    expected = slow_table(names, ids, size)
    assert maglev._compiled(), "deploy/setup compiles it"
    assert list(maglev_table(names, ids, size)) == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maglev, "_compiled", lambda: None)
        assert list(maglev_table(names, ids, size)) == expected


@settings(max_examples=30, deadline=None)
@given(NAMES, st.data())
def test_order_of_backends_does_not_matter(names: list[str], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(names))
    ids = {name: number for number, name in enumerate(names, 1)}
    tables = [build(order, [ids[name] for name in order], 307) for order in (names, shuffled) for build in (maglev_table,)]
    assert tables[0] == tables[1]
    assert round_robin_table(names, [ids[n] for n in names]) == round_robin_table(shuffled, [ids[n] for n in shuffled])


@pytest.mark.parametrize("count", [2, 10, 100])
def test_each_backend_gets_its_share_within_a_few_percent(count: int) -> None:
    size = table_size(count)
    shares = Counter(maglev_table(*backends(count), size))
    assert set(shares) == set(range(1, count + 1))
    assert max(shares.values()) - min(shares.values()) <= 1 + size / count * 0.02


@pytest.mark.parametrize(("count", "percent"), [(5, 6), (20, 4), (100, 3)])
def test_backend_that_leaves_moves_few_slots_of_others(count: int, percent: int) -> None:
    names, ids = backends(count)
    size = table_size(count)
    before = maglev_table(names, ids, size)
    for gone in range(0, count, max(1, count // 4)):
        after = maglev_table(names[:gone] + names[gone + 1 :], ids[:gone] + ids[gone + 1 :], size)
        moved = sum(was != now for was, now in zip(before, after, strict=True) if was != ids[gone])
        assert moved <= size * percent / 100


def test_ids_do_not_decide_who_gets_a_slot() -> None:
    """Ids differ from node to node, names do not."""
    names, ids = backends(10)
    here, there = maglev_table(names, ids, 1009), maglev_table(names, [number * 7 for number in ids], 1009)
    assert [number * 7 for number in here] == list(there)


def test_sizes_are_primes_and_grow() -> None:
    assert list(SIZES) == sorted(set(SIZES))
    assert [size for size in SIZES if any(size % divisor == 0 for divisor in range(2, int(size**0.5) + 1))] == []


@given(st.integers(0, 10_000))
def test_table_has_over_a_hundred_slots_per_backend_and_none_of_the_smaller_would(count: int) -> None:
    size = table_size(count)
    assert size > 100 * count
    assert all(smaller <= 100 * count for smaller in SIZES if smaller < size)


def test_more_backends_than_any_table_takes_are_refused() -> None:
    with pytest.raises(PlanError, match="10001 backends in one set, expected at most 10000"):
        table_size(10_001)


@pytest.mark.parametrize("build", [lambda: maglev_table([], [], 101), lambda: round_robin_table([], [])])
def test_table_of_nobody_is_refused(build: object) -> None:
    with pytest.raises(PlanError, match="no backends"):
        build()  # type: ignore[operator]


def test_round_robin_has_each_backend_once_by_name() -> None:
    assert list(round_robin_table(["b", "a", "c"], [2, 1, 3])) == [1, 2, 3]


def test_table_of_the_first_release_stays() -> None:
    """Nodes of two releases side by side must choose alike: a change here breaks flows while an upgrade rolls."""
    table = maglev_table(*backends(3), 307)
    assert blake2b(table.tobytes(), digest_size=8).hexdigest() == "784e0af3d5e8f9a9"
