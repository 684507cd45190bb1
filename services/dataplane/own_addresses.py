"""The addresses of this machine and its default gateways, from rtnetlink (RFC 3549; linux/if_addr.h, linux/rtnetlink.h).

To follow changes, subscribe first and then read, so that none is missed; on each change everything is read again.
"""

import ctypes
import socket
import struct
from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from weir.events import NodeAddressesObserved
from weir.model import Address

_REQUEST_DUMP = 0x301  # NLM_F_REQUEST, NLM_F_ROOT, NLM_F_MATCH
_ERROR, _DONE = 2, 3  # NLMSG_ERROR, NLMSG_DONE
_NEW_ADDRESS, _GET_ADDRESS, _NEW_ROUTE, _DELETED_ROUTE, _GET_ROUTE = 20, 22, 24, 25, 26
_PEER_OR_OWN, _OWN = 1, 2  # IFA_ADDRESS, IFA_LOCAL
_GATEWAY, _MULTIPATH, _VIA = 5, 9, 18  # RTA_*
_UNICAST = 1
_GROUPS = 0x10 | 0x100 | 0x40 | 0x400  # RTMGRP_IPV4_IFADDR, IPV6_IFADDR, IPV4_ROUTE, IPV6_ROUTE
_SO_ATTACH_FILTER = 26
_KUBE_PROXY = "kube-ipvs0"  # kube-proxy puts every Service's addresses on it, VIPs too, where it uses IPVS: they are not the machine's own

_FILTER = (  # classic BPF: of a router's messages, which may be a million, only those about default routes
    *((0x28, 0, 0, 4), (0x15, 1, 0, socket.htons(_NEW_ROUTE)), (0x15, 0, 2, socket.htons(_DELETED_ROUTE))),  # nlmsg_type
    *((0x30, 0, 0, 17), (0x15, 0, 1, 0)),  # rtm_dst_len
    *((0x06, 0, 0, 0xFFFFFFFF), (0x06, 0, 0, 0)),
)


def own_addresses(node: str) -> NodeAddressesObserved:
    """Read what `node`, this machine, has now in this network namespace.  Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        families = (socket.AF_INET, socket.AF_INET6)
        addresses = [each for family in families for body in _dump(netlink, _GET_ADDRESS, family) for each in _own(body)]
        gateways = [each for family in families for body in _dump(netlink, _GET_ROUTE, family) for each in _gateways(body)]
    return NodeAddressesObserved(node=node, addresses=_listed(addresses), gateways=_listed(gateways))


def subscribe(netlink: socket.socket) -> None:
    """Make a netlink socket readable whenever `own_addresses` may have changed."""
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in _FILTER))
    netlink.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(_FILTER), ctypes.addressof(program)))
    netlink.bind((0, _GROUPS))


def _dump(netlink: socket.socket, kind: int, family: int) -> Iterator[bytes]:
    """Yield the bodies of all messages of the answer.  Raises OSError."""
    netlink.send(struct.pack("=IHHIIB3x", 20, kind, _REQUEST_DUMP, 0, 0, family))
    while True:
        data = netlink.recv(1 << 16)
        while len(data) >= 16:
            length, answer = struct.unpack_from("=IH", data)
            if answer == _DONE:
                return
            if answer == _ERROR:
                code = -struct.unpack_from("=i", data, 16)[0]
                raise OSError(code, f"reading addresses and routes through netlink (request {kind})")
            yield data[16:length]
            data = data[max(16, length + 3 & ~3) :]


def _own(body: bytes) -> Iterator[bytes]:
    """struct ifaddrmsg: the machine's own address; at the end of a point-to-point link the other one is the peer's."""
    attributes = dict(_attributes(body[8:]))
    (index,) = struct.unpack_from("=I", body, 4)
    address = attributes.get(_OWN) or attributes.get(_PEER_OR_OWN)
    if address and _name(index) != _KUBE_PROXY:
        yield address


def _gateways(body: bytes) -> Iterator[bytes]:
    """struct rtmsg: of a default route, in whatever table, its next hops."""
    family, bits, kind = body[0], body[1], body[7]
    if family in (socket.AF_INET, socket.AF_INET6) and bits == 0 and kind == _UNICAST:
        yield from _next_hops(_attributes(body[12:]))


def _next_hops(attributes: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
    for kind, value in attributes:
        if kind == _GATEWAY:
            yield value
        elif kind == _VIA:
            yield value[2:]  # an address of the other family, after its number
        elif kind == _MULTIPATH:
            while len(value) >= 8:  # struct rtnexthop
                (length,) = struct.unpack_from("=H", value)
                yield from _next_hops(_attributes(value[8:length]))
                value = value[max(8, length + 3 & ~3) :]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """struct rtattr: type and value."""
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            return
        yield kind, data[4:length]
        data = data[length + 3 & ~3 :]


def _name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:  # removed meanwhile
        return ""


def _listed(found: Iterable[bytes]) -> tuple[str, ...]:
    addresses: set[Address] = {ip_address(each) for each in found if len(each) in (4, 16)}
    offered = (each for each in addresses if not (each.is_loopback or each.is_link_local))
    return tuple(str(each) for each in sorted(offered, key=lambda each: (each.version, int(each))))
