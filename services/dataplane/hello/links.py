"""Whether this node's interfaces work: their carrier, and whether anything arrives.

Where no peer is heard on an interface, its neighbours are asked for their MACs: that any answers shows that it is not this node that is
cut off.
"""

from collections.abc import Sequence

from services.dataplane.hello.group import Group
from services.dataplane.hello.machine import received
from services.dataplane.hello.readiness import Link
from services.dataplane.hello.wires import Wires

SECOND_NS = 1_000_000_000
ALONE_NS = 3 * SECOND_NS  # one that has been alone for so long need not be quick


class Links:
    """detect_ns: an interface on which nothing arrives for so long is quiet."""

    def __init__(self, interfaces: Sequence[str], wires: Wires, detect_ns: int) -> None:
        self._interfaces, self._wires, self._detect_ns = interfaces, wires, detect_ns
        self._received: dict[str, tuple[int, int]] = {}  # frames so far, and when that last grew
        self._asked_ns: dict[str, int] = {}

    def look(self, group: Group, now_ns: int) -> dict[str, Link]:
        """Return how each interface is, once for each hello."""
        counts, alive = received(self._interfaces), bool(group.heard(now_ns))
        patience_ns, found = max(self._detect_ns, group.patience_ns()), {}
        for name in self._interfaces:
            before, grew_ns = self._received.get(name, (-1, now_ns))
            grew_ns = grew_ns if name in counts and counts[name] == before else now_ns
            self._received[name] = counts.get(name, 0), grew_ns
            unheard_ns, running = group.unheard_ns(name, now_ns), self._wires.running(name)
            if unheard_ns is None:
                found[name] = Link(running, quiet=False)
                continue
            hurried = alive or unheard_ns < ALONE_NS
            if unheard_ns > patience_ns // 2:
                self._ask(name, now_ns, 0 if hurried else SECOND_NS)
            found[name] = Link(running, now_ns - grew_ns >= (patience_ns if hurried else ALONE_NS))
        return found

    def _ask(self, name: str, now_ns: int, every_ns: int) -> None:
        if now_ns - self._asked_ns.get(name, 0) >= every_ns:
            self._asked_ns[name] = now_ns
            self._wires.ask_neighbours(name)
