"""Identity of a log: an id made with it, and a branch for each restore since.

Both are metadata of the stream WEIR.  A node keeps them beside its plan, so that another log, or an older copy of the same one, is
never taken for the log that the plan came from, however long it has grown.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

_LOG: Final = "weir-log"
_BRANCHES: Final = "weir-branches"

Kinship = Literal["same", "older copy", "another log"]


class Branch(msgspec.Struct, frozen=True, array_like=True):
    """A restore.  at: the last sequence that it has in common with the log that it was made from."""

    name: str
    at: int


class Identity(msgspec.Struct, frozen=True, omit_defaults=True):
    """log: letters and digits, made once.   branches: oldest first."""

    log: str = "0"
    branches: tuple[Branch, ...] = ()

    def branched(self, name: str, at: int) -> "Identity":
        """Return the identity of a copy that shares the log up to `at`."""
        return Identity(self.log, (*self.branches, Branch(name, at)))

    def metadata(self) -> dict[str, str]:
        """Return the identity as metadata of the stream."""
        return {_LOG: self.log, _BRANCHES: msgspec.json.encode(self.branches).decode()}


def identity_of(config: Mapping[str, Any]) -> Identity:
    """Return the identity of the stream with this configuration."""
    metadata: Mapping[str, str] = config.get("metadata") or {}
    branches = msgspec.json.decode(metadata.get(_BRANCHES, "[]"), type=tuple[Branch, ...])
    return Identity(metadata.get(_LOG, "0"), branches)


def kinship(known: Identity, position: int, found: Identity, head: int) -> Kinship:
    """Compare a log that is at `head` with one that was known up to `position`.

    "same": it has all that was known.   "older copy": a part of it.   "another log": it never had any.
    """
    if known.log != found.log:
        return "another log"
    together = 0
    for mine, theirs in zip(known.branches, found.branches, strict=False):
        if mine != theirs:
            break
        together += 1
    apart = [branch.at for branches in (known.branches, found.branches) for branch in branches[together : together + 1]]
    return "same" if position <= min([head, *apart]) else "older copy"
