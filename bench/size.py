"""10,000 Services of ten endpoints: cold start, restart, 100 changes a second; CPU, memory and log of every process of Weir."""

import random
import time
from collections.abc import Iterator

import msgspec

from bench.installation import PORT, Installation, endpoints, installation, pool, quantiles, service, vip
from bench.table import Row, Table
from services.dataplane.l4.layout import FrontendKey
from weir.pins import Map
from weir.where import Health

SERVICES, PER_FILE = 10_000, 100
CHANGES_PER_S = 100
_PATIENCE_S = 120
_FOLLOWERS = 5  # services that follow the log


def run(quick: bool) -> list[Table]:
    count, seconds = (1000, 10) if quick else (SERVICES, 300)
    with installation("weirsize") as weir:
        began_s = fill(weir, count)
        cold_s = weir.programmed(count) - began_s
        cold = _processes(weir, f"cold start, {count} Services")
        restart_s, appended = restart(weir)
        again = _processes(weir, "after a restart")
        before, written_before = weir.cpu_s(), weir.log()
        lags = steady(weir, count, seconds)
        during, written = weir.cpu_s(), weir.log()
    starts = (Row("cold, to all programmed", (cold_s,)), Row("restart, to all following", (restart_s,)))
    cpu = tuple(Row(name, (100 * (during[name] - before[name]) / seconds,)) for name in during)
    bytes_each = (written["bytes"] - written_before["bytes"]) / (CHANGES_PER_S * seconds)
    pace = f"{CHANGES_PER_S} changes/s for {seconds} s"
    return [
        Table(title="start", unit="s", rows=starts, note=f"{appended} events appended by the restart"),
        *cold,
        *again,
        Table(title=f"{pace}, file to kernel", unit="ms", rows=quantiles("", lags)),
        Table(title=f"{pace}, CPU", unit="% of a core", rows=cpu),
        Table(title=f"{pace}, log", unit="bytes per change", rows=(Row("log", (bytes_each,)),)),
    ]


def fill(weir: Installation, count: int) -> float:
    """Manifests of so many Services, and Weir started on them; the moment of that, monotonic."""
    weir.write("pool.json", pool())
    for at in range(0, count, PER_FILE):
        weir.write(f"s{at}.json", *(service(number) for number in range(at, at + PER_FILE)))
    for number in range(count):
        weir.write(f"e{number}.json", endpoints(number))
    began_s = time.monotonic()
    weir.up()
    return began_s


def restart(weir: Installation) -> tuple[float, int]:
    """Seconds until every service follows the log again, and how many events that made."""
    before = weir.log()["last_seq"]
    weir.down()
    began_s = time.monotonic()
    weir.up()
    while not _following(weir):
        if time.monotonic() - began_s > _PATIENCE_S:
            raise TimeoutError("not all services follow the log")
        time.sleep(0.1)
    return time.monotonic() - began_s, weir.log()["last_seq"] - before


def steady(weir: Installation, count: int, seconds: int) -> list[float]:
    """Milliseconds from file to kernel of every change, sorted: endpoints move at a steady pace, each Service's in turn."""
    order = random.Random(1).sample(range(count), count)
    frontends, begun_s = weir.map("frontends"), time.perf_counter()
    waiting: dict[bytes, tuple[bytes | None, float]] = {}
    lags: list[float] = []
    for turn in range(CHANGES_PER_S * seconds):
        number, lap = order[turn % count], turn // count
        where = FrontendKey(vip(number), PORT, "TCP").pack()
        if where in waiting:
            raise TimeoutError(f"Service {number} has waited since its last turn")
        before = frontends.get(where)
        weir.write(f"e{number}.json", endpoints(number, last=10 + lap % 2))
        waiting[where] = before, time.perf_counter()
        due_s = begun_s + (turn + 1) / CHANGES_PER_S
        while True:
            lags += _arrived(frontends, waiting)
            if time.perf_counter() >= due_s:
                break
            time.sleep(0.001)
    end_s = time.perf_counter() + _PATIENCE_S
    while waiting and time.perf_counter() < end_s:
        lags += _arrived(frontends, waiting)
        time.sleep(0.001)
    if waiting:
        raise TimeoutError(f"{len(waiting)} changes never came")
    return sorted(lags)


def _arrived(frontends: Map, waiting: dict[bytes, tuple[bytes | None, float]]) -> Iterator[float]:
    for where, (before, since_s) in list(waiting.items()):
        if frontends.get(where) != before:
            del waiting[where]
            yield (time.perf_counter() - since_s) * 1000


def _following(weir: Installation) -> bool:
    pids = weir.pids()
    files = [file for name in pids for file in weir.where.run.glob(f"{name}*.json") if file.name != "pids.json"]
    told = {file: msgspec.json.decode(file.read_bytes(), type=Health) for file in files if file.name[0] != "."}
    following = [health for health in told.values() if health.state == "following" and health.pid in pids.values()]
    return len(following) == _FOLLOWERS


def _processes(weir: Installation, title: str) -> list[Table]:
    found = (("memory", "MB", weir.memory_mb()), ("CPU", "s", weir.cpu_s()))
    return [
        Table(
            title=f"{title}: {what}",
            unit=unit,
            rows=(*(Row(name, (used,)) for name, used in each.items()), Row("all", (sum(each.values()),))),
        )
        for what, unit, each in found
    ]


if __name__ == "__main__":
    for table in run(quick=False):
        print(table.markdown(), "\n")
