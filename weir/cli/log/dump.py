"""`weir log dump`: write the history, and the state before it, to a file that `--from` reads and `weir log verify` checks."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from weir.bus.client import Bus
from weir.bus.lines import line
from weir.bus.reader import Delivered
from weir.bus.snapshots import base_of, history, sequences
from weir.cli.ask import ask
from weir.view.errors import Unanswerable
from weir.view.history import connect, latest_at
from weir.view.progress import progress
from weir.view.recording import head_line


def dump(instance: str, file: Path) -> None:
    """Write the log's content; `file` is complete or does not exist, "-" is standard output."""

    async def question() -> int:
        async with await connect(instance) as bus:
            with _new(file) as out:
                return await _write(bus, out)

    count = ask(instance, question())
    print(f"{count} events in {file}", file=sys.stderr)


async def _write(bus: Bus, out: BinaryIO) -> int:
    """First the last event of each entity that was live when the history began, then the history, so that the file is complete."""
    state = (await bus.stream())["state"]
    first, last = state["first_seq"], state["last_seq"]
    base, before = await _base(bus, first)
    out.write(head_line(bus.cluster, first, last, base))
    out.writelines(map(line, before))
    count = len(before)
    with progress("dumping the log", first, last) as advance:
        async for found in history(bus, first, last):
            out.writelines(map(line, found))
            count += len(found)
            advance(found[-1].sequence)
    return count


async def _base(bus: Bus, first: int) -> tuple[int, list[Delivered]]:
    """Return the sequence from which on the state is known, and the events before the history begins."""
    _, covered = base_of(0, first, await sequences(bus))
    if covered == 0:
        return 0, []
    latest, base = await latest_at(bus, str(covered) if covered else "")
    return base, sorted((message for message in latest.values() if message.sequence < first), key=lambda message: message.sequence)


@contextlib.contextmanager
def _new(file: Path) -> Iterator[BinaryIO]:
    """Open a file that is renamed into place once complete.  Raises Unanswerable where it cannot be written."""
    if str(file) == "-":
        yield sys.stdout.buffer
        return
    temporary = file.with_name(f".{file.name}.new")
    try:
        with temporary.open("wb") as out:
            yield out
        temporary.replace(file)
    except OSError as error:
        raise Unanswerable(f"{file} cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
