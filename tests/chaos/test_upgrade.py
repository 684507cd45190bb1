"""Another version of Weir in place of the one that runs, and back, under load; and a fact that only the newer of two versions knows.

The other version is a copy of this one, which is changed where a test needs a newer one.  WEIR_OTHER names a checkout of a real one.
"""

import compileall
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import Running, running_weir
from weir.demo.network import wait_until

ROOT = Path(__file__).parents[2]

NEWER = '''
from typing import ClassVar

from weir.events.nodes import OfNode


class VipYielded(OfNode, frozen=True, kw_only=True, tag="vip_yielded"):
    """Of a later version."""

    kind: ClassVar[str] = "taken"
    gone: ClassVar[bool] = True
    vip: str

    def entity(self) -> tuple[str, str]:
        return "", self.vip


AnyEvent = (
    VipYielded
    | '''

APPEND = """
import asyncio, sys
from weir.bus.client import Bus
from weir.decider import Decided
from weir.events import VipYielded
from weir.where import Where

async def main():
    async with await Bus.connect(Where(sys.argv[1]).nats_url(), "newer") as bus:
        await bus.append("dataplane-elsewhere", [Decided(VipYielded(node="elsewhere", vip="192.0.2.1"), 0)], 0)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def weir() -> Iterator[Running]:
    with running_weir("weirupgrade") as found:
        yield found


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A place with the other version."""
    for name in ("weir", "services", "bpf", "tests", "examples"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        compileall.compile_dir(tmp_path / name, quiet=2)
    return tmp_path


def test_an_upgrade_and_a_rollback_lose_nothing_and_write_nothing(weir: Running, other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, plan = weir.maps(), weir.stage.ask("replay")[0]["digest"]
    with weir.under_load():
        for place in (Path(os.environ.get("WEIR_OTHER", other)), ROOT):
            weir.end()
            turn_to(place, monkeypatch)
            weir.stage.up()
            took = weir.settled(60)
            assert runs_from(weir) == place
            print(f"{place}: settled after {took:.1f} s")
    assert weir.maps() == before
    assert weir.stage.ask("replay")[0]["digest"] == plan


def test_a_fact_of_a_newer_version_stops_its_readers_but_no_traffic_until_they_are_upgraded(
    weir: Running, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn_to(ROOT, monkeypatch)
    events = other / "weir" / "events" / "__init__.py"
    events.write_text(events.read_text().replace("AnyEvent = (\n    ", NEWER, 1))
    before = weir.maps()
    with weir.under_load():
        newer = os.environ | {"PYTHONPATH": str(other)}
        subprocess.run(weir.network.command("lb", sys.executable, "-c", APPEND, weir.where.instance), check=True, cwd=other, env=newer)
        assert wait_until(lambda: "NotUnderstood" in told(weir, "dataplane"), 30)
        assert "vip_yielded" in told(weir, "dataplane")
        assert weir.maps() == before
        weir.end()
        turn_to(other, monkeypatch)
        weir.stage.up()
        took = weir.settled(60)
    print(f"readers upgraded: settled after {took:.1f} s")
    assert weir.maps() == before


def turn_to(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on commands are of the version at `place`."""
    monkeypatch.setenv("PYTHONPATH", str(place))
    monkeypatch.chdir(place)


def runs_from(weir: Running) -> Path:
    words = Path(f"/proc/{weir.pids()['up']}/environ").read_bytes().decode().split("\0")
    return Path(next(word for word in words if word.startswith("PYTHONPATH=")).partition("=")[2])


def told(weir: Running, name: str) -> str:
    """The reason that a service gives for how it is."""
    return str({process["name"]: process["reason"] for process in weir.stage.ask("status")[0]["processes"]}[name])
