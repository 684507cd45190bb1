"""Which addresses belong to whom.  Author: ipam."""

from typing import ClassVar

from weir.events.base import Event
from weir.model import Family, Root, Share


class _Vip(Event, frozen=True, kw_only=True):
    """An event about one VIP: allocated, released, freed follow one another on one subject."""

    author: ClassVar[str] = "ipam"
    kind: ClassVar[str] = "vip"
    vip: str
    pool: str
    holders: tuple[str, ...]  # owners, such as "Service/shop/web"; the first is the oldest
    root: Root

    def entity(self) -> tuple[str, str]:
        return "", self.vip


class VipAllocated(_Vip, frozen=True, kw_only=True, tag="vip_allocated"):
    """The VIP belongs to `holders`."""

    share_key: str = ""
    orphaned: bool = False  # its pool does not offer it any more; it stays until its Services let go
    share: Share = "key"  # as the pool has it; "ports" holds on for those who stand on it together
    in_use_by: str = ""  # whose address it is besides, in words, such as "LB node lb-1's own address"
    shared_with_node: bool = False  # it is an LB node's own, and its pool shares those by ports


class VipReleased(_Vip, frozen=True, kw_only=True, tag="vip_released"):
    """Nobody holds the VIP any more, but nodes may still forward for it: it must not be given on yet."""


class VipFreed(_Vip, frozen=True, kw_only=True, tag="vip_freed"):
    """Every node has let go of the VIP: it may be given on."""

    gone: ClassVar[bool] = True


class VipDenied(Event, frozen=True, kw_only=True, tag="vip_denied"):
    """A Service waits for an address of `family`; `since` is the sequence at which it began, the oldest is served first."""

    author: ClassVar[str] = "ipam"
    kind: ClassVar[str] = "claim"
    owner: str  # "Service/shop/web"
    family: Family
    reason: str  # CamelCase, as a condition's
    message: str
    holders: tuple[str, ...]  # owners of what was requested; at most ten
    since: int
    root: Root

    def entity(self) -> tuple[str, str]:
        return self.root.space, f"{self.root.kind}:{self.root.name}:{self.family}"


class ClaimSettled(Event, frozen=True, kw_only=True, tag="claim_settled"):
    """The Service waits no more: served, or withdrawn."""

    author: ClassVar[str] = "ipam"
    kind: ClassVar[str] = "claim"
    gone: ClassVar[bool] = True
    owner: str  # "Service/shop/web"
    family: Family
    root: Root

    def entity(self) -> tuple[str, str]:
        return self.root.space, f"{self.root.kind}:{self.root.name}:{self.family}"
