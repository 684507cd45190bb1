"""The systemd unit: valid, and `weir up` runs with just the rights that it gives."""

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.e2e.router import Router, router
from tests.e2e.test_bgp import advertisement, peer
from tests.e2e.test_gateway import CLASS, GATEWAY_API, named
from tests.own import own
from weir.cli.box.install import UNITS, rights, unit
from weir.demo.network import wait_until
from weir.demo.stage import Stage, stage

NAME = own("weirunit")


@pytest.fixture
def found() -> Iterator[Stage]:
    if os.geteuid():
        pytest.skip("namespaces and BPF need root")
    with stage(NAME, fast=True) as made:
        yield made


def printed(*words: str) -> str:
    argv = [sys.executable, "-m", "weir.cli", "install", "--print", "--instance", NAME, *words]
    return subprocess.run(argv, check=True, text=True, capture_output=True).stdout


def exec_start(text: str) -> list[str]:
    """The unit's command line; of what systemd unescapes, these tests use only quotes."""
    return shlex.split(next(line for line in text.splitlines() if line.startswith("ExecStart=")).partition("=")[2])


@pytest.mark.parametrize(
    "words",
    [
        ("-f", "/etc/weir/my manifests", "-i", "eth0", "--", "--log-size", "2GiB"),
        ("--join", "nats://[2001:db8::1]:4222", "--credentials", "/etc", "-i", "eth0", "--", "--node", "lb-1"),
    ],
)
def test_the_unit_is_valid(words: tuple[str, ...], tmp_path: os.PathLike[str]) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    path = os.path.join(tmp_path, f"weir-{NAME}.service")
    with open(path, "w") as file:
        file.write(printed(*words))
    done = subprocess.run(["systemd-analyze", "verify", path], check=True, text=True, capture_output=True)
    assert not done.stderr


def test_a_unit_has_the_rights_of_what_it_runs_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    words = (("up", "-i", "eth0"), ("join", "nats://192.0.2.1:4222", "-i", "eth0"))
    with monkeypatch.context() as without_frr:
        without_frr.setattr("weir.cli.box.install.folder", lambda: None)
        alone, joined = (unit(NAME, ["weir", *each]) for each in words)
    assert ("RestrictRealtime=yes" in alone, "CAP_SYS_NICE" in alone, "CAP_SYS_ADMIN" in alone) == (True, False, False)
    assert ("RestrictRealtime=no" in joined, "CAP_SYS_NICE" in joined) == (True, True)
    with_frr = unit(NAME, ["weir", *words[0]])
    assert ("RestrictRealtime=no" in with_frr, "CAP_SYS_ADMIN" in with_frr) == (True, True)


def test_a_unit_of_neither_or_both_is_refused() -> None:
    for words in ((), ("-f", "/etc/weir", "--join", "nats://192.0.2.1:4222")):
        argv = [sys.executable, "-m", "weir.cli", "install", "--print", "-i", "eth0", *words]
        assert subprocess.run(argv, text=True, capture_output=True).returncode == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-f", "/nowhere", "-i", "lo"), "weir: /nowhere: no such file or directory"),
        (("-f", "/etc", "-i", "eth99"), "eth99"),
        (("-f", "/etc", "-i", "lo", "--", "--bogus"), "No such option: --bogus"),
        (("-f", "/etc", "-i", "lo", "--", "--log-size", "2"), "Invalid value for '--log-size'"),
    ],
)
def test_a_unit_that_could_not_start_is_not_written(words: tuple[str, ...], said: str) -> None:
    argv = [sys.executable, "-m", "weir.cli", "install", "--instance", NAME, *words]
    done = subprocess.run(argv, text=True, capture_output=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (UNITS / f"weir-{NAME}.service").exists()


def test_words_with_signs_that_systemd_reads_are_kept_as_they_are() -> None:
    text = unit(NAME, ["weir", "up", '--manifests=/srv/50% of $all/a "b"', "-i", "eth0"])
    assert '"--manifests=/srv/50%% of $$all/a \\"b\\""' in text


def told(manager: socket.socket, lines: set[str]) -> bool:
    """Whether systemd would get all these lines, in any order and however they are put together, within a minute."""
    end = time.monotonic() + 60
    while lines and (left := end - time.monotonic()) > 0:
        manager.settimeout(left)
        with contextlib.suppress(TimeoutError):
            lines = lines - set(manager.recv(4096).decode().splitlines())
    return not lines


WEB = "203.0.113.30"
EDGE: list[dict[str, Any]] = [  # what needs Envoy, and FRR
    {
        "apiVersion": "weir.dev/v1alpha1",
        "kind": "VIPPool",
        "metadata": {"name": "edge"},
        "spec": {"addresses": [f"{WEB}/32"], "autoAssign": False},
    },
    CLASS,
    {
        "apiVersion": GATEWAY_API,
        "kind": "Gateway",
        **named("edge"),
        "spec": {
            "gatewayClassName": "weir",
            "addresses": [{"value": WEB}],
            "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}],
        },
    },
    peer("tor", "10.76.0.2"),
    advertisement(),
]


def test_weir_runs_with_the_rights_of_the_unit(found: Stage) -> None:
    (found.folder / "shop" / "edge.yaml").write_text(yaml.safe_dump_all(EDGE))
    with router(found.network, "client", ["10.76.0.1"]) as tor:
        _run_confined(found, tor)


def _run_confined(found: Stage, tor: Router) -> None:
    command = exec_start(printed("-f", str(found.folder / "shop"), "-i", "front", "-i", "back"))
    allowed = ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in rights(command))])
    confined = ["setpriv", "--bounding-set", allowed, "--inh-caps", "-all", "--no-new-privs", *command]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, (found.folder / "up.log").open("w") as log:
        manager.bind(str(found.folder / "notify"))
        env = os.environ | {"NOTIFY_SOCKET": str(found.folder / "notify")}
        process = found.network.popen("lb", *confined, stdout=log, stderr=log, env=env)
        assert told(manager, {"READY=1", "STATUS=5 services following the log", "WATCHDOG=1"}), found.complaints()
    assert wait_until(lambda: bool(found.pids()) and found.ask("status")[0]["ok"], 60), json.dumps(found.ask("status"))
    fetch = ["curl", "-sS", "--max-time", "2", "http://203.0.113.10/"]
    found.network.run("client", *fetch)
    assert wait_until(lambda: {*tor.routes()} == {"203.0.113.10", WEB}, 60), (tor.routes(), found.complaints())
    unknown = ["curl", "-sS", "--max-time", "2", "-o", "/dev/null", "-w", "%{http_code}", f"http://{WEB}/"]
    assert wait_until(lambda: found.network.run("client", *unknown, check=False).stdout == "404", 60), "Envoy, on a low port"
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    found.network.run("client", *fetch)  # stopped, and the kernel forwards on
    assert {*tor.routes()} == {"203.0.113.10", WEB}
