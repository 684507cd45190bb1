"""What `weir up -f` refuses at its start, because following it would withdraw what was stated before."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.watcher.settings import DEFAULT
from services.watcher.sources.manifests import not_read, unreadable
from tests.own import own
from weir.cli.lint import lint


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


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("up", "-i", "lo", "-f", "typo"), "no such file or directory"),
        (("up", "-i", "lo", "-f", "."), "no manifest in this folder (*.yaml, *.yml, *.json)"),
        (("up", "--dry-run", "-f", "typo"), "no such file or directory"),
        (("lint", "-f", "typo"), "no such file or directory"),
        (("install", "-i", "lo", "-f", "typo"), "no such file or directory"),
        (("backup", "weir.backup"), "no such instance on this machine"),
        (("restore", "typo"), "does not exist"),
        (("restore", "torn"), "torn is not a complete backup"),
        (("log", "why", "1", "--from", "typo"), "does not exist"),
        (("replay", "--from", "torn"), "torn"),
        (("migrate", "metallb", "typo"), "typo"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, tuple) else "",
)
def test_a_path_that_cannot_be_used_is_exit_code_2_of_every_command_and_touches_nothing(
    tmp_path: Path, words: tuple[str, ...], why: str
) -> None:
    (tmp_path / "torn").write_bytes(b"\0" * 600)
    argv = [sys.executable, "-m", "weir.cli", *words]
    env = os.environ | {"WEIR_INSTANCE": (name := own("weirtypo"))}
    done = subprocess.run(argv, text=True, capture_output=True, check=False, cwd=tmp_path, env=env)
    assert (done.returncode, done.stdout) == (2, ""), done
    assert why in done.stderr
    assert "Traceback" not in done.stderr
    assert not any(path.exists() for path in (Path("/run", name), Path("/var/lib", name), Path("/sys/fs/bpf", name)))


# ── folders in folders ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_subfolder_with_manifests_is_named_and_others_are_not(tmp_path: Path) -> None:
    for name in ("web/a.yaml", "deep/er/b.json", "docs/README", ".git/c.yaml", "..data/d.yaml", "e.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "web")
    assert list(not_read([tmp_path, tmp_path / "e.yaml"])) == [
        f"{tmp_path / 'deep'}, {tmp_path / 'web'} not read: -f takes a folder's own files; add -f for each"
    ]
    assert list(not_read([tmp_path / "docs"])) == []
    assert list(unreadable([tmp_path / "deep"])) == [
        f"{tmp_path / 'deep'}: no manifest in this folder (*.yaml, *.yml, *.json); "
        f"{tmp_path / 'deep' / 'er'} not read: -f takes a folder's own files; add -f for it"
    ]


def test_lint_notes_it_beside_its_findings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "web").mkdir()
    for name in ("a.yaml", "web/b.yaml"):
        (tmp_path / name).write_text("{apiVersion: weir.dev/v1alpha1, kind: VIPPool, metadata: {name: a}, spec: {addresses: [192.0.2.1]}}")
    assert lint([tmp_path], DEFAULT, "json") == 0
    said = capsys.readouterr()
    assert said.out == "[]\n"
    assert said.err == f"weir: note: {tmp_path / 'web'} not read: -f takes a folder's own files; add -f for it\n"
