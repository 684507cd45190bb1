"""Plays seeds FIRST up to LAST: python -m tests.sim FIRST LAST [PROCESSES]; each that fails is named, with what did not hold."""

import multiprocessing
import sys
import time
import traceback
from collections import Counter

import pytest

from tests.sim.installation import isolate
from tests.sim.scenario import play


def _played(seed: int) -> tuple[str, Counter[str], int]:
    """Why it failed, its faults, the length of its log."""
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch)
        try:
            log = play(seed).log
        except Exception as error:  # of any kind: each is a finding
            place = traceback.extract_tb(error.__traceback__)[-1]
            return f"seed {seed}: {type(error).__name__}: {error} ({place.filename.rpartition('/')[2]}:{place.lineno})", Counter(), 0
    return "", Counter(log.faults), len(log.entries)


def main() -> None:
    """Ends with 1 where a seed failed."""
    first, last = int(sys.argv[1]), int(sys.argv[2])
    processes = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    begun_s, faults, events, failed = time.monotonic(), Counter[str](), 0, 0
    with multiprocessing.Pool(processes) as pool:
        for why, met, length in pool.imap_unordered(_played, range(first, last), chunksize=8):
            faults, events, failed = faults + met, events + length, failed + bool(why)
            if why:
                print(why, flush=True)
    seconds = time.monotonic() - begun_s
    print(f"{last - first} seeds, {failed} failed, {events} events, {(last - first) / seconds:.1f} seeds/s")
    print(", ".join(f"{count} × {what}" for what, count in sorted(faults.items())))
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
