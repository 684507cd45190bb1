"""From the close of a manifest to the kernel: one endpoint of a Service, and a new Service, among 1,000 of ten endpoints."""

import random
import time
from collections.abc import Callable

from bench.installation import PORT, Installation, endpoints, installation, pool, quantiles, service, vip
from bench.table import Table
from services.dataplane.l4.layout import FrontendKey
from weir.pins import Map, address_bytes

SERVICES = 1000
_PATIENCE_S = 10


def run(quick: bool) -> list[Table]:
    rounds = 40 if quick else 400
    with installation("weirchange") as weir:
        weir.write("pool.json", pool())
        for number in range(SERVICES):
            weir.write(f"s{number}.json", service(number))
            weir.write(f"e{number}.json", endpoints(number))
        weir.up()
        weir.programmed(SERVICES)
        changed = endpoint_changes(weir, rounds)
        new = new_services(weir, rounds // 4)
    rows = (*quantiles("one endpoint,", changed), *quantiles("a new Service,", new))
    return [Table(title="close of the file to the kernel", unit="ms", rows=rows, note=f"{SERVICES} Services of ten endpoints")]


def endpoint_changes(weir: Installation, rounds: int) -> list[float]:
    """Milliseconds, sorted: the last of ten endpoints moves, and the frontend's entry in the kernel rests on it."""
    dice, frontends, times = random.Random(1), weir.map("frontends"), []
    for number in dice.sample(range(SERVICES), rounds):
        where = FrontendKey(vip(number), PORT, "TCP").pack()
        before = frontends.get(where)
        times.append(_timed(lambda n=number: weir.write(f"e{n}.json", endpoints(n, last=10)), _turned(frontends, where, before)))
        time.sleep(dice.uniform(0.01, 0.04))  # the pace
    return sorted(times)


def new_services(weir: Installation, rounds: int) -> list[float]:
    """Milliseconds, sorted: a Service with ten endpoints comes, and the kernel answers for its VIP, which is written last."""
    dice, vips, times = random.Random(2), weir.map("vips"), []
    for number in range(SERVICES, SERVICES + rounds):
        where = address_bytes(vip(number))
        times.append(_timed(lambda n=number: weir.write(f"new{n}.json", service(n), endpoints(n)), _turned(vips, where, None)))
        time.sleep(dice.uniform(0.01, 0.04))
    return sorted(times)


def _turned(where: Map, key: bytes, before: bytes | None) -> Callable[[], bool]:
    return lambda: where.get(key) != before


def _timed(act: Callable[[], None], done: Callable[[], bool]) -> float:
    act()
    begun_s = time.perf_counter()
    while not done():
        if time.perf_counter() - begun_s > _PATIENCE_S:
            raise TimeoutError("the kernel never had it")
        time.sleep(0.0001)
    return (time.perf_counter() - begun_s) * 1000


if __name__ == "__main__":
    for table in run(quick=False):
        print(table.markdown())
