"""Moments as people write them, read against a fixed clock."""

from datetime import UTC, datetime

import pytest

from weir.view.moments import MomentError, parse

NOW = datetime(2026, 11, 29, 14, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4206", 4206),
        ("13:03", datetime(2026, 11, 29, 13, 3, tzinfo=UTC)),
        ("14:03", datetime(2026, 11, 28, 14, 3, tzinfo=UTC)),
        ("14:00:30", NOW),
        ("2026-11-24", datetime(2026, 11, 24, tzinfo=UTC)),
        ("2026-11-24T14:03", datetime(2026, 11, 24, 14, 3, tzinfo=UTC)),
        ("2026-11-24 14:03:07", datetime(2026, 11, 24, 14, 3, 7, tzinfo=UTC)),
        ("2026-11-24T14:03+01:00", datetime(2026, 11, 24, 13, 3, tzinfo=UTC)),
        ("2026-11-24T14:03Z", datetime(2026, 11, 24, 14, 3, tzinfo=UTC)),
        ("-15m", datetime(2026, 11, 29, 13, 45, 30, tzinfo=UTC)),
        ("15m", datetime(2026, 11, 29, 13, 45, 30, tzinfo=UTC)),
        ("15m ago", datetime(2026, 11, 29, 13, 45, 30, tzinfo=UTC)),
        ("1h30m", datetime(2026, 11, 29, 12, 30, 30, tzinfo=UTC)),
        ("2d", datetime(2026, 11, 27, 14, 0, 30, tzinfo=UTC)),
    ],
)
def test_moment_is_a_sequence_a_time_or_an_age(text: str, expected: int | datetime) -> None:
    assert parse(text, NOW) == expected


@pytest.mark.parametrize("text", ["yesterday", "25:00", "2026-13-01", "1w", "m", "-", "ago", "1h ago ago", "-3", "²", ""])
def test_what_names_no_moment_is_refused_with_what_is_expected(text: str) -> None:
    with pytest.raises(MomentError, match=r"invalid time .*: expected a sequence \(4206\), a UTC time"):
        parse(text, NOW)


def test_age_beyond_any_log_is_no_overflow() -> None:
    assert isinstance(parse("9" * 30 + "d", NOW), datetime)
