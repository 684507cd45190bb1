"""BGP: sessions with routers, and what is told them of VIPs."""

from weir.model.value import Value


class Bfd(Value, frozen=True, kw_only=True, omit_defaults=True):
    """How soon a router that is silent is given up (RFC 5880)."""

    interval_ms: int = 300
    multiplier: int = 3


class BgpSession(Value, frozen=True, kw_only=True, omit_defaults=True):
    """A session with one router.  It has an address, or an interface (unnumbered: the router is found by its router advertisements)."""

    local_asn: int
    peer_asn: int
    address: str = ""
    interface: str = ""
    port: int = 179
    source_address: str = ""  # of packets to it; "": that of the interface they leave by
    hops: int = 1  # away, at most
    hold_s: int = 90
    keepalive_s: int = 30
    connect_s: int = 10  # between attempts
    bfd: Bfd | None = None
    password: str = ""  # the Secret that has it, as "Secret/weir/tor": the log never has the password (RFC 2385)


class BgpOffer(Value, frozen=True, kw_only=True, omit_defaults=True):
    """VIPs that a router is told, and with which attributes."""

    ranges: tuple[str, ...] = ()  # CIDRs and first-last; empty: every VIP
    nodes: tuple[str, ...] = ()  # that offer them
    length: int = 32  # of the prefix that an IPv4 VIP is told as
    length_v6: int = 128
    active_backup: bool = False  # the first node for a VIP is preferred, by MED and local preference; else all are alike (ECMP)
    local_pref: int = 100
    med: int = 0
    prepend: int = 0  # how often the own ASN is repeated in the path
    communities: tuple[str, ...] = ()  # "65000:100" (RFC 1997), "65000:1:100" (RFC 8092), or a well-known name


class SessionState(Value, frozen=True, kw_only=True, omit_defaults=True):
    """How a node's session with a router stands."""

    peer: str
    established: bool = False
    reason: str = ""  # why it is not, in the words of the routing daemon
    bfd: str = ""  # up, down, init; "": not asked for
