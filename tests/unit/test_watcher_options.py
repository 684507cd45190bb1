"""Options of the watcher that stand in a file: in a cluster that is a key of the ConfigMap `weir-settings`."""

import sys
from pathlib import Path

import pytest

from services.watcher.__main__ import given_options, settings_of
from services.watcher.settings import CLASSES, Settings

LINES = """\
# ours alone
--no-default-class

--class=shop.example/lb
  --external-ips
--mode=fullnat
"""


def settings(words: list[str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(sys, "argv", ["weir-watcher", "--cluster=a", *words])
    return settings_of(given_options())


def test_options_of_a_file_count_where_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "watcher"
    file.write_text(LINES)
    expected = Settings(classes=("shop.example/lb",), default_class=False, mode="fullnat", external_ips=True)
    assert settings(["--mode=onearm", f"@{file}"], monkeypatch) == expected


def test_an_empty_file_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "watcher"
    file.write_text("")
    assert settings([f"@{file}"], monkeypatch) == Settings(classes=CLASSES)
