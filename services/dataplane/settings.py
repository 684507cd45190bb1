"""The settings of this node's agent."""

from typing import Annotated, Literal

from services.dataplane.load.interfaces import listed
from weir.service.settings import Common, Option

Hook = Literal["auto", "tc", "xdp", "xdp-generic"]


class Settings(Common, frozen=True, kw_only=True):
    """interface, hook: as the loader attached them."""

    interface: Annotated[
        tuple[str, ...], Option("an interface that packets arrive on: NAME, NAME=HOOK or PREFIX*; may be repeated", read=listed)
    ] = ()
    hook: Annotated[Hook, Option("the hook of interfaces that name none")] = "tc"
