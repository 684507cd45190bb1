"""What `weir up -f` refuses at its start, because following it would withdraw what was stated before."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.watcher.files import unreadable


def test_what_can_be_followed_is_not_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("")
    assert list(unreadable([tmp_path, tmp_path / "a.yaml"])) == []


@pytest.mark.parametrize("name", ["typo", "typo.yaml"])
def test_a_path_that_does_not_exist_is_refused(tmp_path: Path, name: str) -> None:
    assert list(unreadable([tmp_path / name])) == [f"{tmp_path / name}: no such file or directory"]


def test_a_folder_without_manifests_is_refused(tmp_path: Path) -> None:
    for name in ("README", ".hidden.yaml"):
        (tmp_path / name).write_text("")
    (tmp_path / "below").mkdir()
    assert list(unreadable([tmp_path])) == [f"{tmp_path}: no manifest in this folder (*.yaml, *.yml, *.json)"]


def test_what_is_no_file_is_refused_without_waiting_on_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    assert list(unreadable([tmp_path / "pipe.yaml"])) == [f"{tmp_path / 'pipe.yaml'}: not a regular file"]


def test_weir_up_refuses_it_before_it_touches_anything(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "weir.cli", "up", "-f", str(tmp_path / "typo"), "-i", "lo", "--instance", "weirtypo"]
    done = subprocess.run(argv, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"weir: {tmp_path / 'typo'}: no such file or directory\n")
