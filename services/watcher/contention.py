"""How often the same is written again where another controller keeps taking it away: at once, then ever more rarely.

Two controllers that both serve Services without a class would else write in turn as fast as the API allows.
"""

from collections.abc import Hashable
from typing import Final, NamedTuple

FIRST_S, MOST_S = 0.5, 30.0
TOLD_S: Final = 4.0  # a wait that is worth a word


class _Written(NamedTuple):
    what: object
    at_s: float
    wait_s: float  # before the same is written again


class Contention:
    """What was written last, and when.  Times: seconds of any clock that only goes on."""

    def __init__(self) -> None:
        self._written: dict[Hashable, _Written] = {}

    def wait_s(self, target: Hashable, what: object, now_s: float) -> float:
        """How long to wait before `what` is written; 0: now, and it counts as written."""
        last = self._written.get(target)
        if last and last.what == what:
            due_s = last.at_s + last.wait_s
            if now_s < due_s:
                return due_s - now_s
            calm = now_s - due_s > MOST_S
            self._written[target] = _Written(what, now_s, 0.0 if calm else min(max(2 * last.wait_s, FIRST_S), MOST_S))
        else:
            self._written[target] = _Written(what, now_s, 0.0)
        return 0.0

    def is_told(self, target: Hashable) -> bool:
        """Whether it has gone on for so long that people should know: true of one write."""
        last = self._written.get(target)
        return last is not None and last.wait_s == TOLD_S

    def forget(self, target: Hashable) -> None:
        """It is gone."""
        self._written.pop(target, None)
