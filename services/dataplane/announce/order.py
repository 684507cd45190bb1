"""Which LB node announces a VIP, and the kernel's map of who is alive: `lb_nodes`.

The rule stands once more in `bpf/lib/announce.h`, for answers on the wire; here it says what processes do about it.
"""

import mmap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from services.dataplane.l4.layout import HELLO_SEEN, LB_NODE, LB_NODES
from weir.pins import Map

SELF = 0  # the slot of this node


class Alive(NamedTuple):
    """The slots of LB nodes whose deadlines have not passed.  ready: they may announce VIPs."""

    alive: frozenset[int] = frozenset()
    ready: frozenset[int] = frozenset()


def announcer(order: Sequence[int], nodes: Alive) -> int | None:
    """Return the slot of the node that announces a VIP: the first that is ready; where none is, the first that is alive.

    order: slots, the first choice first.   None where nobody is alive, not even this node: then BPF answers by what is on the wire.
    """
    return next((slot for wanted in (nodes.ready, nodes.alive) for slot in order if slot in wanted), None)


def is_ours(order: Sequence[int], nodes: Alive) -> bool:
    """Whether this node announces the VIP.  One without an order is every node's."""
    return not order or announcer(order, nodes) == SELF


class NodeTable:
    """`lb_nodes`, mapped into this process: a deadline is one store, and no system call."""

    def __init__(self, nodes: Map) -> None:
        self._words = memoryview(mmap.mmap(nodes.fd, LB_NODES * LB_NODE.size)).cast("Q")

    def put(self, slot: int, alive_until_ns: int, ready_until_ns: int) -> None:
        """Set the deadlines of a node, on CLOCK_MONOTONIC."""
        self._words[2 * slot] = alive_until_ns
        self._words[2 * slot + 1] = ready_until_ns

    def at(self, now_ns: int) -> Alive:
        """Return who is alive and ready at `now_ns`."""
        words = self._words.tolist()
        slots = range(LB_NODES)
        return Alive(
            frozenset(slot for slot in slots if now_ns < words[2 * slot]), frozenset(slot for slot in slots if now_ns < words[2 * slot + 1])
        )


def named(slots: frozenset[int], names: Mapping[int, str]) -> tuple[str, ...]:
    """Return the names of nodes by slot, sorted; slots that nobody has are left out."""
    return tuple(sorted(names[slot] for slot in slots if slot in names))


def hold_back(seen: Map, now_ns: int) -> None:
    """Answer for nothing that others may announce until there was time to hear them: this machine has just started."""
    group, _ = HELLO_SEEN.unpack(seen.get(bytes(4)) or bytes(HELLO_SEEN.size))
    seen.put(bytes(4), HELLO_SEEN.pack(group, now_ns))


def belong(seen: Map, group: bytes) -> None:
    """Let BPF note the hellos of this group on the wire."""
    held, at_ns = HELLO_SEEN.unpack(seen.get(bytes(4)) or bytes(HELLO_SEEN.size))
    if held != group:
        seen.put(bytes(4), HELLO_SEEN.pack(group, at_ns))
