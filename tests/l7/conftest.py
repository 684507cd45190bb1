"""Tests with a real Envoy run in a network namespace of their own, so that addresses and ports are theirs alone."""

import os
from collections.abc import Iterator

import pytest

from services.dataplane.l7.judge import NoEnvoy, envoy_binary
from tests.dataplane.lab import inside, namespace, sh


def missing_envoy() -> str:
    try:
        envoy_binary()
    except NoEnvoy as error:
        return str(error)
    return ""


@pytest.fixture
def loopback() -> Iterator[None]:
    """This thread is in a namespace that has the loopback only."""
    if os.geteuid() or missing_envoy():
        pytest.skip(missing_envoy() or "needs root")
    name = f"wl-{os.getpid()}"
    with namespace(name), inside(name):
        sh("ip link set lo up")
        yield
