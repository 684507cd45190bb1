"""Weir and its peers side by side: the same client, servers and network for each.  python -m bench.peers [LOAD ...] [--rounds N]

Every load of a round visits every peer before the next load begins, each round in another order, so that what else the machine does
meets all alike; ratios are taken within a round.  What a sample sent must have passed the load balancer.  CPU is that of client, load
balancer and servers together: all of the way is gone in the time of one of them, and this holds on a busy machine too.
"""

import argparse
import random
import statistics
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.loads import LOADS, Load, LoadError
from bench.quiet import cpu_s, undisturbed
from bench.rigs import NAMESPACES, PEERS, Peer
from bench.table import Row, Table

ROUNDS, QUICK_ROUNDS = 5, 1

Samples = dict[tuple[str, str], list[float]]  # by title and peer


def run(quick: bool) -> list[Table]:
    """One table for each figure."""
    return compare(LOADS, QUICK_ROUNDS if quick else ROUNDS)


def compare(loads: Sequence[Load], rounds: int) -> list[Table]:
    """One table for each figure of these loads."""
    samples: Samples = defaultdict(list)
    disturbed: Samples = defaultdict(list)
    with TemporaryDirectory(prefix="bench-") as folder, ExitStack() as stack:
        for kind in PEERS:
            if reason := kind.missing():
                print(f"{kind.label} left out: {reason}", flush=True)
        peers = [stack.enter_context(peer(Path(folder))) for peer in PEERS if not peer.missing()]
        for turn in range(rounds):
            for load in loads:
                for peer in random.Random(turn).sample(peers, len(peers)):
                    if load.name not in peer.refuses:
                        figures, others = undisturbed(partial(measure, peer, load), NAMESPACES)
                        for (title, _, _), figure in zip(load.figures, figures, strict=True):
                            samples[title, peer.label].append(figure)
                            disturbed[title, peer.label].append(others)
            print(f"round {turn + 1} of {rounds} done", flush=True)
    return [_table(load, at, samples, disturbed) for load in loads for at in range(len(load.figures))]


def measure(peer: Peer, load: Load) -> tuple[float, ...]:
    """One sample.  Raises LoadError where the load met errors or passed the load balancer by."""
    before, before_s = peer.passed(), cpu_s(peer.network.name)
    outcome = load.run(peer.network)
    spent_s, passed = cpu_s(peer.network.name) - before_s, peer.passed() - before
    if passed < outcome.packets:
        raise LoadError(f"{peer.label}, {load.name}: {passed} packets passed the load balancer, expected {outcome.packets} at least")
    return (*outcome.figures, (spent_s - outcome.starting_s) / outcome.work)


def _table(load: Load, at: int, samples: Samples, disturbed: Samples) -> Table:
    title, unit, less = load.figures[at]
    rows = tuple(_row(peer.label, samples[title, peer.label], disturbed[title, peer.label]) for peer in PEERS)
    return Table(title=title, unit=unit, rows=rows, baseline=PEERS[0].label, less_is_better=less)


def _row(label: str, samples: Sequence[float], disturbed: Sequence[float]) -> Row:
    return Row(label, tuple(samples), f"others {statistics.median(disturbed):.0%}" if disturbed else "not measured")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("loads", nargs="*", metavar="LOAD", help=f"of {', '.join(load.name for load in LOADS)}; all, if none is named")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    wanted = parser.parse_args()
    for table in compare([load for load in LOADS if load.name in wanted.loads or not wanted.loads], wanted.rounds):
        print(table.markdown(), end="\n\n")
