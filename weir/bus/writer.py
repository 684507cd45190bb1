"""Fenced appends of one session: each session has an epoch, as its fencing token.

The first append compares the last event of the author's whole subtree with what the session has read, and stores `epoch_started`.
Each later one compares the sequence of that event alone, on a subject of its own: this costs the server the same however many names the
author ever wrote about, and once another session's epoch has started, it is refused.
"""

import asyncio
import math
import os
from collections.abc import Sequence

from weir.bus.client import Bus
from weir.bus.subjects import Expected, epoch_key, subtree
from weir.decider import Decided
from weir.events import EpochStarted

_NS = 1_000_000_000


class Writer:
    """Appends of one session as one author.  A session that appends nothing starts no epoch."""

    def __init__(self, bus: Bus, author: str) -> None:
        self.bus = bus
        self._author = author
        self._epoch = 0  # the sequence at which ours started
        self._renew_at_s = 0.0

    async def append(self, decided: Sequence[Decided], last: int) -> int:
        """Append all or nothing, at least one and at most BATCH, while this is the author's newest epoch.  Returns the first sequence.

        last: the author's last event as the session knows it.
        """
        now_s = asyncio.get_running_loop().time()
        if self._epoch and now_s < self._renew_at_s:
            return await self.bus.append(self._author, decided, last, (Expected(epoch_key(self._author), self._epoch),))
        return await self._start(decided, last, now_s) + 1

    async def _start(self, decided: Sequence[Decided], last: int, now_s: float) -> int:
        """The same with the start of an epoch before it: the first one, or another before the history drops that.

        The start is never the author's last event: a session that waits for that one does not subscribe to this kind.
        """
        age_s = (await self.bus.stream())["config"]["max_age"] / _NS or math.inf
        started = Decided(EpochStarted(writer=self._author, host=os.uname().nodename, pid=os.getpid()), 0)
        expected = [Expected(epoch_key(self._author), self._epoch or await self.bus.epoch(self._author))]
        if not self._epoch:  # the first message's expectation is for appends of an earlier epoch that a cluster has under way
            expected.append(subtree(self._author, last))
        self._epoch = await self.bus.append(self._author, (started, *decided), last, expected)
        self._renew_at_s = now_s + age_s / 2
        return self._epoch
