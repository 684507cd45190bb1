"""Hostnames against a naive model: the set of names that a pattern stands for, out of a few."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.planner.gateway.hostnames import ANY, closest, common, covers, specificity

LABELS = ("a", "b")
NAMES = [".".join(labels) for length in (1, 2, 3, 4) for labels in product(LABELS, repeat=length)]
PATTERNS = [ANY, *NAMES[:14], *(f"*.{name}" for name in NAMES[:14])]
PATTERN = st.sampled_from(PATTERNS)


def names_of(pattern: str) -> set[str]:
    if pattern == ANY:
        return set(NAMES)
    if pattern.startswith("*."):
        return {name for name in NAMES if name.endswith(pattern[1:])}
    return {pattern}


@given(PATTERN, PATTERN)
def test_a_pattern_covers_another_where_it_stands_for_all_its_names(one: str, other: str) -> None:
    known = other in NAMES or names_of(other) - {name for name in NAMES if name.count(".") == 3}  # the model is cut off at four labels
    if known:
        assert covers(one, other) == (names_of(other) <= names_of(one) and (other != ANY or one == ANY))


@given(PATTERN, st.lists(PATTERN.filter(bool), max_size=3))
def test_a_listener_serves_what_it_and_the_route_have_in_common(listener: str, hostnames: list[str]) -> None:
    served = set().union(*map(names_of, common(listener, hostnames)))
    wanted = set().union(*map(names_of, hostnames)) if hostnames else set(NAMES)
    assert served == names_of(listener) & wanted


@given(st.lists(PATTERN, min_size=1, unique=True), st.sampled_from(NAMES))
def test_the_closest_pattern_is_covered_by_all_others_that_cover_the_name(patterns: list[str], name: str) -> None:
    found = closest(patterns, name)
    covering = [pattern for pattern in patterns if name in names_of(pattern)]
    assert (found is None) == (not covering)
    assert all(specificity(found) >= specificity(other) for other in covering if found is not None)


@pytest.mark.parametrize(
    ("listener", "route", "served"),
    [
        ("", (), [""]),
        ("*.example.com", (), ["*.example.com"]),
        ("", ("foo.example.com",), ["foo.example.com"]),
        ("*.example.com", ("foo.example.com", "example.com", "other.org"), ["foo.example.com"]),
        ("foo.example.com", ("*.example.com",), ["foo.example.com"]),
        ("*.example.com", ("*.com",), ["*.example.com"]),
        ("very.specific.com", ("non.matching.com",), []),
    ],
)
def test_examples_of_the_gateway_api(listener: str, route: tuple[str, ...], served: list[str]) -> None:
    assert common(listener, route) == served
