"""Several backend sets behind one frontend: shares of the tables by weight; and words of a later version, which are refused by name."""

from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.dataplane.core import Share, eligible
from services.dataplane.l4 import maglev
from services.dataplane.l4.layout import Backend
from services.dataplane.l4.maglev import Weighted, maglev_table, round_robin_table, shares, table_size
from tests.unit.test_apply import Node, backends, frontend, name_of, no_frontend, vip
from weir.events import BackendsPlanned, FrontendPlanned, key_of
from weir.model import Backend as Planned
from weir.model import BackendSet

SETS = st.lists(st.tuples(st.integers(0, 1_000_000), st.integers(0, 20)), min_size=1, max_size=5)


def weighted(*sets: tuple[int, int]) -> list[Weighted]:
    """Of weight and number of backends each."""
    return [Weighted(weight, [f"10.{at}.0.{host}:80/TCP" for host in range(count)]) for at, (weight, count) in enumerate(sets)]


def table(sets: Sequence[Weighted], size: int) -> "array[int]":
    slots = shares(sets, size)
    return maglev_table(slots, {name: number for number, name in enumerate(sorted(slots), 1)})


def of_sets(sets: Sequence[Weighted], size: int) -> list[float]:
    """The share of each set, in percent of the table."""
    names = dict(enumerate(sorted(shares(sets, size)), 1))
    taken = Counter(names[number] for number in table(sets, size))
    return [100 * sum(taken[name] for name in part.names) / size for part in sets]


@pytest.mark.parametrize("size", [1009, 65537])
@pytest.mark.parametrize("counts", [(1, 1), (3, 7), (10, 2)])
@pytest.mark.parametrize("weights", [(90, 10), (50, 50), (99, 1), (1, 2)])
def test_each_set_has_its_share_within_one_percent(weights: tuple[int, int], counts: tuple[int, int], size: int) -> None:
    found = of_sets(weighted(*zip(weights, counts, strict=True)), size)
    expected = [100 * weight / sum(weights) for weight in weights]
    assert max(abs(one - other) for one, other in zip(found, expected, strict=True)) < 100 / size, "to less than one slot"


def test_a_set_of_weight_zero_gets_nothing_and_an_empty_one_takes_no_share() -> None:
    assert of_sets(weighted((0, 3), (100, 2)), 1009) == [0, 100]
    assert of_sets(weighted((90, 0), (10, 2)), 1009) == [0, 100]
    assert of_sets(weighted((50, 1), (40, 0), (50, 1)), 1009)[1] == 0


@given(SETS, st.sampled_from([101, 1009, 10007]))
def test_slots_add_up_and_within_a_set_are_even(sets: list[tuple[int, int]], size: int) -> None:
    parts = weighted(*sets)
    found = shares(parts, size)
    serving = [part for part in parts if part.weight and part.names]
    assert sum(found.values()) == (size if serving else 0)
    assert found.keys() == {name for part in serving for name in part.names}
    for part in serving:
        taken = [found[name] for name in part.names]
        assert max(taken) - min(taken) <= 1
        exact = size * part.weight / sum(each.weight for each in serving)
        assert abs(sum(taken) - exact) < 1


@given(SETS, st.sampled_from([101, 1009]))
def test_the_table_holds_these_slots_in_c_and_in_python(sets: list[tuple[int, int]], size: int) -> None:
    slots = shares(weighted(*sets), size)
    if not slots:
        return
    ids = {name: number for number, name in enumerate(slots, 1)}
    found = maglev_table(slots, ids)
    assert Counter(found) == Counter({ids[name]: taken for name, taken in slots.items()})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maglev, "_compiled", lambda: None)
        assert maglev_table(slots, ids) == found


def test_a_shift_of_weights_moves_about_as_many_slots_as_it_must() -> None:
    before, after = (table(weighted((weight, 4), (100 - weight, 4)), 1009) for weight in (90, 80))
    moved = sum(one != other for one, other in zip(before, after, strict=True))
    assert 100 <= moved <= 200, "10 % of 1009 at least"


