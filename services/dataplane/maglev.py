"""Lookup tables: consistent hashing by Maglev, and round robin."""

from array import array
from collections.abc import Sequence
from hashlib import blake2b
from itertools import count, cycle

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
    free = [1] * size
    # Each takes the next free slot of its own permutation in turn; the walk past taken ones runs in C.
    walks = [
        (filter(free.__getitem__, map(size.__rmod__, count(*_permutation(names[index], size)))).__next__, ids[index])
        for index in sorted(range(len(names)), key=names.__getitem__)
    ]
    for (walk, backend), _ in zip(cycle(walks), range(size), strict=False):
        slot = walk()
        table[slot] = backend
        free[slot] = 0
    return table


def round_robin_table(names: Sequence[str], ids: Sequence[int]) -> "array[int]":
    """Each backend once, by name.  Raises PlanError when `names` is empty."""
    if not names:
        raise PlanError("a table of no backends")
    return array("I", (ids[index] for index in sorted(range(len(names)), key=names.__getitem__)))


def _permutation(name: str, size: int) -> tuple[int, int]:
    digest = blake2b(name.encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little") % size, int.from_bytes(digest[8:], "little") % (size - 1) + 1
