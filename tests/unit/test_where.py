"""How files of an installation are written."""

import os
import stat
from pathlib import Path

import pytest

from services.dataplane.plan_file import _append
from weir.where import write_file


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of what was synced to disk; a folder ends with a slash."""
    found: list[str] = []

    def note(fd: int) -> None:
        name = os.readlink(f"/proc/self/fd/{fd}")
        found.append(Path(name).name + "/" * stat.S_ISDIR(os.fstat(fd).st_mode))

    monkeypatch.setattr(os, "fsync", note)
    return found


def test_a_file_that_survives_a_power_loss_is_in_its_folder(tmp_path: Path, synced: list[str]) -> None:
    write_file(tmp_path / "plan.json", b"1", sync=True)
    assert synced == [".plan.json.new", f"{tmp_path.name}/"], "the content, then the name"
    write_file(tmp_path / "other.json", b"1")
    assert len(synced) == 2


def test_the_first_change_of_a_plan_is_in_its_folder(tmp_path: Path, synced: list[str]) -> None:
    for _ in range(2):
        _append(tmp_path / "plan.changes", 1, [])
    assert synced == ["plan.changes", f"{tmp_path.name}/", "plan.changes"]
