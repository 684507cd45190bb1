"""Commands of a user without rights, and into a full device: one line that names the file, never a traceback."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.own import own
from tests.unit.test_commands import EXAMPLES
from weir.where import Where

WHERE = Where(own("weirrights"))
LINES = sorted(
    {line.partition(" | ")[0] for _, line in EXAMPLES if not line.startswith("weir demo") and "--print" not in line} | {"weir demo"}
)


@pytest.fixture(scope="module", autouse=True)
def _instance() -> Iterator[None]:
    if os.geteuid():
        pytest.skip("becoming nobody needs root")
    WHERE.state.mkdir(parents=True, exist_ok=True)
    (WHERE.state / "nats.url").write_text("nats://secret@127.0.0.1:9\n")
    (WHERE.state / "nats.url").chmod(0o600)
    yield
    shutil.rmtree(WHERE.state)
    shutil.rmtree(WHERE.run, ignore_errors=True)


def as_nobody(*words: str) -> "subprocess.CompletedProcess[str]":
    env = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")} | {"WEIR_INSTANCE": WHERE.instance}
    become = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", sys.executable, "-m", "weir.cli")
    return subprocess.run([*become, *words], text=True, capture_output=True, check=False, timeout=30, env=env)


@pytest.mark.parametrize("line", LINES)
def test_no_command_of_a_user_without_rights_ends_in_a_traceback(line: str) -> None:
    done = as_nobody(*shlex.split(line)[1:])
    assert "Traceback" not in done.stderr
    assert done.returncode in (1, 2)
    assert "secret" not in done.stdout + done.stderr


@pytest.mark.parametrize("words", [("get", "vips"), ("log", "tail"), ("status",)])
def test_a_file_that_may_not_be_read_is_named(words: tuple[str, ...]) -> None:
    done = as_nobody(*words)
    assert (done.returncode, done.stderr) == (2, f"weir: {WHERE.state / 'nats.url'}: Permission denied\n")


POOL = "{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: a}, spec: {addresses: [192.0.2.0/28]}}"


@pytest.mark.parametrize("words", [("--help",), ("check", "-i", "lo"), ("migrate", "metallb", "-")])
def test_output_that_cannot_be_written_is_one_line(words: tuple[str, ...]) -> None:
    argv = [sys.executable, "-m", "weir.cli", *words]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, input=POOL, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "weir: No space left on device\n")
