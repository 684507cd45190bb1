"""Weir and its peers side by side: the same client, servers and network for each.  python -m bench.peers [LOAD ...] [--rounds N]

Every load of a round visits every peer before the next load begins, each round in another order, so that what else the machine does
meets all alike; ratios are taken within a round.  Each sample waits until the machine is idle, and must have passed the load balancer.
"""

import argparse
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.loads import LOADS, Load, LoadError
from bench.rigs import PEERS, Peer
from bench.table import Row, Table

IDLE, IDLE_S, PATIENCE_S = 0.85, 0.3, 3.0
ROUNDS, QUICK_ROUNDS = 7, 1

Samples = dict[tuple[str, str], list[float]]  # by title and peer


def run(quick: bool) -> list[Table]:
    """One table for each figure."""
    return compare(LOADS, QUICK_ROUNDS if quick else ROUNDS)


def compare(loads: Sequence[Load], rounds: int) -> list[Table]:
    """One table for each figure of these loads."""
    samples: Samples = defaultdict(list)
    busy: dict[tuple[str, str], list[float]] = defaultdict(list)
    with TemporaryDirectory(prefix="bench-") as folder, ExitStack() as stack:
        peers = [stack.enter_context(peer(Path(folder))) for peer in PEERS]
        for turn in range(rounds):
            for load in loads:
                for peer in random.Random(turn).sample(peers, len(peers)):
                    if peer.takes(load.name):
                        others = 1 - wait_for_idle()
                        for (title, _, _), figure in zip(load.figures, measure(peer, load), strict=True):
                            samples[title, peer.label].append(figure)
                            busy[title, peer.label].append(others)
            print(f"round {turn + 1} of {rounds} done", flush=True)
    return [_table(load, at, samples, busy) for load in loads for at in range(len(load.figures))]


def measure(peer: Peer, load: Load) -> tuple[float, ...]:
    """One sample.  Raises LoadError where the load met errors or passed the load balancer by."""
    before = peer.passed()
    outcome = load.run(peer.network)
    passed = peer.passed() - before
    if passed < outcome.packets:
        raise LoadError(f"{peer.label}, {load.name}: {passed} packets passed the load balancer, expected {outcome.packets} at least")
    return outcome.figures


def wait_for_idle() -> float:
    """Until the machine was idle for 0.3 s, 3 s at most; the share of its CPUs that was idle then."""
    until = time.monotonic() + PATIENCE_S
    while (idle := _idle(IDLE_S)) < IDLE and time.monotonic() < until:
        pass
    return idle


def _idle(seconds: float) -> float:
    (total, idle), _ = _cpu(), time.sleep(seconds)
    total_after, idle_after = _cpu()
    return (idle_after - idle) / max(1, total_after - total)


def _cpu() -> tuple[int, int]:
    """Ticks of all CPUs, and those of them that were idle."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(ticks), ticks[3] + ticks[4]


def _table(load: Load, at: int, samples: Samples, busy: Samples) -> Table:
    title, unit, less = load.figures[at]
    rows = tuple(_row(peer.label, samples[title, peer.label], busy[title, peer.label]) for peer in PEERS)
    return Table(title=title, unit=unit, rows=rows, baseline=PEERS[0].label, less_is_better=less)


def _row(label: str, samples: Sequence[float], busy: Sequence[float]) -> Row:
    return Row(label, tuple(samples), f"others {statistics.median(busy):.0%}" if busy else "does not do this")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("loads", nargs="*", metavar="LOAD", help=f"of {', '.join(load.name for load in LOADS)}; all, if none is named")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    wanted = parser.parse_args()
    for table in compare([load for load in LOADS if load.name in wanted.loads or not wanted.loads], wanted.rounds):
        print(table.markdown(), end="\n\n")
