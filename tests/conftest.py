"""What every run of the tests has in common: the default signal dispositions, and a last line that says what was skipped.

WEIR_REQUIRE=all makes a skipped test a failed one: for machines that have all that the tests need, as tests/bare makes one.
"""

import os
import signal
from collections import defaultdict
from collections.abc import Generator, Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

REQUIRED = os.environ.get("WEIR_REQUIRE", "")
SKIPPED: defaultdict[str, list[str]] = defaultdict(list)  # by reason: node ids


if not os.environ.get("CI"):  # there Hypothesis has a profile of its own: as patient, and the same examples each time
    settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("patient")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`pytest tests/planner --update-golden` rewrites what the golden cases expect; review reads the diff."""
    parser.addoption("--update-golden", action="store_true", help="rewrite testdata/*.out.yaml")


def pytest_configure() -> None:
    """Children inherit ignored and blocked signals, and a background job of a script ignores SIGINT."""
    if REQUIRED not in ("", "all"):
        raise pytest.UsageError(f"WEIR_REQUIRE: got {REQUIRED!r}, accepted: all, or nothing")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if REQUIRED:
            report.outcome, report.longrepr = "failed", f"WEIR_REQUIRE=all: {reason}"
        else:
            SKIPPED[reason.removeprefix("Skipped: ")].append(item.nodeid)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, None, None]:
    yield
    if reporter := session.config.pluginmanager.get_plugin("terminalreporter"):
        for reason, ids in SKIPPED.items():
            suites = sorted({os.path.dirname(name.partition("::")[0]) for name in ids})
            reporter.write_line(f"not run: {len(ids)} tests of {', '.join(suites)}: {reason}", yellow=True, bold=True)


@pytest.fixture(autouse=True)
def fresh_logging() -> Iterator[None]:
    """Undo `configure_logging`: it binds loggers to the output of the test that called it, which is closed for the next."""
    yield
    structlog.reset_defaults()
