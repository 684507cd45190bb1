"""Latency of a backend's last probes: least, average and most, without a clock and without keeping each."""

import msgspec

HALF = 32  # answers; a window is between one and two of these


class Delay(msgspec.Struct, frozen=True):
    """Over the last 32 to 64 good answers."""

    min_us: int
    avg_us: int
    max_us: int


class _Half(msgspec.Struct):
    count: int = 0
    sum_us: int = 0
    min_us: int = 0
    max_us: int = 0


class Delays:
    """The window of one backend: the half that fills, and the full one before it."""

    __slots__ = ("_before", "_now")

    def __init__(self) -> None:
        self._before, self._now = _Half(), _Half()

    def add(self, delay_us: int) -> None:
        """Add one answer."""
        if self._now.count == HALF:
            self._before, self._now = self._now, _Half()
        half = self._now
        half.min_us = min(half.min_us, delay_us) if half.count else delay_us
        half.max_us = max(half.max_us, delay_us)
        half.sum_us += delay_us
        half.count += 1

    def summary(self) -> Delay | None:
        """Return the latencies; None before the first answer."""
        halves = [half for half in (self._before, self._now) if half.count]
        if not halves:
            return None
        average = sum(half.sum_us for half in halves) // sum(half.count for half in halves)
        return Delay(min(half.min_us for half in halves), average, max(half.max_us for half in halves))
