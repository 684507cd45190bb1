"""`weir log verify`: the faults of the whole history."""

from pathlib import Path

from weir.cli.ask import ask
from weir.cli.output import MACHINE, emit, emit_one
from weir.view.audit import Audit, audited
from weir.view.history import source


def verify(instance: str, file: Path | None, output: str) -> int:
    """Print the faults; return 1 when there are any.  file: a recording, instead of the log."""

    async def question() -> Audit:
        async with source(instance, file) as log:
            return await audited(log)

    audit = ask(instance, question())
    found = [fault._asdict() for fault in audit.faults]
    counts = {"events": audit.facts, "last": audit.last, "entities": len(audit.latest), "digest": audit.digest}
    if output in MACHINE:
        emit_one({**counts, "faults": found}, output)
        return bool(found)
    if found:
        emit(found, output)
    words = f"{len(found)} faults" if found else "no faults"
    print(f"{words} in {audit.facts} events up to {audit.last} about {len(audit.latest)} entities, digest {audit.digest}")
    return bool(found)
