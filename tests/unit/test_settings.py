"""Typed settings of a service, and `--show-config`."""

import json
from collections.abc import Sequence

import pytest

from services.dataplane.settings import Settings
from weir.service.settings import Replicated, parser_of, read


def given(*words: str) -> Settings:
    return read(parser_of("dataplane", Settings), Settings, words)


def shown(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, object]]:
    with pytest.raises(SystemExit) as ended:
        given("--show-config", *words)
    assert not ended.value.code
    found: dict[str, dict[str, object]] = json.loads(capsys.readouterr().out)
    return found


def test_fields_are_options_with_their_types() -> None:
    found = given("--metrics", "[::1]:9600", "--interface", "eth0,eth1=xdp", "--interface=cali*", "--node", "LB-1")
    assert found == Settings(metrics=("::1", 9600), interface=("eth0", "eth1=xdp", "cali*"), node="lb-1")
    assert given() == Settings()
    assert read(parser_of("ipam", Replicated), Replicated, ["--replicated"]).replicated


def test_show_config_prints_every_setting_its_value_and_where_it_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    found = shown(["--hook", "xdp", "--interface", "eth0", "--node=lb-1"], capsys)
    assert list(found) == list(Settings.__struct_fields__)
    assert found["hook"] == {"value": "xdp", "from": "--hook"}
    assert found["interface"] == {"value": ["eth0"], "from": "--interface"}
    assert found["instance"] == {"value": "weir", "from": "default"}
    assert found["metrics"] == {"value": None, "from": "default"}


def test_a_setting_given_with_its_default_is_shown_as_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(["--hook=tc"], capsys)["hook"] == {"value": "tc", "from": "--hook"}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--hook=dpdk"], "invalid choice: 'dpdk'"),
        (["--metrics=9600"], "got '9600', expected ADDRESS:PORT"),
        (["--nod=a"], "unrecognized arguments: --nod"),
    ],
)
def test_a_mistake_names_the_option(words: Sequence[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        given(*words)
    assert ended.value.code == 2
    assert reason in capsys.readouterr().err


def test_help_names_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        given("--help")
    words = " ".join(capsys.readouterr().out.split())
    assert "the hook of interfaces that name none (default: tc)" in words
    assert "(default: weir)" in words
    assert "SUPPRESS" not in words
