"""What a run says of tests that it skipped, and where it must not skip any."""

import os
import subprocess
import sys
from pathlib import Path

CONFTEST = Path(__file__).parents[1] / "conftest.py"
TEST = """
import signal, pytest

def test_of_the_kernel():
    pytest.skip("needs root")

def test_dispositions():
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
"""


def run(folder: Path, required: str) -> subprocess.CompletedProcess[str]:
    (folder / "suite").mkdir()
    (folder / "conftest.py").write_bytes(CONFTEST.read_bytes())
    (folder / "suite" / "test_it.py").write_text(TEST)
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "suite"]
    deaf = ["sh", "-c", 'trap "" INT TERM; exec "$@"', "sh", *words]
    return subprocess.run(deaf, cwd=folder, env={**os.environ, "WEIR_REQUIRE": required}, text=True, capture_output=True, check=False)


def test_the_last_line_names_what_was_skipped(tmp_path: Path) -> None:
    done = run(tmp_path, "")
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "not run: 1 tests of suite: needs root"


def test_where_all_is_required_a_skipped_test_has_failed(tmp_path: Path) -> None:
    done = run(tmp_path, "all")
    assert done.returncode == 1
    assert "WEIR_REQUIRE=all: Skipped: needs root" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("1 failed, 1 passed")


def test_another_word_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "rooot")
    assert done.returncode == 4
    assert "WEIR_REQUIRE: got 'rooot', accepted: all" in done.stderr
