"""The real cores of all services on one log while everything fails: what must always hold does, and all comes to rest.

`python -m tests.sim FIRST LAST` plays more seeds; a failure names its own.
"""

import pytest

from tests.sim.installation import isolate
from tests.sim.scenario import play

SEEDS = range(200)
PART = 25
FAULTS = (
    *("append lost", "append late", "append twice", "answer lost", "killed", "killed before an append", "killed after an append"),
    *("unreachable", "connection refused", "refused by the fence"),
)


@pytest.mark.parametrize("first", SEEDS[::PART])
def test_promises_hold_whatever_fails_and_all_comes_to_rest(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(monkeypatch)
    faults: set[str] = set()
    for seed in range(first, first + PART):
        faults |= play(seed).log.faults.keys()
    assert faults >= {*FAULTS}, f"never happened: {set(FAULTS) - faults}"


def test_a_seed_is_played_alike_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(monkeypatch)
    one, other = ([entry.fact for entry in play(7).log.entries] for _ in range(2))
    assert one == other
