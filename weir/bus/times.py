"""Times as JetStream writes them."""

from datetime import datetime

_NS = 1_000_000_000


def unix_ns(text: str) -> int:
    """Return nanoseconds since 1970 of a UTC time, "2026-01-01T00:00:00.123456789Z"."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole + "+00:00").timestamp())
    return seconds * _NS + int(fraction.ljust(9, "0")[:9])


def seconds_of(text: str) -> float:
    """Return whole seconds since 1970 of a UTC time."""
    return unix_ns(text) // _NS