def test_a_table_grows_with_the_smallest_share_but_not_without_end() -> None:
    assert [table_size(weighted(*sets)) for sets in ([(1, 1), (1, 1)], [(90, 1), (10, 1)], [(99, 1), (1, 1)])] == [307, 1009, 10007]
    assert table_size(weighted((1_000_000, 1), (1, 1))) == 10007
    assert table_size(weighted((5, 11))) == table_size(weighted((1, 11))) == 2003


@pytest.mark.parametrize(
    ("sets", "turns"),
    [
        ([(9, 1), (1, 1)], {1: 9, 2: 1}),
        ([(90, 1), (10, 1)], {1: 9, 2: 1}),
        ([(3, 1), (2, 2)], {1: 3, 2: 1, 3: 1}),
        ([(0, 1), (7, 2)], {1: 1, 2: 1}),
    ],
)
def test_round_robin_gives_turns_by_weight(sets: list[tuple[int, int]], turns: dict[int, int]) -> None:
    parts = weighted(*sets)
    names = sorted(name for part in parts if part.weight for name in part.names)
    ids = {name: number for number, name in enumerate(names, 1)}
    assert Counter(round_robin_table(parts, ids)) == turns


def test_round_robin_of_odd_weights_is_bounded() -> None:
    parts = weighted((999_983, 1), (999_979, 1))
    assert len(round_robin_table(parts, {name: 1 for part in parts for name in part.names})) == maglev.ROUND_MOST


# ── which backends have slots ──────────────────────────────────────────────────────────────────────────────────────


def share(weight: int, states: str) -> Share:
    words = {"a": "active", "d": "down", "x": "draining"}
    return Share(weight, [Planned(address=f"10.0.0.{at}", port=80, state=words[state]) for at, state in enumerate(states)])


@pytest.mark.parametrize(
    ("sets", "algorithm", "expected"),
    [
        ([(90, "aa"), (10, "dd")], "maglev", ["aa", "dd"]),  # the kernel steps over them
        ([(10, "aa"), (90, "dd")], "maglev", ["aa", ""]),  # most of the share is dead: the living set takes it all
        ([(90, "aa"), (10, "dd")], "rr", ["aa", ""]),
        ([(90, "dx"), (10, "d")], "maglev", ["d", "d"]),  # all down = all up
        ([(0, "a"), (10, "d")], "maglev", ["d"]),  # one that gets nothing does not count as alive
        ([(50, "ad"), (50, "ad")], "maglev", ["ad", "ad"]),
        ([(50, "add"), (50, "aaa")], "maglev", ["add", "aaa"]),
    ],
)
def test_the_dead_leave_the_table_where_they_have_more_than_half_of_the_share(
    sets: list[tuple[int, str]], algorithm: str, expected: list[str]
) -> None:
    found = eligible([share(*each) for each in sets], algorithm)
    assert ["".join(backend.state[0] for backend in part.backends) for part in found] == expected


# ── in the kernel's maps ───────────────────────────────────────────────────────────────────────────────────────────

A, B = (backends("a", 1, 2), backends("b", 3))


def split(*weights: int, **asked: Any) -> FrontendPlanned:
    sets = tuple(BackendSet(name=name_of(name), chunks=1, weight=weight) for name, weight in zip("ab", weights, strict=True))
    return replace(frontend("192.0.2.1", "a", **asked), sets=sets)


def slots_of(node: Node) -> dict[str, int]:
    chunks: Any = node.content()["tables"]
    return dict(Counter(name.partition(":")[0] for chunk in chunks.values() for name in chunk if name))


@pytest.mark.parametrize("weights", [(90, 10), (50, 50), (99, 1), (0, 100), (100, 0)])
def test_sets_of_a_frontend_have_their_share_in_the_kernel(weights: tuple[int, int]) -> None:
    node = Node(tables=1024)
    node.plan(vip("192.0.2.1"), A, B, split(*weights))
    assert node.applier.rejections() == ()
    slots = slots_of(node)
    size = sum(slots.values())
    one, other = slots.get("10.0.0.1", 0) + slots.get("10.0.0.2", 0), slots.get("10.0.0.3", 0)
    assert abs(one / size - weights[0] / sum(weights)) < 0.01
    assert abs(other / size - weights[1] / sum(weights)) < 0.01
    assert node.content() == node.fresh()


