"""What a pool offers, whom it serves, and which of its addresses is the first that is free.

Taken addresses are counted by aligned blocks, so that a full block costs one look whatever the size of the pool.
"""

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from weir.events import PoolObserved
from weir.model import Address, Family
from weir.ranges import Range, ranges_of

BLOCKS: Final = (8, 4)  # sizes looked at, as powers of two: the last octet, and a sixteenth of it

_LAST_OCTET: Final = 0xFF


def ranges(pool: PoolObserved, family: Family) -> Iterator[Range]:
    """Those of one family."""
    return (found for found in ranges_of(pool.addresses) if found.family == family)


def offers(pool: PoolObserved, address: Address) -> bool:
    """Whether the address lies in the pool."""
    number, family = int(address), _family(address)
    return any(found.family == family and found.first <= number <= found.last for found in ranges_of(pool.addresses))


def blocks_of(address: Address) -> tuple[str, ...]:
    """The words under which a taken address is counted: itself, and its blocks with and without those that are avoided."""
    number, version = int(address), address.version
    plain = () if _is_buggy(version, number) else tuple(_word(version, number, bits, plain=True) for bits in BLOCKS)
    return (*(_word(version, number, bits) for bits in (*BLOCKS, 0)), *plain)


def first_free(pool: PoolObserved, family: Family, count: Callable[[str], int]) -> Address | None:
    """The first address of the pool that is not taken.  count: how many addresses are taken under a word of `blocks_of`."""
    make = IPv4Address if family == "IPv4" else IPv6Address
    version = 4 if family == "IPv4" else 6
    for found in ranges(pool, family):
        number = found.drawn
        while number <= found.last:
            step = _step(version, number, found.last, count, avoid=pool.avoid_buggy_ips)
            if not step:
                return make(number)
            number += step
    return None


def first_addresses(pool: PoolObserved, family: Family, most: int) -> Iterator[Address]:
    """The first addresses that the pool gives where none is requested, at most `most`."""
    make = IPv4Address if family == "IPv4" else IPv6Address
    for found in ranges(pool, family):
        for number in range(found.drawn, min(found.last, found.drawn + most) + 1):
            address = make(number)
            if not (pool.avoid_buggy_ips and _is_buggy(address.version, number)):
                yield address
                most -= 1
            if not most:
                return


def _step(version: int, number: int, last: int, count: Callable[[str], int], *, avoid: bool) -> int:
    """How far on the next address is that may be free; 0 where this one is."""
    for bits in BLOCKS:
        size = 1 << bits
        if not number % size and number + size - 1 <= last:
            room = size - _buggy_in(version, number, size) if avoid else size
            if count(_word(version, number, bits, plain=avoid)) == room:
                return size
    return 1 if count(_word(version, number, 0)) or (avoid and _is_buggy(version, number)) else 0


def _family(address: Address) -> Family:
    return "IPv4" if address.version == 4 else "IPv6"


def _word(version: int, number: int, bits: int, *, plain: bool = False) -> str:
    return f"{version}:{number >> bits:x}/{bits}{'p' if plain else ''}"


def _is_buggy(version: int, number: int) -> bool:
    """Ends in .0 or .255: some old equipment takes these for network and broadcast addresses."""
    return version == 4 and number & _LAST_OCTET in (0, _LAST_OCTET)


def _buggy_in(version: int, number: int, size: int) -> int:
    """How many of the `size` addresses from `number` end so; the block is aligned and no larger than 256."""
    return sum(_is_buggy(version, end) for end in {number, number + size - 1})
