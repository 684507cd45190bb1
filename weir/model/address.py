"""IP addresses and families.  Addresses travel as canonical text."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

Family = str
FAMILIES: Final = ("IPv4", "IPv6")
Address = IPv4Address | IPv6Address


def family_of(address: str) -> Family:
    """The IP family of a canonical address."""
    return "IPv6" if ":" in address else "IPv4"


def families_of(addresses: Iterable[str]) -> list[Family]:
    """Of addresses or CIDRs, sorted."""
    return sorted({family_of(address) for address in addresses})


def endpoint_name(address: str, port: int, protocol: str) -> str:
    """`10.0.0.1:80/TCP`, `[fd00::1]:80/TCP`: how a frontend or backend is named everywhere."""
    return f"[{address}]:{port}/{protocol}" if ":" in address else f"{address}:{port}/{protocol}"


def parse_address(text: str) -> Address | None:
    """The address in `text`, or None where it is none; zones (`fe80::1%eth0`) and IPv4-mapped forms are none."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and (address.scope_id or address.ipv4_mapped):
        return None
    return address


def begins_with_anycast(network: IPv4Network | IPv6Network) -> bool:
    """Whether its first address is the anycast address of the routers of an IPv6 subnet (RFC 4291 2.6.1; not of a /127, RFC 6164)."""
    return network.version == 6 and network.prefixlen < 127
