"""Moments, as `--at` takes them: a sequence, a UTC time, or an age; and the sequence in the log that one stands for."""

import re
from datetime import UTC, datetime, time, timedelta

from weir.bus.client import Bus
from weir.view.errors import Unanswerable
from weir.view.recording import Recording

EXPECTED = "a sequence (4206), a UTC time (14:03, 2026-11-24, 2026-11-24T14:03) or an age (15m, 1h30m, 2d)"
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_AGE = re.compile(r"-?((?:\d+[smhd])+)(?: ago)?")
_YEARS_MOST_S = 100 * 365 * 86400


class MomentError(ValueError):
    """The text names no moment.  React: report it as wrong usage."""


def parse(text: str, now: datetime) -> int | datetime:
    """Return a sequence, or a time with its zone.  A bare clock time is its last occurrence before `now`.  Raises MomentError."""
    if text.isdecimal():
        return int(text)
    if age := _AGE.fullmatch(text):
        seconds = sum(int(number) * _UNITS_S[unit] for number, unit in re.findall(r"(\d+)([smhd])", age[1]))
        return now - timedelta(seconds=min(seconds, _YEARS_MOST_S))
    try:
        return _clock_time(text, now) if re.fullmatch(r"\d\d:\d\d(:\d\d)?", text) else _zoned(datetime.fromisoformat(text))
    except ValueError as error:
        raise MomentError(f"invalid time {text!r}: expected {EXPECTED}") from error


async def sequence_of(log: Bus | Recording, moment: str) -> int:
    """Return the last sequence at a moment: a number is one; for a time, the last event before it ends."""
    return await first_since(log, moment) - 1


async def first_since(log: Bus | Recording, moment: str) -> int:
    """Return the first sequence after a sequence, or at or after a time."""
    now = datetime.now(UTC)
    try:
        found = parse(moment, now)
    except MomentError as error:
        raise Unanswerable(str(error)) from error
    if isinstance(found, int):
        return found + 1
    following = await log.since(found.isoformat().replace("+00:00", "Z"))
    # Where the log has no later event, only this machine's clock decides.
    if found > now and following > (await log.stream())["state"]["last_seq"]:
        raise Unanswerable(f"{moment} is in the future: it is {now:%Y-%m-%d %H:%M:%S} UTC")
    return following


def _clock_time(text: str, now: datetime) -> datetime:
    found = datetime.combine(now.date(), time.fromisoformat(text), UTC)
    return found if found <= now else found - timedelta(days=1)


def _zoned(found: datetime) -> datetime:
    return found if found.tzinfo else found.replace(tzinfo=UTC)
