"""Sizes, ages and timeouts on the command line."""

import re
from collections.abc import Callable
from typing import Annotated, Any

import typer

_LEAST_SIZE_BYTES, _LEAST_AGE_S = 1 << 20, 3600
_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40, "s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_size(text: str) -> int:
    """Bytes of "512MiB", "2GiB".  Raises typer.BadParameter."""
    return _parse(text, r"(\d+)(KiB|MiB|GiB|TiB)", "a size of at least 1MiB such as 512MiB or 2GiB", _LEAST_SIZE_BYTES)


def parse_age(text: str) -> int:
    """Seconds of "7d", "12h", "90m".  Raises typer.BadParameter."""
    return _parse(text, r"(\d+)([mhd])", "an age of at least 1h such as 7d, 12h or 90m", _LEAST_AGE_S)


def parse_timeout(text: str) -> int:
    """Seconds of "30s", "5m".  Raises typer.BadParameter."""
    return _parse(text, r"(\d+)([sm])", "a time as in 30s or 5m", 0)


def _parse(text: str, form: str, expected: str, least: int) -> int:
    found = re.fullmatch(form, text)
    value = int(found[1]) * _UNITS[found[2]] if found else -1
    if value < least:
        raise typer.BadParameter(f"got {text!r}, expected {expected}")
    return value


def _option(name: str, parser: Callable[[str], int], metavar: str, text: str) -> Any:
    return typer.Option(name, parser=parser, metavar=metavar, help=text, show_default=False)


Size = Annotated[int | None, _option("--size", parse_size, "SIZE", "Maximum size, such as 2GiB.")]
Age = Annotated[int | None, _option("--age", parse_age, "AGE", "Maximum age of events, such as 7d or 12h.")]
LogSize = Annotated[int | None, _option("--log-size", parse_size, "SIZE", "Maximum size of the log; 1GiB when it is created.")]
LogAge = Annotated[int | None, _option("--log-age", parse_age, "AGE", "Maximum age of its events; 30d when it is created.")]
Timeout = Annotated[int, _option("--timeout", parse_timeout, "TIME", "How long to wait for NATS, as in 30s or 5m; not at all by default.")]
