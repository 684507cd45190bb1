"""Fills the log with facts that concern nobody, up to a share of its limit or until it takes no more: run in the LB's namespace."""

import asyncio
import sys

from weir.bus.client import Bus
from weir.bus.reader import LogFull, LogUnreachable
from weir.decider import Decided
from weir.events import VipTaken, author_of
from weir.where import Where


async def main(instance: str, percent: int) -> None:
    """100 and more per cent: until not even a small fact has room; prints the last refusal."""
    refused = ""
    async with await Bus.connect(Where(instance).nats_url(), "fill") as bus:
        most = (await bus.stream())["config"]["max_bytes"]
        for size_bytes in (20_000, 1_000, 1):
            fact = VipTaken(node="filler", vip="192.0.2.1", interfaces=("x" * size_bytes,))
            try:
                fence = await bus.last(author_of(fact))
                while (await bus.stream())["state"]["bytes"] * 100 < most * percent:
                    fence = await bus.append(author_of(fact), [Decided(fact, 0)], fence)
            except LogFull as refusal:
                refused = f"LogFull: {refusal}"
            except LogUnreachable as error:
                refused = str(error)
                break
    print(refused)


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
