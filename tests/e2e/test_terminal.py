"""`weir up` at a terminal: it says that it is ready and that it stopped, in plain words, and a second signal changes nothing."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.own import own
from weir.demo.network import wait_until
from weir.demo.stage import Stage, stage

LOGGED = "\x1b[2m20"  # a time, dim


@pytest.fixture
def found() -> Iterator[Stage]:
    if os.geteuid():
        pytest.skip("namespaces and BPF need root")
    with stage(own("weirtty"), fast=True) as made:
        yield made


def test_up_says_that_it_is_ready_and_that_it_stopped(found: Stage) -> None:
    shown = found.folder / "terminal"
    command = f"{sys.executable} -m weir.cli up -f shop/ -i front -i back --instance {found.where.instance}"
    env = {name: value for name, value in os.environ.items() if name != "WEIR_LOG"}
    null = subprocess.DEVNULL
    terminal = found.network.popen(
        "lb", "script", "-qefc", command, str(shown), cwd=found.folder, env=env, stdin=null, stdout=null, stderr=null
    )
    assert wait_until(lambda: shown.exists() and "ready: " in shown.read_text(), 60), shown.read_text()
    up = found.pids()["up"]
    completing = os.environ | {"WEIR_INSTANCE": found.where.instance, "_WEIR_COMPLETE": "complete_bash", "COMP_CWORD": "3"}
    for words, offered in (("weir get svc ", "shop/web"), ("weir describe pools pu", "public"), ("weir get lb s", "shop/web")):
        done = found.network.run("lb", str(Path(sys.executable).with_name("weir")), env=completing | {"COMP_WORDS": words})
        assert done.stdout.split() == [offered], words
    os.kill(up, signal.SIGINT)
    os.kill(up, signal.SIGTERM)
    assert terminal.wait(20) == 0
    lines = [line for line in shown.read_text().splitlines() if line and not line.startswith(("Script ", "["))]
    logged = [
        line for line in lines if line.startswith(LOGGED)
    ]  # a warning may come while NATS and the log come up: who is first, is chance
    print(*logged, sep="\n")
    assert not [line for line in logged if "error" in line]
    assert [line for line in lines if line not in logged] == [
        "starting: loading the packet path",
        "ready: 1 Service, 2 VIPs, 3 backends",
        f"stopped; the kernel keeps forwarding; weir down --instance {found.where.instance} removes the packet path",
    ]
    found.network.run("client", "curl", "-sS", "--max-time", "2", "http://203.0.113.10/")