def test_weights_of_nothing_leave_no_backend() -> None:
    node = Node()
    node.plan(vip("192.0.2.1"), A, B, split(0, 0))
    assert slots_of(node) == {}
    assert node.applier.rejections() == ()


def test_a_change_of_weights_is_a_table_beside_the_old_one_and_the_last_frontend_takes_it_away() -> None:
    node = Node(tables=1024)
    node.plan(vip("192.0.2.1"), A, B, split(90, 10))
    node.plan(split(10, 90))
    assert node.content() == node.fresh()
    node.plan(no_frontend("192.0.2.1"))
    assert slots_of(node) == {}
    assert len(node.applier.tables) == 0


def test_a_backend_in_both_sets_has_the_sum() -> None:
    node = Node(tables=1024)
    node.plan(vip("192.0.2.1"), backends("a", 1, 2), backends("b", 1), split(50, 50))
    slots = slots_of(node)
    assert slots["10.0.0.1"] / sum(slots.values()) == pytest.approx(0.75, abs=0.01)


# ── words of a later version ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (replace(frontend("192.0.2.1", "a"), mode="dsr"), "mode 'dsr': expected one of default, onearm, fullnat, proxy"),
        (replace(frontend("192.0.2.1", "a"), algorithm="least"), "algorithm 'least': expected one of maglev, rr"),
        (replace(frontend("192.0.2.1", "a"), no_backend="tarpit"), "no_backend 'tarpit': expected one of drop, reject"),
        (replace(frontend("192.0.2.1", "a"), protocol="QUIC"), "protocol 'QUIC': expected one of TCP, UDP, SCTP"),
    ],
)
def test_an_unknown_word_of_a_frontend_is_refused_by_name(event: FrontendPlanned, reason: str) -> None:
    node = Node()
    node.plan(vip("192.0.2.1"), A, event)
    node.plan(vip("192.0.2.9"), backends("other", 5), frontend("192.0.2.9", "other"))
    assert [(each.entity, each.reason) for each in node.applier.rejections()] == [(key_of(event), reason)]
    assert node.in_table() == {"10.0.0.5:8080/TCP"}, "the others are served"
    node.restart()
    assert [(each.entity, each.reason) for each in node.applier.rejections()] == [(key_of(event), reason)]
    node.plan(no_frontend("192.0.2.1", protocol=event.protocol), frontend("192.0.2.1", "a"))
    assert node.applier.rejections() == ()
    assert node.in_table() >= {"10.0.0.1:8080/TCP"}


def test_an_unknown_state_of_a_backend_is_refused_and_what_was_there_before_serves() -> None:
    node = Node()
    node.plan(vip("192.0.2.1"), A, frontend("192.0.2.1", "a"))
    strange = replace(A, backends=(replace(A.backends[0], state="warming"), A.backends[1]))
    node.plan(strange)
    (rejection,) = node.applier.rejections()
    assert rejection.entity == key_of(frontend("192.0.2.1", "a"))
    assert rejection.reason == "state of a backend 'warming': expected one of active, draining, down"
    assert node.in_table() == {"10.0.0.1:8080/TCP", "10.0.0.2:8080/TCP"}
    node.plan(A)
    assert node.applier.rejections() == ()


def test_backends_of_an_unknown_protocol_are_refused_with_the_frontend() -> None:
    node = Node()
    quic = BackendsPlanned(set="shop/q:80/QUIC:IPv4", chunk=0, chunks=1, protocol="QUIC", backends=A.backends, root=A.root)
    asked = replace(frontend("192.0.2.1", "a"), sets=(BackendSet(name=quic.set, chunks=1),), protocol="QUIC")
    node.plan(vip("192.0.2.1"), quic, asked)
    assert [each.entity for each in node.applier.rejections()] == [key_of(asked)]
    node.plan(no_frontend("192.0.2.1", protocol="QUIC"), replace(quic, backends=()))
    assert node.applier.rejections() == ()
    assert not [value for _, value in node.maps["backends"].filled() if Backend.unpack(value)]
