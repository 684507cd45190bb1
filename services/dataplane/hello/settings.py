"""The settings of the hello process."""

from collections.abc import Callable
from typing import Annotated

from services.dataplane.load.interfaces import listed
from weir.service.settings import Common, Option


def _within(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isdecimal() and least <= int(text) <= most):
            raise ValueError(f"got {text!r}, expected a number from {least} to {most}")
        return int(text)

    return read


class Settings(Common, frozen=True, kw_only=True):
    """interface: as the agent has them.   A node is dead when nothing was heard of it for interval_ms * multiplier."""

    interface: Annotated[
        tuple[str, ...], Option("an interface that VIPs are announced on: NAME, NAME=HOOK or PREFIX*; may be repeated", read=listed)
    ] = ()
    interval_ms: Annotated[int, Option("time between two hellos, in ms", read=_within(10, 10_000))] = 100
    multiplier: Annotated[int, Option("hellos that may be missed", read=_within(2, 50))] = 3
    key: Annotated[str, Option("file with the secret that all LB nodes of a log share", metavar="FILE")] = ""
