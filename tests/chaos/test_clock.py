"""The wall clock of Weir's services jumps under load: nothing times out early, nothing is decided anew, the log keeps its order.

wallclock.c moves what the services take for the time of day; their monotonic clock and the kernel's go on, as after a real step.
NATS asks the kernel without libc, so its clock stays: what a step does to a log is in docs/operations.md.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.running import Running, running_weir
from weir.demo.network import wait_until

ROOT = Path(__file__).parents[2]
HOUR_S = 3600


@pytest.fixture
def clock(tmp_path: Path) -> Path:
    """The file that says by how many seconds the services' clock is off."""
    offset = tmp_path / "offset"
    offset.write_text("0")
    return offset


@pytest.fixture
def weir(clock: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    if not shutil.which("cc"):
        pytest.skip("no C compiler")
    library = clock.with_name("wallclock.so")
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, Path(__file__).with_name("wallclock.c")], check=True)
    monkeypatch.setenv("WALLCLOCK", str(clock))
    monkeypatch.setenv("LD_PRELOAD", str(library))
    with running_weir("weirclock") as found:
        monkeypatch.delenv("LD_PRELOAD")  # whoever looks on has the true time
        yield found


def test_a_clock_that_jumps_an_hour_ahead_and_back_decides_nothing(weir: Running, clock: Path) -> None:
    weir.settled(60)
    before, pids, known = weir.maps(), weir.pids(), len(facts(weir))
    with weir.under_load():
        for number, offset_s in enumerate((HOUR_S, -HOUR_S, 2, -2, 0), 1):
            clock.write_text(f"{offset_s}")
            label(weir, str(number))
            assert wait_until(lambda number=number: len(facts(weir)) == known + number, 60), facts(weir)[known:]
            assert wait_until(lambda offset_s=offset_s: abs(off_s(weir) - offset_s) < 1.5, 30), "the clock of the watcher did not jump"
        weir.settled(60)
    assert [fact["event"]["labels"]["turn"] for fact in facts(weir)[known:]] == ["1", "2", "3", "4", "5"]
    assert weir.maps() == before
    assert weir.pids() == pids


def test_no_service_asks_for_the_time_of_day() -> None:
    asks = re.compile(r"time\.time|time_ns\(\)|\.now\(|utcnow|today\(|CLOCK_REALTIME\b|bpf_ktime_get_tai_ns")
    files = {*ROOT.glob("services/**/*.py"), *(ROOT / "weir").glob("*.py"), *ROOT.glob("bpf/**/*.[ch]")}
    assert len(files) > 30
    found = [f"{file.relative_to(ROOT)}: {line.strip()}" for file in files for line in file.read_text().splitlines() if asks.search(line)]
    # Conditions and Kubernetes Events bear a time for people, and nothing follows from it.
    assert found == ['services/watcher/writer/writer.py: return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")']


def label(weir: Running, turn: str) -> None:
    manifest = weir.stage.folder / "shop" / "service.yaml"
    manifest.write_text(re.sub(r"  name: web\n(  labels: .*\n)?", f'  name: web\n  labels: {{turn: "{turn}"}}\n', manifest.read_text()))


def facts(weir: Running) -> list[Any]:
    """What the watcher observed of Services."""
    command = weir.command("log", "tail", "--kind", "service_observed", "-n", "1000", "-o", "jsonl")
    return [json.loads(line) for line in weir.network.run("lb", *command).stdout.splitlines()]


def off_s(weir: Running) -> float:
    """By how much the watcher's last word was off."""
    lines = [line for line in (weir.stage.folder / "up.log").read_text().splitlines() if '"service_observed"' in line]
    said = datetime.fromisoformat(json.loads(lines[-1])["timestamp"])
    return (said - datetime.fromisoformat(facts(weir)[-1]["time"])).total_seconds()  # the log has the true time
