"""The flow table as user space sees it: mapped into this process, so that reading it needs no system call.

The kernel's programs own every slot.  The agent writes one word of it, `cut`, which names the flow it is meant for by its sequence
number: another flow that takes the slot meanwhile is not affected.
"""

import mmap
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from struct import Struct
from typing import NamedTuple

from services.dataplane.l4.layout import FLOW_OVER, STATES, Constants, Flow, idle_s, timeout_s
from weir.pins import PROTOCOLS, Map

_FIELDS = Struct("=36xBxHQII48xII16x")  # proto, idle, life, seen, cut, frontend and backend id of layout.Flow
_CUT = Struct("=I")
_CUT_AT, _PAIR_AT = 52, 104
_TCP = PROTOCOLS["TCP"]
_CLOSED, _RESET = STATES.index("closed"), STATES.index("reset")
_RESET_S = 10
_GRACE_S = 10

Pair = tuple[int, int]  # frontend and backend id


class Parted(NamedTuple):
    """Frontends and backends that no longer belong together.

    left: the backend left the frontend's set.   leaving: it drains, and takes no new connection.   frontends: were removed.
    """

    left: set[Pair]
    leaving: set[Pair]
    frontends: set[int]

    def __bool__(self) -> bool:
        return bool(self.left or self.leaving or self.frontends)


class _Seen(NamedTuple):
    at: int  # of the slot, in bytes
    proto: int
    state: int
    seq: int
    cut: int
    unseen_s: float
    timeout_s: int
    pair: Pair


class FlowTable:
    """The table of this machine.   flows, constants: the maps of that name."""

    def __init__(self, flows: Map, constants: Map) -> None:
        self._constants = Constants.unpack(constants.get(bytes(4)) or bytes(Constants.FORMAT.size))
        self._slots = memoryview(mmap.mmap(flows.fd, flows.max_entries * Flow.FORMAT.size))
        self._words = self._slots.cast("Q")
        self.limit = flows.max_entries

    def sweep(self, now_ns: int) -> tuple[set[int], int]:
        """End flows that have timed out; others take their slots anyway.  Return the backend ids of live flows, and how many ended.

        Without it a flow without packets for 24 days would seem alive again, as the kernel's ticks are kept in 32 bits.
        """
        alive: set[int] = set()
        gone = 0
        for flow in self._living(now_ns):
            if flow.unseen_s > flow.timeout_s + _GRACE_S:
                self._cut(flow.at, flow.seq)
                gone += 1
            elif flow.state != _CLOSED and (flow.state != _RESET or flow.unseen_s < _RESET_S):
                alive.add(flow.pair[1])
        return alive, gone

    def cut(self, due: Collection[Pair]) -> int:
        """End the flows of these frontends and backends; their next packet goes to another backend, which resets them."""
        wanted = {frontend | backend << 32 for frontend, backend in due}
        doomed = list(self._living(_now_ns(), [at for at, pair in enumerate(self._pairs()) if pair in wanted]))
        for flow in doomed:
            self._cut(flow.at, flow.seq)
        return len(doomed)

    def part(self, parted: Parted) -> int:
        """Let connections of those continue, but a SYN starts a new flow; datagrams go to another backend, unless theirs only drains."""
        wanted, count = {frontend | backend << 32 for frontend, backend in parted.left | parted.leaving}, 0
        concerned = [at for at, pair in enumerate(self._pairs()) if pair in wanted or pair & 0xFFFFFFFF in parted.frontends]
        for flow in self._living(_now_ns(), concerned):
            left = flow.pair in parted.left or flow.pair[0] in parted.frontends
            if left and flow.proto != _TCP:
                self._cut(flow.at, flow.seq)
            elif (left or flow.pair in parted.leaving) and flow.proto == _TCP and not flow.cut:
                self._cut(flow.at, flow.seq | 1)
            else:
                continue
            count += 1
        return count

    def count(self) -> int:
        """Return how many flows in the table have not timed out."""
        return sum(flow.unseen_s <= flow.timeout_s for flow in self._living(_now_ns()))

    def _pairs(self) -> list[int]:
        """Return for each slot the frontend's id, and the backend's in the upper half."""
        return self._words[_PAIR_AT // 8 :: Flow.FORMAT.size // 8].tolist()

    def _living(self, now_ns: int, slots: Iterable[int] | None = None) -> Iterator[_Seen]:
        """Yield every flow that has not ended, of all slots or of some; its `cut` is 0 unless it is meant for this flow."""
        size, unseen_s = Flow.FORMAT.size, self._constants.unseen_s
        some = None if slots is None else ((at, _FIELDS.unpack_from(self._slots, at * size)) for at in slots)
        for number, (proto, idle, life, seen, cut, frontend, backend) in some or enumerate(_FIELDS.iter_unpack(self._slots)):
            state, seq = life >> 32 & 0xFF, life & 0xFFFFFFFF
            if not state or seq & 1 or cut == seq or life >> 40 & FLOW_OVER:
                continue
            mark, lives_s = cut if cut == seq | 1 else 0, timeout_s(state, proto, idle_s(idle))
            yield _Seen(number * size, proto, state, seq, mark, unseen_s(seen, now_ns), lives_s, (frontend, backend))

    def _cut(self, at: int, word: int) -> None:
        _CUT.pack_into(self._slots, at + _CUT_AT, word)


def _now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


class Drains:
    """How long backends have been leaving, by frontend and backend id.  A restart of the agent restarts the time."""

    def __init__(self) -> None:
        self._since_s: dict[Pair, float] = {}
        self._done: set[Pair] = set()

    def due(self, leaving: Mapping[Pair, int], now_s: float) -> set[Pair]:
        """Return those of `leaving` (pair -> seconds it has) whose time is up; each once."""
        self._since_s = {pair: self._since_s.get(pair, now_s) for pair in leaving}
        self._done &= set(leaving)
        due = {pair for pair, timeout_s in leaving.items() if now_s - self._since_s[pair] >= timeout_s} - self._done
        self._done |= due
        return due
