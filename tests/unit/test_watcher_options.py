"""Options of the watcher that stand in a file: in a cluster that is a key of the ConfigMap `weir-settings`."""

import json
import sys
from pathlib import Path

import pytest

from services.watcher.options import read_options
from services.watcher.settings import CLASSES, Settings
from weir.cli.box.run_commands import watcher_options

LINES = """\
# ours alone
--no-default-class

--class shop.example/lb  --class 'shop.example/vip' # beside weir.dev/weir
  --external-ips
--mode=fullnat
"""


def settings(words: list[str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(sys, "argv", ["weir-watcher", "--cluster=a", *words])
    return read_options().settings


def test_options_of_a_file_count_where_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "watcher"
    file.write_text(LINES)
    expected = Settings(
        classes=("weir.dev/weir", "shop.example/lb", "shop.example/vip"), default_class=False, mode="fullnat", external_ips=True
    )
    assert settings(["--mode=onearm", f"@{file}"], monkeypatch) == expected


@pytest.mark.parametrize(
    "wanted",
    [
        Settings(),
        Settings(classes=("weir.dev/weir", "a/b", "c/d"), default_class=False, mode="onearm", targets="nodes"),
        Settings(liveness=True, external_ips=True),
    ],
)
def test_weir_up_gives_the_watcher_the_settings_that_weir_lint_checks_with(wanted: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings(watcher_options(wanted), monkeypatch) == wanted


def test_an_empty_file_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "watcher"
    file.write_text("")
    assert settings([f"@{file}"], monkeypatch) == Settings(classes=CLASSES)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--cluster=eu/prod"], "--cluster eu/prod: expected a unique name of lower-case letters"),
        (["--cluster=b=one", "--cluster=b=two"], "--cluster b: expected a unique name of lower-case letters"),
    ],
)
def test_a_name_of_a_cluster_stands_before_others_and_is_one_clusters(
    words: list[str], why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        settings(words, monkeypatch)
    assert why in capsys.readouterr().err


def test_a_quote_that_does_not_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "watcher"
    file.write_text("--class 'shop.example/lb\n")
    with pytest.raises(SystemExit):
        settings([f"@{file}"], monkeypatch)
    assert "No closing quotation" in capsys.readouterr().err


def test_show_config_prints_each_setting_and_where_it_comes_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "watcher"
    file.write_text("--external-ips")
    with pytest.raises(SystemExit) as ended:
        read_options(["--mode=onearm", f"@{file}", "manifests", "--show-config"])
    table = json.loads(capsys.readouterr().out)
    assert ended.value.code == 0
    assert table["path"] == {"value": ["manifests"], "from": "path"}
    assert table["mode"] == {"value": "onearm", "from": "--mode"}
    assert table["external_ips"] == {"value": True, "from": "--external-ips"}
    assert table["liveness"] == {"value": False, "from": "default"}


def test_a_mode_that_does_not_exist_is_refused_with_those_that_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_options(["manifests", "--mode=dsr"])
    assert "'dsr': expected one of default, onearm, fullnat" in capsys.readouterr().err
