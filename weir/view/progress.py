"""Progress of a long read, reported to whoever displays it.  Without a display, as in a service or a test, nothing is reported."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

Advance = Callable[[int], None]  # takes the position reached, between first and last
Display = Callable[[str, int, int], AbstractContextManager[Advance]]  # what is read, first and last position

_display = ContextVar[Display | None]("display", default=None)


@contextmanager
def displayed(display: Display) -> Iterator[None]:
    """Show the progress of every read in this context by `display`."""
    token = _display.set(display)
    try:
        yield
    finally:
        _display.reset(token)


@contextmanager
def progress(what: str, first: int, last: int) -> Iterator[Advance]:
    """Report how far a read has come: call the result with each position reached."""
    display = _display.get()
    if not display:
        yield lambda _: None
        return
    with display(what, first, last) as advance:
        yield advance
