"""What came of a load: every attempt counted once, as good or as failed, and the first failures verbatim."""

import datetime
import errno
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import msgspec

MOST_ERRORS = 20


class Counts(msgspec.Struct, kw_only=True):
    """One kind of traffic.  Once the load has ended, sent = good + failed; a flow fails once, with the line it broke on."""

    sent: int = 0  # requests, lines, datagrams
    good: int = 0
    failed: int = 0
    misdirected: int = 0  # of the good: from another backend than the same connection or flow had before
    open: int = 0  # flows, kept connections or UDP sockets whose last attempt was good
    by_fault: dict[str, int] = {}  # refused, reset, closed, timeout, wrong, or the name of the errno
    by_backend: dict[str, int] = {}
    slowest_ms: int = 0  # of the good
    longest_gap_ms: int = 0  # without any good one


class Error(msgspec.Struct, kw_only=True):
    """One failure, verbatim."""

    at: str  # UTC
    elapsed_ms: int
    what: str


class Report(msgspec.Struct, kw_only=True):
    """All counts since the start."""

    elapsed_ms: int = 0
    lag_ms: int = 0  # how late the load itself was at worst: gaps of that size are its own
    http: Counts = msgspec.field(default_factory=Counts)
    flows: Counts = msgspec.field(default_factory=Counts)
    udp: Counts = msgspec.field(default_factory=Counts)
    errors: list[Error] = []  # the first ones

    @property
    def lost(self) -> int:
        """Failed requests, lost flows and datagrams, and replies from a wrong backend."""
        return sum(counts.failed + counts.misdirected for counts in (self.http, self.flows, self.udp))


class Wrong(Exception):
    """An answer that is not the one asked for."""


class Asked(Protocol):
    """Whom an attempt goes to.  `backend` is "" until there was a good reply, and again after a failure."""

    backend: str

    def fail(self) -> None: ...


class Tally:
    """Counts the attempts of one kind of traffic into a report."""

    def __init__(self, name: str, report: Report, counts: Counts) -> None:
        self._name, self._report, self._counts = name, report, counts
        self._started_s = self._good_at_s = time.monotonic()

    @contextmanager
    def attempt(self, asked: Asked) -> Iterator[None]:
        """Counts the block as one attempt.  The block sets `asked.backend`; a failure ends here."""
        before_s, backend = time.monotonic(), asked.backend
        self._counts.sent += 1
        try:
            yield
        except (OSError, EOFError, Wrong) as error:  # TimeoutError is an OSError
            self._failed(asked, error, backend)
        else:
            self._good(asked, before_s, backend)

    def left(self) -> None:
        """A stream whose last attempt was good is open no more, by our own will."""
        self._counts.open -= 1

    def gap(self) -> None:
        """Brings `longest_gap_ms` up to date with the silence until now."""
        if self._counts.sent:
            self._counts.longest_gap_ms = max(self._counts.longest_gap_ms, ms(time.monotonic() - self._good_at_s))

    def _good(self, asked: Asked, before_s: float, backend: str) -> None:
        self.gap()
        self._good_at_s = time.monotonic()
        self._counts.good += 1
        self._counts.open += not backend
        self._counts.slowest_ms = max(self._counts.slowest_ms, ms(self._good_at_s - before_s))
        _add(self._counts.by_backend, asked.backend)
        if backend and backend != asked.backend:
            self._counts.misdirected += 1
            self._note(asked, f"answered by {asked.backend}, before by {backend}")

    def _failed(self, asked: Asked, error: Exception, backend: str) -> None:
        self._counts.failed += 1
        self._counts.open -= bool(backend)
        _add(self._counts.by_fault, _fault(error))
        self._note(asked, f"{type(error).__name__}: {error}")
        asked.fail()

    def _note(self, asked: Asked, text: str) -> None:
        if len(self._report.errors) < MOST_ERRORS:
            at = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
            elapsed_ms = ms(time.monotonic() - self._started_s)
            self._report.errors.append(Error(at=at, elapsed_ms=elapsed_ms, what=f"{self._name}: {asked}: {text}"))


def ms(seconds: float) -> int:
    return round(seconds * 1000)


def _add(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1


def _fault(error: Exception) -> str:
    match error:
        case ConnectionRefusedError():
            return "refused"
        case ConnectionResetError():
            return "reset"
        case EOFError():
            return "closed"
        case TimeoutError():
            return "timeout"
        case OSError(errno=int(number)):
            return errno.errorcode.get(number, str(number))
    return "wrong"
