"""The base of the values that views return."""

from datetime import UTC, datetime

import msgspec


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all views: immutable, every field has a type, and nothing is left out because it is a default."""


def when(time_ns: int) -> datetime:
    """The time in UTC, rounded down to a microsecond: rounded up, the log at that time would hold later events."""
    seconds, rest_ns = divmod(time_ns, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest_ns // 1000)
