"""What the hellos that arrive say about the group: who is alive, who is ready, and whether this node is heard.

Asynchronous mode of BFD (RFC 5880, section 6.8.4): a node is dead once nothing was heard of it for its interval times its multiplier.
Pure: the time, on CLOCK_MONOTONIC in ns, comes with each call.
"""

from collections.abc import Mapping
from typing import NamedTuple

from services.dataplane.hello.frame import Hello

MS = 1_000_000


class Deadline(NamedTuple):
    """Until when a peer is alive, and ready; 0 = it is not ready."""

    alive_ns: int
    ready_ns: int


class _Last(NamedTuple):
    hello: Hello
    deadline: Deadline


class Group:
    """me: this node's number.   slots: number of each peer -> slot; hellos of others are ignored."""

    def __init__(self, group: bytes, me: int, slots: Mapping[int, int]) -> None:
        self.group, self._me = group, me
        self.slots = dict(slots)
        self._to_learn = 0  # orders that a peer knew when it was heard for the first time, or again
        self._last: dict[int, _Last] = {}
        self._on_ns: dict[str, int] = {}  # interface -> when a peer was last heard there

    def change(self, group: bytes, slots: Mapping[int, int]) -> None:
        """Take over who belongs to the group now."""
        if group != self.group:  # another log, whose sequences begin anew
            self._to_learn = 0
        self.group, self.slots = group, dict(slots)
        self._last = {number: last for number, last in self._last.items() if number in slots}

    def hear(self, hello: Hello, interface: str, now_ns: int) -> tuple[int, Deadline] | None:
        """Note a hello; return its sender's slot and deadlines.   None: it is no peer's, or was heard before.

        A hello comes on every interface once, so the second of a number says only that the interface works.
        """
        slot, held = self.slots.get(hello.sender), self._last.get(hello.sender)
        if hello.group != self.group or slot is None or (held and hello.sequence < held.hello.sequence):
            return None
        self._on_ns[interface] = now_ns
        if held and hello.sequence == held.hello.sequence:
            return None
        if held is None or now_ns >= held.deadline.alive_ns:
            self._to_learn = max(self._to_learn, hello.orders)
        until_ns = now_ns + hello.interval_ms * hello.multiplier * MS
        deadline = Deadline(until_ns, until_ns if hello.ready else 0)
        self._last[hello.sender] = _Last(hello, deadline)
        return slot, deadline

    def next_deadline_ns(self, now_ns: int) -> int | None:
        """Return when the next peer that is alive will be dead if nothing more is heard."""
        return min((last.deadline.alive_ns for last in self._last.values() if last.deadline.alive_ns > now_ns), default=None)

    def heard(self, now_ns: int) -> frozenset[int]:
        """Return the numbers of the peers that are alive."""
        return frozenset(number for number, last in self._last.items() if now_ns < last.deadline.alive_ns)

    def deaf_to_us(self, now_ns: int) -> bool:
        """Whether a peer that is ready does not hear this node: what we send is lost, and that peer takes our VIPs over."""
        ready = (last.hello for last in self._last.values() if now_ns < last.deadline.ready_ns)
        return any(self._me not in hello.heard for hello in ready)

    def note_unheard(self, now_ns: int) -> None:
        """Others do not hear this node, and may take over: what they know until it is heard again, it must have read then."""
        self._to_learn = max(self._to_learn, self._known(now_ns))

    def _known(self, now_ns: int) -> int:
        return max((last.hello.orders for last in self._last.values() if now_ns < last.deadline.alive_ns), default=0)

    def is_behind(self, orders: int, now_ns: int) -> bool:
        """Whether this node, which knows `orders`, was cut off while others may have taken over, and has not read of it.

        What a peer learns while it is heard does not count: everybody reads it at about the same time.
        """
        return orders < min(self._to_learn, self._known(now_ns))

    def unheard_ns(self, interface: str, now_ns: int) -> int | None:
        """Return since when no peer was heard on an interface; None where none ever was: peers may have no way there (an overlay)."""
        last_ns = self._on_ns.get(interface)
        return None if last_ns is None else now_ns - last_ns
