"""`make bench`: the parts in turn, their tables on the screen and in bench/results.  python -m bench [PART ...] [--quick]

A part is a module of this folder with `def run(quick: bool) -> list[Table]`.  One that fails does not keep the others from running.
"""

import argparse
import importlib
import os
import platform
import sys
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bench.plot import bars
from bench.table import Table, overview

PARTS = ("peers", "packet", "flood", "change", "replay", "history", "probe", "size", "cluster")  # in this order
RESULTS = Path(__file__).parent / "results"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure Weir on this machine.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of {', '.join(PARTS)}; all, if none is named")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: shows that it works, not how well")
    wanted = parser.parse_args()
    if unknown := set(wanted.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    RESULTS.mkdir(exist_ok=True)
    print(machine(), flush=True)
    return sum(not measured(part, quick=wanted.quick) for part in wanted.parts or PARTS)


def machine() -> str:
    """Where and when."""
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, kernel {platform.release()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"


def measured(part: str, *, quick: bool) -> bool:
    """Runs a part, prints and keeps its tables; tells whether it came through."""
    print(f"\n## {part}\n", flush=True)
    before, begun_s = machine(), time.monotonic()
    try:
        tables: list[Table] = importlib.import_module(f"bench.{part}").run(quick)
    except Exception:  # whatever it was, the other parts shall be measured
        traceback.print_exc()
        return False
    text = "\n\n".join(filter(None, (overview(tables), *(table.markdown() for table in tables))))
    took = f"({part}: {time.monotonic() - begun_s:.0f} s{', quick' if quick else ''}; began {before})"
    print(f"{text}\n\n{took}", flush=True)
    (RESULTS / f"{part}.json").write_bytes(msgspec.json.format(msgspec.json.encode({"when": before, "quick": quick, "tables": tables})))
    if compared := [table for table in tables if table.baseline and not table.less_is_better]:
        (RESULTS / f"{part}.svg").write_text(bars(compared))
    (RESULTS / f"{part}.md").write_text(f"{text}\n\n{took}\n")
    return True


if __name__ == "__main__":
    sys.exit(main())
