"""`weir log why`: the chain of causes on one screen."""

from pathlib import Path

from weir.bus.reader import Entry
from weir.cli.ask import ask
from weir.cli.log.entries import show_all
from weir.cli.output import MACHINE, emit, row_of
from weir.view.events import in_full
from weir.view.history import source
from weir.view.why import why as chain

LINES_MOST, FIRST = 24, 6  # of a longer chain the first and the latest are shown


def why(instance: str, subject: str, at: str, output: str, file: Path | None = None) -> None:
    """Print the chain behind a VIP, Service, backend address or sequence, now or at a moment.  file: a recording, instead of the log."""

    async def question() -> list[Entry]:
        async with source(instance, file) as log:
            return await chain(log, subject, at)

    found = ask(instance, question())
    if output in MACHINE:
        emit([row_of(in_full(entry)) for entry in found], output)
    elif len(found) <= LINES_MOST:
        show_all(found, output)
    else:
        show_all(found[:FIRST], output)
        print(f"{'…':>7} {len(found) - LINES_MOST} more, all with -o json")
        show_all(found[FIRST - LINES_MOST :], output)
