"""Ranges of addresses, and where they meet."""

from bisect import bisect_right, insort
from collections.abc import Iterator
from ipaddress import ip_network
from typing import NamedTuple

from weir.model import Address, begins_with_anycast, parse_address


class Range(NamedTuple):
    """`first`-`last`, both included."""

    text: str  # canonical
    first: Address
    last: Address
    owner: str = ""


class Ranges:
    """Ranges that do not meet one another: finding those that meet another takes the logarithm of their number."""

    def __init__(self) -> None:
        self._sorted: list[Range] = []

    def meeting(self, found: Range) -> Iterator[Range]:
        """Yield the ranges that share an address with `found`, the highest first."""
        for i in reversed(range(bisect_right(self._sorted, _place(found.last), key=_start))):
            other = self._sorted[i]
            if _place(other.last) < _place(found.first):
                return
            yield other

    def add(self, found: Range) -> None:
        """Add a range that meets none of the others."""
        insort(self._sorted, found, key=_start)

    def drop(self, owner: str) -> None:
        """Remove all ranges of `owner`."""
        self._sorted = [found for found in self._sorted if found.owner != owner]


def range_of(text: str, owner: str = "") -> Range | None:
    """The range that a CIDR or `first-last` stands for; None where `text` is neither."""
    start, dash, end = (part.strip() for part in text.partition("-"))
    if dash:
        first, last = parse_address(start), parse_address(end)
        if not first or not last or first.version != last.version or int(first) > int(last):
            return None
        return Range(f"{first}-{last}", first, last, owner)
    if not parse_address(start.partition("/")[0]):
        return None
    try:
        network = ip_network(start, strict=False)
    except ValueError:
        return None
    return Range(str(network), network[0], network[-1], owner)


def anycast(found: Range) -> str:
    """The address that a CIDR of IPv6 begins with, which is allocated only on request; "" where there is none."""
    return str(found.first) if "/" in found.text and begins_with_anycast(ip_network(found.text)) else ""


def buggy(found: Range) -> int:
    """Count the addresses that end in .0 or .255, which `avoidBuggyIPs` allocates only on request."""
    first, last = int(found.first), int(found.last)
    return last // 256 - (first - 1) // 256 + (last + 1) // 256 - first // 256 if found.first.version == 4 else 0


def _start(found: Range) -> tuple[int, int]:
    return _place(found.first)


def _place(address: Address) -> tuple[int, int]:
    return address.version, int(address)
