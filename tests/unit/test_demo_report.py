"""The demo's bookkeeping: nothing that failed is counted as good, and nothing is counted twice."""

import errno

import pytest

from weir.demo.report import MOST_ERRORS, Report, Tally, Wrong


class Asked:
    def __init__(self) -> None:
        self.backend = ""

    def fail(self) -> None:
        self.backend = ""

    def __str__(self) -> str:
        return "client to vip"


@pytest.fixture
def report() -> Report:
    return Report()


@pytest.fixture
def tally(report: Report) -> Tally:
    return Tally("http", report, report.http)


def good(tally: Tally, asked: Asked, backend: str) -> None:
    with tally.attempt(asked):
        asked.backend = backend


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "refused"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), "reset"),
        (TimeoutError(), "timeout"),
        (EOFError("ended"), "closed"),
        (Wrong("500"), "wrong"),
        (OSError(errno.EHOSTUNREACH, "no route"), "EHOSTUNREACH"),
    ],
)
def test_every_fault_is_a_failure_with_its_words(report: Report, tally: Tally, error: Exception, fault: str) -> None:
    with tally.attempt(Asked()):
        raise error
    assert (report.http.sent, report.http.good, report.http.failed) == (1, 0, 1)
    assert report.http.by_fault == {fault: 1}
    assert report.lost == 1
    assert report.errors[0].what == f"http: client to vip: {type(error).__name__}: {error}"


def test_a_reply_from_another_backend_is_good_but_misdirected_once(report: Report, tally: Tally) -> None:
    asked = Asked()
    for backend in ("b1", "b1", "b2", "b2"):
        good(tally, asked, backend)
    assert (report.http.good, report.http.misdirected, report.http.open) == (4, 1, 1)
    assert report.lost == 1
    assert report.errors[0].what == "http: client to vip: answered by b2, before by b1"


def test_after_a_failure_any_backend_may_answer(report: Report, tally: Tally) -> None:
    asked = Asked()
    good(tally, asked, "b1")
    with tally.attempt(asked):
        raise TimeoutError
    good(tally, asked, "b2")
    assert (report.http.failed, report.http.misdirected, report.http.open) == (1, 0, 1)


def test_a_fault_nobody_named_is_not_swallowed(tally: Tally) -> None:
    with pytest.raises(ZeroDivisionError), tally.attempt(Asked()):
        raise ZeroDivisionError


def test_only_the_first_errors_are_kept_and_all_are_counted(report: Report, tally: Tally) -> None:
    for number in range(MOST_ERRORS + 5):
        with tally.attempt(Asked()):
            raise Wrong(str(number))
    assert report.http.failed == MOST_ERRORS + 5
    assert [error.what.rpartition(" ")[2] for error in report.errors] == [str(number) for number in range(MOST_ERRORS)]
