"""What the hellos that arrive say about the group: who is alive, who is ready, and whether this node is heard.

Asynchronous mode of BFD (RFC 5880, section 6.8.4): a node is dead once nothing was heard of it for its interval times its multiplier.
Pure: the time, on CLOCK_MONOTONIC in ns, comes with each call.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from services.dataplane.hello.frame import Hello

MS = 1_000_000
LAG_NS = 2_000 * MS
FORGET_SEQUENCE_NS = 3_000 * MS
FORGET_INTERFACE_NS = 60_000 * MS  # a peer may have one less than before


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
        self._last: dict[int, _Last] = {}
        self._on_ns: dict[tuple[str, int], int] = {}  # interface and peer -> when it was last heard there
        self._to_learn = 0  # orders that a peer knew when it was heard for the first time, or again
        self._behind_since_ns: int | None = None
        self._back_to: set[int] = set()  # peers that had taken VIPs over when they were heard again

    def change(self, group: bytes, slots: Mapping[int, int]) -> None:
        """Take over who belongs to the group now."""
        if group != self.group:  # another log, whose sequences begin anew
            self._to_learn = 0
        self.group, self.slots = group, dict(slots)
        self._last = {number: last for number, last in self._last.items() if number in slots}
        self._on_ns = {where: at_ns for where, at_ns in self._on_ns.items() if where[1] in slots}

    def hear(self, hello: Hello, interface: str, now_ns: int) -> tuple[int, Deadline] | None:
        """Note a hello; return its sender's slot and deadlines.   None: it is no peer's, or was heard before.

        A hello comes on every interface once, so the second of a number says only that the interface works.  A lower number is a
        hello that somebody repeats, unless its sender has been dead for a while: then it has booted.
        """
        slot, held = self.slots.get(hello.sender), self._last.get(hello.sender)
        if hello.group != self.group or slot is None:
            return None
        if held and hello.sequence < held.hello.sequence and now_ns < held.deadline.alive_ns + FORGET_SEQUENCE_NS:
            return None
        self._on_ns[interface, hello.sender] = now_ns
        if held and hello.sequence == held.hello.sequence:
            return None
        if held is None or now_ns >= held.deadline.alive_ns:
            self._to_learn = max(self._to_learn, hello.orders)
            self._back_to.add(hello.sender)
        if not hello.taken:
            self._back_to.discard(hello.sender)
        until_ns = now_ns + _patience_ns(hello)
        deadline = Deadline(until_ns, until_ns if hello.ready else 0)
        self._last[hello.sender] = _Last(hello, deadline)
        return slot, deadline

    def next_deadline_ns(self, now_ns: int) -> int | None:
        """Return when the next peer that is alive will be dead if nothing more is heard."""
        return min((last.deadline.alive_ns for last in self._alive(now_ns)), default=None)

    def heard(self, now_ns: int) -> frozenset[int]:
        """Return the numbers of the peers that are alive."""
        return frozenset(last.hello.sender for last in self._alive(now_ns))

    def well_heard(self, now_ns: int) -> frozenset[int]:
        """Return those that are heard on every interface on which they were lately: the others cannot send on one of theirs.

        Half a patience later than `heard`: where it is this node that cannot receive there, it finds that out first.
        """
        ages = ((sender, now_ns - at_ns) for (_, sender), at_ns in self._on_ns.items())
        late = {sender for sender, age_ns in ages if 3 * self._patience_of(sender) // 2 <= age_ns < FORGET_INTERFACE_NS}
        return self.heard(now_ns) - late

    def deaf_to_us(self, now_ns: int) -> bool:
        """Whether a peer that is ready does not hear this node: what we send is lost, and that peer takes our VIPs over."""
        ready = (last.hello for last in self._last.values() if now_ns < last.deadline.ready_ns)
        return any(self._me not in hello.heard for hello in ready)

    def note_unheard(self, now_ns: int) -> None:
        """Others do not hear this node, and may take over: what they know until it is heard again, it must have read then."""
        self._to_learn = max(self._to_learn, self._known(now_ns))

    def is_behind(self, orders: int, now_ns: int) -> bool:
        """Whether this node, which knows `orders`, does not know by which others announce, and could leave a VIP to nobody.

        It was cut off while others may have taken over; or they have known newer orders for LAG_NS: everybody reads an order at about
        the same time, unless it has lost the log.
        """
        known = self._known(now_ns)
        if orders >= known:
            self._behind_since_ns = None
            return False
        if self._behind_since_ns is None:
            self._behind_since_ns = now_ns
        return orders < min(self._to_learn, known) or now_ns - self._behind_since_ns >= LAG_NS

    def is_guest(self, now_ns: int) -> bool:
        """Whether this node came back to a peer that has taken VIPs over, and that the orders do not name first for them yet."""
        return any(last.hello.sender in self._back_to for last in self._last.values() if now_ns < last.deadline.ready_ns)

    def unheard_ns(self, interface: str, now_ns: int) -> int | None:
        """Return since when no peer was heard on an interface; None where none ever was: peers may have no way there (an overlay)."""
        last_ns = max((at_ns for (name, _), at_ns in self._on_ns.items() if name == interface), default=None)
        return None if last_ns is None else now_ns - last_ns

    def patience_ns(self) -> int:
        """Return the longest time for which a peer may be silent, by its own timing."""
        return max((_patience_ns(last.hello) for last in self._last.values()), default=0)

    def _patience_of(self, sender: int) -> int:
        return _patience_ns(self._last[sender].hello) if sender in self._last else 0

    def _alive(self, now_ns: int) -> Iterator[_Last]:
        return (last for last in self._last.values() if now_ns < last.deadline.alive_ns)

    def _known(self, now_ns: int) -> int:
        return max((last.hello.orders for last in self._alive(now_ns)), default=0)


def _patience_ns(hello: Hello) -> int:
    return hello.interval_ms * hello.multiplier * MS
