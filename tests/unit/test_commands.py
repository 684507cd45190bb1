"""Every command: found, explained, and shown by an example that it accepts."""

import re
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from weir.cli.__main__ import app
from weir.cli.box.backup import BackupError, restore
from weir.view.processes import SERVICES, awaited

ROOT = typer.main.get_command(app)


def commands(group: object, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], object]]:
    found = []
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        found += commands(command, (*path, name)) if hasattr(command, "commands") else [((*path, name), command)]
    return found


COMMANDS = commands(ROOT)
EXAMPLES = [
    (path, line.strip())
    for path, command in COMMANDS
    for line in (command.epilog or "").split("\n")  # type: ignore[attr-defined]
    if line.strip().startswith("weir ")
]


def test_an_installation_is_not_all_there_before_its_last_child_is() -> None:
    assert awaited({"up": 7}) == [], "the packet path is loaded first, with a log and without"
    assert awaited({"up": 7, "nats": 8}) == list(SERVICES)
    assert awaited({"up": 7, "dataplane": 8}) == ["health", "hello"], "a box that joined has no log of its own"
    assert awaited(dict.fromkeys(("up", "nats", *SERVICES), 7)) == []


def test_every_command_has_help_and_an_example() -> None:
    assert len(COMMANDS) > 15
    assert {path for path, _ in EXAMPLES} == {path for path, _ in COMMANDS}
    assert [path for path, command in COMMANDS if not command.help] == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(("path", "line"), EXAMPLES, ids=[line for _, line in EXAMPLES])
def test_example_names_its_command_and_options_that_it_has(path: tuple[str, ...], line: str) -> None:
    words = shlex.split(line.partition("|")[0])[1:]
    assert tuple(words[: len(path)]) == path
    known = {option for parameter in dict(COMMANDS)[path].params for option in parameter.opts}  # type: ignore[attr-defined]
    assert {word.partition("=")[0] for word in words if word.startswith("-") and word != "-"} <= known


def test_a_log_that_is_not_the_instances_own_is_not_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIR_NATS", "nats://nats.weir-system.svc:4222")
    with pytest.raises(BackupError, match=r"WEIR_NATS names the log at nats://nats.weir-system.svc:4222"):
        restore("weirnone", tmp_path / "before.weir", force=False)


@pytest.mark.parametrize("documents", [1, 3000], ids=["less than a buffer", "more"])
def test_a_reader_that_ends_early_is_no_fault(tmp_path: Path, documents: int) -> None:
    (tmp_path / "a.yaml").write_text("\n---\n".join(f"{{kind: Servce, metadata: {{name: a{n}}}}}" for n in range(documents)))
    argv = [sys.executable, "-m", "weir.cli", "lint", "-f", str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout
        assert running.stderr
        running.stdout.close()
        assert running.stderr.read() == ""
    assert running.returncode == 141


@pytest.mark.parametrize(
    ("words", "wait", "timeout_s"),
    [
        ((), "", 60),
        (("--wait",), "all", 60),
        (("--wait", "--timeout", "3"), "all", 3),
        (("--timeout", "3", "--wait"), "all", 3),
        (("--wait=serving",), "serving", 60),
        (("--wait", "programmed", "-o", "json"), "programmed", 60),
    ],
)
def test_wait_takes_a_value_or_none(monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], wait: str, timeout_s: int) -> None:
    asked = []

    def status(_: str, *, wait: str, timeout_s: int, output: str) -> int:
        asked.append((wait, timeout_s))
        return 0 if output else 1

    monkeypatch.setattr("weir.cli.show.status.status", status)
    assert CliRunner().invoke(app, ["status", *words]).exit_code == 0
    assert asked == [(wait, timeout_s)]


def test_version_is_shown() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == f"weir {version('weir')}\n"


def test_users_read_of_events_nowhere_of_facts() -> None:
    """One word for one thing: the code's `Fact` is an event with its place in the log."""
    texts = {str(path): path.read_text() for path in (Path("README.md"), *Path("docs").glob("*.md"))}
    texts |= {" ".join(path): CliRunner().invoke(app, [*path, "--help"]).stdout for path, _ in COMMANDS}
    assert len(texts) > len(COMMANDS)
    assert {name for name, text in texts.items() if re.search(r"\bfacts?\b", text)} == set()
