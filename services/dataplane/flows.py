"""The flow table seen from user space: what is over is taken away, so that the table keeps room.

A few fields of each entry are read, not the whole: a table of 262,144 flows is gone through in about half a second.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from struct import Struct

from services.dataplane.layout import KINDS, STATES
from weir.pins import Map

_FIELDS = Struct("=36xBxB5xIII8xQ")  # kind, state, idle_timeout_s, frontend_id, backend_id, last_seen_ns of layout.Flow
_ENDS_S: Mapping[int, int] = {STATES.index("half_open"): 30, STATES.index("closing"): 30, STATES.index("closed"): 5}  # as conntrack.h
_REVERSE = KINDS.index("reverse")
_GRACE_S = 10  # a flow that begins anew under the old key must not be taken away with it


def sweep(flows: Map, now_ns: int) -> tuple[set[int], int]:
    """Takes away entries that are over.  Returns the backend ids of those that live, and how many went."""
    alive: set[int] = set()
    over: list[bytes] = []
    pairs: list[tuple[bytes, bytes]] = []
    for key, value in flows.items():
        kind, state, _, _, backend, _ = _FIELDS.unpack_from(value)
        if kind == _REVERSE:
            pairs.append((key, _forward_of(key, value)))
        elif _is_over(value, now_ns):
            over.append(key)
        elif state != STATES.index("closed"):
            alive.add(backend)
    gone = _delete(flows, over, lambda _, value: _is_over(value, now_ns))
    orphans = [key for key, forward in pairs if flows.get(forward) is None]
    gone += _delete(flows, orphans, lambda key, value: flows.get(_forward_of(key, value)) is None)
    return alive, gone


def _delete(flows: Map, keys: Iterable[bytes], doomed: Callable[[bytes, bytes], bool]) -> int:
    """Looks at each again at the last moment: since it was read, on a busy machine seconds ago, another flow may have taken its place."""
    gone = 0
    for key in keys:
        value = flows.get(key)
        if value is not None and doomed(key, value):
            gone += flows.delete(key)
    return gone


def _is_over(value: bytes, now_ns: int) -> bool:
    _, state, idle_s, _, _, seen_ns = _FIELDS.unpack_from(value)
    return bool(now_ns - seen_ns > (_ENDS_S.get(state, idle_s) + _GRACE_S) * 10**9)


def cut(flows: Map, leaving: Collection[tuple[int, int]]) -> int:
    """Takes away the flows of these frontends and backends, by id; their next packet goes to another backend, which resets them."""
    doomed = [key for key, value in flows.items() if _FIELDS.unpack_from(value)[3:5] in leaving]
    flows.delete_many(doomed)
    return len(doomed)


def _forward_of(key: bytes, value: bytes) -> bytes:
    """The key of the flow that a reverse entry leads to."""
    return value[16:32] + value[:16] + value[34:36] + value[32:34] + key[36:]


class Drains:
    """How long backends have been leaving, by frontend and backend id.  A restart of the agent starts the time over."""

    def __init__(self) -> None:
        self._since_s: dict[tuple[int, int], float] = {}
        self._done: set[tuple[int, int]] = set()

    def due(self, leaving: Mapping[tuple[int, int], int], now_s: float) -> set[tuple[int, int]]:
        """Of those that leave, and the seconds each has for it, the ones whose time is up; each is told once."""
        self._since_s = {pair: self._since_s.get(pair, now_s) for pair in leaving}
        self._done &= set(leaving)
        due = {pair for pair, timeout_s in leaving.items() if now_s - self._since_s[pair] >= timeout_s} - self._done
        self._done |= due
        return due
