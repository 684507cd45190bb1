"""A log that is full and a disk that is full, under load: told, nothing lost, and what is owed is appended when there is room again."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.own import own
from tests.running import Running, running_weir
from weir.demo.network import wait_until

FULL, DISK = "weirfull", "weirdisk"
DISK_MIB = 96


@pytest.fixture
def weir() -> Iterator[Running]:
    with running_weir(FULL) as found:
        yield found


@pytest.fixture
def on_small_disk() -> Iterator[Running]:
    with small_disk(Path("/var/lib") / own(DISK) / "nats"), running_weir(DISK) as found:
        yield found


def test_a_full_log_is_told_loses_nothing_and_takes_what_is_owed_when_it_has_room(weir: Running) -> None:
    limit(weir, "1MiB")
    fill(weir, 85)
    assert wait_until(lambda: "LogFilling" in problems(weir), 30), problems(weir)
    assert wait_until(lambda: said(weir, "log_alarm"), 30), "the crossing is no line of the log of weir up"
    weir.network.stop("b3")
    assert wait_until(lambda: all(f"{name}:8080/TCP is down" in problems(weir) for name in ("10.77.0.13", "[fd77::13]")), 30)
    assert wait_until(lambda: weir.drift() == 0, 30), "both deaths are in the kernel"
    before, pids = weir.maps(), weir.pids()
    assert "LogFull" in fill(weir, 100)
    weir.network.start("b3")  # its return is known in the kernel at once, and is owed to the log
    with weir.under_load():
        ask_for_more(weir)
        assert wait_until(lambda: {"watcher", "health"} <= degraded(weir, "LogFull"), 30), weir.stage.ask("status")
        assert weir.pids() == pids
        assert weir.maps() == before
        limit(weir, "8MiB")
        took = weir.settled(60)
    print(f"room made: settled after {took:.1f} s")
    assert weir.pids() == pids


def test_a_full_disk_is_told_loses_nothing_and_the_log_goes_on_when_there_is_room(on_small_disk: Running) -> None:
    weir = on_small_disk
    before, pids = weir.maps(), weir.pids()
    filler = weir.where.state / "nats" / "filler"
    with weir.under_load():
        subprocess.run(["fallocate", "-l", str(shutil.disk_usage(filler.parent).free), filler], check=True)
        assert fill(weir, 100), "the last page had room for all"
        ask_for_more(weir)
        assert wait_until(lambda: "watcher" in degraded(weir, "LogStuck", "LogUnreachable"), 30), weir.stage.ask("status")
        assert "DiskFull" in problems(weir)
        assert weir.pids() == pids, "a server that cannot be helped is not to be started again and again"
        assert weir.maps() == before
        filler.unlink()
        assert wait_until(lambda: weir.pids()["nats"] != pids["nats"], 90), "NATS does not get over it by itself"
        took = weir.settled(60)
    print(f"room made, NATS started again: settled after {took:.1f} s")
    assert {name: pid for name, pid in weir.pids().items() if name != "nats"} == {name: pids[name] for name in pids if name != "nats"}


def ask_for_more(weir: Running) -> None:
    """One annotation more than the example's: each frontend is planned again."""
    manifest = weir.stage.folder / "shop" / "service.yaml"
    text = manifest.read_text()
    assert "  annotations:\n" in text
    manifest.write_text(text.replace("  annotations:\n", '  annotations:\n    weir.dev/timeout: "900"\n'))


def fill(weir: Running, percent: int) -> str:
    argv = weir.network.command("lb", sys.executable, "-m", "tests.chaos.fill", weir.where.instance, str(percent))
    return subprocess.run(argv, check=True, text=True, stdout=subprocess.PIPE).stdout


def limit(weir: Running, size: str) -> None:
    weir.network.run("lb", *weir.command("log", "limit", "--size", size))


def problems(weir: Running) -> str:
    return "\n".join(weir.stage.ask("status")[0]["problems"])


def degraded(weir: Running, *reasons: str) -> set[str]:
    processes = weir.stage.ask("status")[0]["processes"]
    return {process["name"] for process in processes if process["state"] == "degraded" and process["reason"].startswith(reasons)}


def said(weir: Running, word: str) -> bool:
    return word in (weir.stage.folder / "up.log").read_text()


@contextmanager
def small_disk(path: Path) -> Iterator[None]:
    """A disk of its own for the log."""
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "none", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=True)
        shutil.rmtree(path.parent)
