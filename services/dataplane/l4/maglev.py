"""Lookup tables: consistent hashing by Maglev, and round robin."""

import ctypes
from array import array
from collections.abc import Callable, Sequence
from functools import cache
from hashlib import blake2b
from itertools import count, cycle
from pathlib import Path

# Primes just above 100 slots per backend; few and far apart, so that a set seldom changes the size of its table.
SIZES = (101, 307, 1009, 2003, 5003, 10007, 20011, 50021, 100003, 200003, 500009, 1000003)


class PlanError(ValueError):
    """A plan that cannot be put into the kernel; the message says what and why."""


def table_size(backends: int) -> int:
    """Slots of the Maglev table of so many backends.  Raises PlanError above 10,000."""
    for size in SIZES:
        if size > 100 * backends:
            return size
    raise PlanError(f"{backends} backends in one set, expected at most {SIZES[-1] // 100}")


def maglev_table(names: Sequence[str], ids: Sequence[int], size: int) -> "array[int]":
    """Lookup table for consistent hashing.

    names: one per backend, the same on every node; order does not matter.   ids: what the table holds for each.
    size: prime, > 100 * len(names).   Returns `size` ids, uint32.   Raises PlanError when `names` is empty.
    Source: Eisenbud et al., "Maglev", NSDI 2016, section 3.4.
    """
    if not names:
        raise PlanError("a table of no backends")
    table = array("I", bytes(4 * size))
    order = sorted(range(len(names)), key=names.__getitem__)
    permutations = [_permutation(names[index], size) for index in order]
    (_compiled() or _in_python)(permutations, [ids[index] for index in order], table)
    return table


def _in_python(permutations: Sequence[tuple[int, int]], ids: Sequence[int], table: "array[int]") -> None:
    """Each backend in turn takes the next free slot of its own permutation."""
    size, free = len(table), [1] * len(table)
    walks = [
        (filter(free.__getitem__, map(size.__rmod__, count(*each))).__next__, number)
        for each, number in zip(permutations, ids, strict=True)
    ]
    for (walk, number), _ in zip(cycle(walks), range(size), strict=False):
        slot = walk()
        table[slot] = number
        free[slot] = 0


@cache
def _compiled() -> Callable[[Sequence[tuple[int, int]], Sequence[int], "array[int]"], None] | None:
    """The same in C, ten times as fast, where `deploy/setup` compiled it."""
    try:
        run = ctypes.CDLL(str(Path(__file__).with_name("libmaglev.so"))).maglev
    except OSError:
        return None

    def fill(permutations: Sequence[tuple[int, int]], ids: Sequence[int], table: "array[int]") -> None:
        numbers = ctypes.c_uint32 * len(ids)
        at, step = (numbers(*part) for part in zip(*permutations, strict=True))
        run(at, step, numbers(*ids), len(ids), len(table), (ctypes.c_uint32 * len(table)).from_buffer(table))

    return fill


def round_robin_table(names: Sequence[str], ids: Sequence[int]) -> "array[int]":
    """Each backend once, by name.  Raises PlanError when `names` is empty."""
    if not names:
        raise PlanError("a table of no backends")
    return array("I", (ids[index] for index in sorted(range(len(names)), key=names.__getitem__)))


def _permutation(name: str, size: int) -> tuple[int, int]:
    digest = blake2b(name.encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little") % size, int.from_bytes(digest[8:], "little") % (size - 1) + 1
