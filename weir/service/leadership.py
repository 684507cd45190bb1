"""Leadership: among replicas of a service, a session leads while it holds the lease.  Without a lease every session leads."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

import structlog

from weir.bus.client import Bus
from weir.bus.lease import Lease
from weir.bus.reader import Entry, LogError, Pull
from weir.decider import Fold

log = structlog.get_logger()
Load = Callable[[Sequence[Entry]], None]  # folds events


async def stand_by(lease: Lease, bus: Bus, pull: Pull[Entry], load: Load) -> None:
    """Fold the events that arrive until this replica holds the lease.  Raises LogError."""
    won = asyncio.ensure_future(lease.win(bus))
    log.info("standing_by")
    try:
        while not won.done():
            arrived = asyncio.ensure_future(pull.arrived())
            await asyncio.wait((won, arrived), return_when=asyncio.FIRST_COMPLETED)
            if arrived.done():
                arrived.result()
                load(await pull.next())
            arrived.cancel()
    finally:
        won.cancel()
    won.result()


async def take_over(bus: Bus, author: str, fold: Fold, pull: Pull[Entry], load: Load) -> int:
    """Fold all that the leader before appended; return the author's last sequence."""
    last = await bus.last(author)
    while fold.position < last:  # it is on its way, or in the snapshot, which leaves out what is gone
        load(await pull.next())
    log.info("lease_won", service=author, seq=fold.position)
    return last


@contextlib.asynccontextmanager
async def kept(lease: Lease | None, bus: Bus, author: str) -> AsyncIterator[None]:
    """Renew the lease meanwhile.  Where it is lost the connection is closed, which ends the session."""
    if not lease:
        yield
        return
    renewing = asyncio.ensure_future(_renew(lease, bus, author))
    try:
        yield
    finally:
        renewing.cancel()
        with contextlib.suppress(LogError):  # without the log the lease expires by itself
            await lease.give_back(bus)


async def _renew(lease: Lease, bus: Bus, author: str) -> None:
    try:
        await lease.keep(bus)
        log.warning("lease_lost", service=author)
    except LogError as error:
        log.warning("lease_lost", service=author, reason=str(error))
    except asyncio.CancelledError:  # the session has ended, and closes the connection itself
        raise
    except BaseException:
        await bus.close()
        raise
    await bus.close()
