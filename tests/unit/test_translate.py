"""What manifests come to, offline."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.watcher.settings import DEFAULT
from weir.cli.translate import translate

EXAMPLE = Path(__file__).parents[2] / "examples" / "gateway.yaml"


def translated(to: str, capsys: pytest.CaptureFixture[str], path: Path = EXAMPLE) -> Any:
    assert translate([path], DEFAULT, to, "json") == 0
    return msgspec.json.decode(capsys.readouterr().out)


def test_the_plan_has_the_gateways_ports(capsys: pytest.CaptureFixture[str]) -> None:
    plan = translated("plan", capsys)
    frontends = {
        (row["plan"]["vip"], row["plan"]["port"], row["plan"].get("mode")) for row in plan if row["plan"]["type"] == "frontend_planned"
    }
    assert frontends == {("203.0.113.30", 80, "proxy"), ("203.0.113.30", 5432, None)}


def test_the_proxys_resources_have_its_routes(capsys: pytest.CaptureFixture[str]) -> None:
    found = translated("envoy", capsys)
    assert sorted(found) == ["clusters", "endpoints", "listeners", "routes", "secrets"]
    assert "shop.example.com" in str(found["routes"])


def test_a_path_that_does_not_exist_is_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert translate([tmp_path / "nothing.yaml"], DEFAULT, "plan", "json") == 2
    assert "nothing.yaml" in capsys.readouterr().err
