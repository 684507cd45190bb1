"""A hello as it is on the wire: an Ethernet frame of its own type, authenticated with the group's key.

It stays on the link, where ARP and NDP work, needs no address, and no host beyond a router can send one.  `bpf/lib/announce.h`
reads magic and group.
"""

import hmac
from hashlib import blake2b, sha256
from struct import Struct, error
from typing import NamedTuple

ETHER_TYPE = 0x88B5  # for local experiments (IEEE 802)
GROUP_MAC = bytes.fromhex("035745495200")  # a multicast address, administered locally
_MAGIC = b"WEIRHI\0\1"  # the last byte is the version
_HEAD = Struct("<8s8sQQQHBBB3x")
_NAME = Struct("<Q")
_MAC_SIZE = 16
_READY, _TAKEN = 1, 2
HEARD_MOST = 100


class Hello(NamedTuple):
    """What one node says.

    group: 8 bytes.   sender: `number_of` its name.   sequence: grows with each hello of a node, as long as the machine is up.
    orders: the newest event of the log by which it knows who announces what.
    interval_ms, multiplier: it is dead when nothing was heard for their product.   ready: it may announce VIPs.
    taken: it has taken VIPs over, and the log may not know of it yet.
    heard: numbers of the nodes that it hears.
    """

    group: bytes
    sender: int
    sequence: int
    orders: int
    interval_ms: int
    multiplier: int
    ready: bool
    taken: bool
    heard: frozenset[int]


def number_of(node: str) -> int:
    """A node's name as hellos have it."""
    return int.from_bytes(blake2b(node.encode(), digest_size=8).digest(), "little")


def encode(hello: Hello, key: bytes) -> bytes:
    """Make the payload of a frame."""
    heard = sorted(hello.heard)[:HEARD_MOST]
    flags = (_READY if hello.ready else 0) | (_TAKEN if hello.taken else 0)
    fields = (hello.group, hello.sender, hello.sequence, hello.orders, hello.interval_ms, hello.multiplier, flags, len(heard))
    body = _HEAD.pack(_MAGIC, *fields) + b"".join(map(_NAME.pack, heard))
    return body + _sum(body, key)


def decode(payload: bytes, key: bytes) -> Hello | None:
    """Read the payload of a frame, which may be padded; None for what is no hello, or not of this key."""
    try:
        magic, group, sender, sequence, orders, interval_ms, multiplier, flags, count = _HEAD.unpack_from(payload)
    except error:
        return None
    size = _HEAD.size + count * _NAME.size
    body, summed = payload[:size], payload[size : size + _MAC_SIZE]
    if magic != _MAGIC or not interval_ms or not multiplier or not hmac.compare_digest(summed, _sum(body, key)):
        return None
    heard = frozenset(number for (number,) in _NAME.iter_unpack(body[_HEAD.size :]))
    return Hello(group, sender, sequence, orders, interval_ms, multiplier, bool(flags & _READY), bool(flags & _TAKEN), heard)


def frame(payload: bytes, mac: bytes) -> bytes:
    """Return the whole frame that an interface with this MAC sends."""
    return GROUP_MAC + mac + ETHER_TYPE.to_bytes(2, "big") + payload


def _sum(body: bytes, key: bytes) -> bytes:
    return hmac.new(key, body, sha256).digest()[:_MAC_SIZE]
