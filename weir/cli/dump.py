"""`weir log dump`: the whole history into a file, which `--from` reads anywhere and `weir log verify` can check."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from weir.bus import STREAM, Bus
from weir.cli.history import Unanswerable, ask, connect
from weir.cli.output import Progress
from weir.cli.recording import head_line, line


def dump(instance: str, file: Path) -> None:
    """Writes what the log holds now; `file` is there whole or not at all, "-" is standard output."""

    async def question() -> int:
        async with await connect(instance) as bus:
            with _new(file) as out:
                return await _write(bus, out)

    count = ask(instance, question())
    print(f"{count} facts in {file}", file=sys.stderr)


async def _write(bus: Bus, out: BinaryIO) -> int:
    state = (await bus.stream())["state"]
    first, last = state["first_seq"], state["last_seq"]
    out.write(head_line(bus.prefix.split(".")[1], first, last))
    count = 0
    async with bus.unread(STREAM, first - 1) as pull:
        with Progress("dumping the log", first, last) as progress:
            while count < state["messages"]:
                found = [message for message in await pull.next() if message.sequence <= last]
                out.writelines(map(line, found))
                count += len(found)
                progress.at(found[-1].sequence)
    return count


@contextlib.contextmanager
def _new(file: Path) -> Iterator[BinaryIO]:
    """A file to be, in place only once it is whole.  Raises Unanswerable where it cannot be written."""
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
