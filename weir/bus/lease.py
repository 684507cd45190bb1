"""Leader election between replicas, by a lease: a key in a NATS bucket whose values expire after LEASE_S.

The lease saves work and does not protect the log: of two replicas that both take themselves for the leader, the fence admits one.
"""

import asyncio
import contextlib
import os
from typing import Final

from weir.bus.client import Bus
from weir.bus.reader import Refused
from weir.bus.subjects import LEASES

RENEW_S: Final = 1.5  # well within LEASE_S


class Lease:
    """The lease of one service, for one replica."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._holder = f"{os.uname().nodename}.{os.getpid()}.{os.urandom(4).hex()}".encode()

    async def win(self, bus: Bus) -> None:
        """Return once this replica holds the lease.  Raises LogError."""
        while not await self._take(bus):
            await asyncio.sleep(RENEW_S)

    async def keep(self, bus: Bus) -> None:
        """Renew the lease; return once another replica holds it.  Raises LogError."""
        while True:
            await asyncio.sleep(RENEW_S)
            if not await self._take(bus):
                return

    async def give_back(self, bus: Bus) -> None:
        """Give up the lease, so that another replica leads at once.  Raises LogError."""
        for _ in range(3):
            holder, sequence = await bus.value(LEASES, self._service)
            if holder != self._holder:
                return
            with contextlib.suppress(Refused):  # a renewal was still under way
                await bus.put(LEASES, self._service, b"", sequence)
                return

    async def _take(self, bus: Bus) -> bool:
        holder, sequence = await bus.value(LEASES, self._service)
        if holder not in (b"", self._holder):
            return False
        try:
            await bus.put(LEASES, self._service, self._holder, sequence)
        except Refused:  # another was faster
            return False
        return True
