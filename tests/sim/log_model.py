"""An independent model of the log, as far as appends go: a list of events, what each append expects, and what has expired."""

from collections.abc import Sequence

from weir.bus.client import Expected, subtree
from weir.bus.reader import Entry, Refused
from weir.decider import Decided, Fact
from weir.events import DECODE, ENCODE, key_of


class LogModel:
    """entries: every event ever stored, also where it has expired since."""

    age_s = 30 * 86400

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.first = 1  # what is before has expired

    def last(self, key: str) -> int:
        """The last sequence under a key, which may end with a wildcard."""
        held = (entry for entry in reversed(self.entries[self.first - 1 :]) if entry.key == key or _below(entry.key, key))
        return next((entry.fact.seq for entry in held), 0)

    def store(self, author: str, decided: Sequence[Decided], last: int, expected: Sequence[Expected]) -> int:
        """Raises Refused, and AssertionError where what is expected lets an append pass that does not know all of its author's events."""
        for each in expected:
            if self.last(each.key) != each.sequence:
                raise Refused(10071, f"wrong last sequence: {self.last(each.key)}")
        stands = self.last(subtree(author, 0).key)
        assert stands == last, f"{author} stands at {stands}, and an append that knows it up to {last} is stored"
        first = len(self.entries) + 1
        for seq, (event, cause, _) in enumerate(decided, first):
            body = ENCODE(event)
            self.entries.append(Entry(Fact(seq, DECODE(body), key_of(event)), key_of(event), cause, seq, len(body)))
        return first

    def expire(self) -> None:
        """All that is stored so far."""
        self.first = len(self.entries) + 1


def _below(key: str, pattern: str) -> bool:
    return pattern.endswith(".>") and key.startswith(pattern[:-1])
