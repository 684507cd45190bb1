"""`pytest tests/planner --update-golden` rewrites what the golden cases expect; review reads the diff."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite testdata/*.out.yaml")
