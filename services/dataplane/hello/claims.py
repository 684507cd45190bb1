"""VIPs that this node has taken over, claimed on the wire several times: one announcement may be lost, or too early for a switch."""

import heapq
from collections.abc import Callable, Iterable, Sequence

from services.dataplane.announce.arp import Announcer
from services.dataplane.hello.group import MS

AGAIN_MS = (0, 100, 500, 2_000, 5_000)
AT_ONCE = 200  # between two looks at the sockets
STALE_MS = 50  # what this node announces is asked anew after that


class Claims:
    """interfaces: where to claim them."""

    def __init__(self, interfaces: Sequence[str]) -> None:
        self._announcer, self._interfaces = Announcer(), interfaces
        self._due: list[tuple[int, bool, str]] = []  # heap: when (ns, CLOCK_MONOTONIC), whether it is a repetition, VIP
        self._ours: set[str] = set()
        self._asked_ns = 0

    @property
    def next_ns(self) -> int | None:
        """When the next one is due; None where none is."""
        return self._due[0][0] if self._due else None

    def add(self, vips: Iterable[str], now_ns: int) -> None:
        """Claim `vips` from now on: somebody came or went, so what this node announces is to be asked anew."""
        self._asked_ns = 0
        for vip in vips:
            for ms in AGAIN_MS:
                heapq.heappush(self._due, (now_ns + ms * MS, ms > 0, vip))

    def send(self, now_ns: int, ours: Callable[[], set[str]]) -> None:
        """Send what is due, the rest with the next call.   ours: what this node announces now, asked before anything is repeated."""
        due: list[tuple[bool, str]] = []
        while self._due and self._due[0][0] <= now_ns and len(due) < AT_ONCE:
            due.append(heapq.heappop(self._due)[1:])
        if any(again for again, _ in due) and now_ns - self._asked_ns > STALE_MS * MS:  # it reads the whole map
            self._ours, self._asked_ns = ours(), now_ns
        for again, vip in due:
            if not again or vip in self._ours:
                self._announcer.announce(vip, self._interfaces)
