"""A network interface as the loader and the agent need it, read with ioctl and from /proc.

/proc and sockets follow the network namespace of the caller, sysfs does not: hence no /sys/class/net here.
"""

import ctypes
import fcntl
import socket
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

_SIOCGIFADDR, _SIOCGIFHWADDR = 0x8915, 0x8927
_SIOCETHTOOL, _GET_DRIVER = 0x8946, 3  # struct ethtool_drvinfo: its second field is the driver's name
_ETHERNET = (1, 772)  # ARPHRD_ETHER, ARPHRD_LOOPBACK: both have Ethernet headers
_NO_V4, _NO_V6 = "0.0.0.0", "::"  # noqa: S104


class NicError(Exception):
    """The interface cannot be used."""


@dataclass(frozen=True, slots=True)
class Nic:
    """v4, v6: its first global address, or unspecified."""

    name: str
    index: int
    mac: bytes
    v4: str
    v6: str


def nic(name: str, v6: Mapping[str, str] | None = None) -> Nic:
    """Read the interface `name` of this network namespace.   v6: the first global address of each, where known.  Raises NicError."""
    try:
        index = socket.if_nametoindex(name)
    except OSError as error:
        raise NicError(f"no interface {name!r}") from error
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as via:
        try:
            kind, mac = struct.unpack("=16xH6s8x", _ask(via, _SIOCGIFHWADDR, name))
        except OSError as error:
            raise NicError(f"interface {name!r} was removed") from error
        if kind not in _ETHERNET:
            raise NicError(f"{name} has no Ethernet header (type {kind})")
        try:
            v4 = socket.inet_ntoa(_ask(via, _SIOCGIFADDR, name)[20:24])
        except OSError:
            v4 = _NO_V4
    return Nic(name, index, mac, v4, (_global_v6() if v6 is None else v6).get(name, _NO_V6))


def is_pattern(name: str) -> bool:
    """Return whether `name` is a prefix, such as `cali*`: interfaces of pods come and go."""
    return name.endswith("*")


def matching(patterns: Sequence[str], named: Sequence[Nic]) -> list[Nic]:
    """Return the interfaces that match `patterns`, without `named`.

    Those of pods often have no address: then they use the first address among `named`, as the kernel does.
    """
    beginnings = tuple(pattern.removesuffix("*") for pattern in patterns)
    taken = {each.index for each in named}  # an alternative name is the same interface
    v4 = next((each.v4 for each in named if each.v4 != _NO_V4), _NO_V4)
    v6 = next((each.v6 for each in named if each.v6 != _NO_V6), _NO_V6)
    every_v6 = _global_v6()
    found = []
    for index, name in sorted(socket.if_nameindex()):
        if name.startswith(beginnings) and index not in taken:
            with suppress(NicError):  # removed meanwhile, or without an Ethernet header
                each = nic(name, every_v6)
                found.append(replace(each, v4=each.v4 if each.v4 != _NO_V4 else v4, v6=each.v6 if each.v6 != _NO_V6 else v6))
    return found


def driver(name: str) -> str:
    """Return the driver of the interface, "" where it has none."""
    info = ctypes.create_string_buffer(struct.pack("=I", _GET_DRIVER), 196)
    request = struct.pack("=16sQ16x", name.encode(), ctypes.addressof(info))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as via:
        try:
            fcntl.ioctl(via, _SIOCETHTOOL, request)
        except OSError:
            return ""
    return info.raw[4:36].rstrip(b"\0").decode(errors="replace")


def listed(text: str) -> list[str]:
    """Split the value of an option: names or NAME=HOOK, separated by commas, since a manifest gives it once."""
    return text.split(",")


def _ask(via: socket.socket, request: int, name: str) -> bytes:
    return fcntl.ioctl(via, request, struct.pack("=16s16x", name.encode()))


def _global_v6() -> dict[str, str]:
    """Return the first global IPv6 address of each interface that has one."""
    found: dict[str, str] = {}
    try:
        lines = Path("/proc/thread-self/net/if_inet6").read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return found
    for address, _, _, scope, _, device in map(str.split, lines):
        if scope == "00" and device not in found:
            found[device] = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(address))
    return found
