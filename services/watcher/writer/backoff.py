"""Back-off for status writes that another controller keeps overwriting.

Two controllers that both serve Services without a class would else write in turn as fast as the API allows.
"""

from collections.abc import Hashable
from typing import Final, NamedTuple

FIRST_S, MOST_S = 0.5, 30.0
TOLD_S: Final = 4.0  # a wait that people should know of


class _Written(NamedTuple):
    what: object
    at_s: float
    wait_s: float  # before the same is written again


class Contention:
    """What was written last, and when.  Times: seconds of any monotonic clock."""

    def __init__(self) -> None:
        self._written: dict[Hashable, _Written] = {}

    def wait_s(self, target: Hashable, what: object, now_s: float) -> float:
        """Return how long to wait before `what` is written; 0: write now."""
        last = self._written.get(target)
        return max(last.at_s + last.wait_s - now_s, 0.0) if last and last.what == what else 0.0

    def wrote(self, target: Hashable, what: object, now_s: float) -> bool:
        """Record a write.  True for the one write after which people should know that this goes on."""
        last, wait_s = self._written.get(target), 0.0
        if last and last.what == what and now_s - last.at_s - last.wait_s <= MOST_S:
            wait_s = min(max(2 * last.wait_s, FIRST_S), MOST_S)
        self._written[target] = _Written(what, now_s, wait_s)
        return wait_s == TOLD_S

    def forget(self, target: Hashable) -> None:
        """Forget a target that is gone."""
        self._written.pop(target, None)
