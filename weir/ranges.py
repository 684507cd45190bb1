"""Ranges of addresses, as numbers."""

from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import NamedTuple

from weir.model.address import Family, begins_with_anycast


class Range(NamedTuple):
    """`first`-`last` as numbers, both included.  drawn: the first address that is allocated without being requested."""

    family: Family
    first: int
    last: int
    drawn: int


@lru_cache(maxsize=1024)
def ranges_of(addresses: tuple[str, ...]) -> tuple[Range, ...]:
    """Parse the addresses of a pool, in the order written; host bits are ignored."""
    return tuple(map(_range, addresses))


def _range(text: str) -> Range:
    first, dash, last = text.partition("-")
    network = None if dash else ip_network(text, strict=False)
    low, high = (network[0], network[-1]) if network else (ip_address(first), ip_address(last))
    family: Family = "IPv4" if low.version == 4 else "IPv6"
    return Range(family, int(low), int(high), int(low) + (network is not None and begins_with_anycast(network)))
