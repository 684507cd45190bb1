"""An independent model of the log, as far as appends go: a list of events, what each append expects, and what has expired."""

from collections.abc import Sequence

from weir.bus.reader import Entry, Refused
from weir.bus.subjects import Expected, subtree
from weir.decider import Decided, Fact
from weir.events import DECODE, ENCODE, key_of


class LogModel:
    """entries: every event ever stored, also where it has expired since."""

    age_s = 30 * 86400

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.first = 1  # what is before has expired
        self._last: dict[str, int] = {}  # by key, and by author with a wildcard

    def last(self, key: str) -> int:
        """The last sequence under a key, which may be all of an author's ("ipam.>")."""
        seq = self._last.get(key, 0)
        return seq if seq >= self.first else 0

    def store(self, author: str, decided: Sequence[Decided], last: int, expected: Sequence[Expected]) -> int:
        """Raises Refused, and AssertionError where what is expected lets an append pass that does not know all of its author's events."""
        for each in expected:
            if self.last(each.key) != each.sequence:
                raise Refused(10071, f"wrong last sequence: {self.last(each.key)}")
        stands = self.last(subtree(author, 0).key)
        assert stands == last, f"{author} stands at {stands}, and an append that knows it up to {last} is stored"
        first = len(self.entries) + 1
        for seq, (event, cause, _) in enumerate(decided, first):
            body, key = ENCODE(event), key_of(event)
            self._keep(Entry(Fact(seq, DECODE(body), key), key, cause, seq, len(body)))
        return first

    def _keep(self, entry: Entry) -> None:
        self.entries.append(entry)
        self._last[entry.key] = self._last[f"{entry.key.partition('.')[0]}.>"] = entry.fact.seq

    def expire(self) -> None:
        """All that is stored so far."""
        self.first = len(self.entries) + 1

    def cut(self, length: int) -> None:
        """What an older copy holds: the first `length` events."""
        kept, self.entries, self._last = self.entries[:length], [], {}
        for entry in kept:
            self._keep(entry)
        self.first = min(self.first, length + 1)
