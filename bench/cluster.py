"""From a change in a real cluster's API to the kernel: an endpoint among 1,000 Services of ten, beside kube-proxy in the same cluster.

What the API server itself takes is measured by a watch of our own beside it and subtracted.  `size` does the same at 10,000 Services,
where a hundred endpoints a second change.
"""

import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from bench.installation import PORT, cpu_s, endpoints, pool, quantiles, rss_kb, service, vip
from bench.table import Row, Table
from services.dataplane.l4.layout import LAYOUT, FrontendKey
from tests.cluster.api import Object
from tests.cluster.balanced import Balanced, conditions_of
from tests.cluster.machines import Machines, cluster_on
from tests.cluster.rig import LB, Rig
from weir.pins import Map

SERVICES, NAMESPACE = 1000, "bench"
LARGE, RATE, SECONDS = 10_000, 100, 60
_PATIENCE_S = 20
_SLICES = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"


def run(quick: bool) -> list[Table]:
    with site(100 if quick else SERVICES) as (weir, machines):
        alone = changes(weir, None, 20 if quick else 200)
        machines.start_proxies()
        beside = changes(weir, Nft(machines), 5 if quick else 30)
    unit = f"{100 if quick else SERVICES} Services of ten endpoints, onearm"
    tables = [
        Table(title=f"{title}", unit="ms", rows=quantiles("", sorted(times)), note=unit)
        for title, times in (*alone.items(), *beside.items())
    ]
    return [*tables, *(size() if not quick else ())]


def size() -> list[Table]:
    """10,000 Services and 100,000 endpoints, 100 changes a second."""
    with site(LARGE) as (weir, _):
        pids = weir.pids()
        memory = tuple(Row(name, (rss_kb(pid) / 1024,)) for name, pid in pids.items())
        before = {name: cpu_s(pid) for name, pid in pids.items()}
        lags = paced(weir, SECONDS)
        used = tuple(Row(name, (100 * (cpu_s(pid) - before[name]) / SECONDS,)) for name, pid in pids.items())
        later = tuple(Row(name, (rss_kb(pid) / 1024,)) for name, pid in pids.items())
    note = f"{LARGE} Services of ten endpoints; {RATE} endpoints changed a second for {SECONDS} s"
    return [
        Table(title="memory at size", unit="MB", rows=memory, note=note),
        Table(title="memory after the changes", unit="MB", rows=later, note=note),
        Table(title="CPU under changes", unit="% of a core", rows=used, note=note),
        Table(title="answer of the API to the kernel, under changes", unit="ms", rows=quantiles("", sorted(lags)), note=note),
    ]


@contextmanager
def site(services: int) -> Iterator[tuple[Balanced, Machines]]:
    """A cluster with that many Services, all programmed and told so, and one node, which is Weir's."""
    with Rig("wbench", {}) as rig, cluster_on(rig) as machines:
        cluster = machines.cluster
        cluster.install_crds()
        cluster.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        cluster.api.apply(pool())
        with ThreadPoolExecutor(16) as several:
            list(several.map(lambda number: _make(machines, number), range(services)))
        machines.start()
        with Balanced(rig, {"kube": cluster}) as weir:
            frontends = _frontends(weir)
            _wait(lambda: sum(1 for _ in frontends.items()) == services, 600, 0.1)
            weir.settled(600)
            _wait(lambda: _told(machines) == services, 1200, 2)
            yield weir, machines


def changes(weir: Balanced, nft: "Nft | None", rounds: int) -> dict[str, list[float]]:
    """Milliseconds from the request that changes one of ten endpoints, by who had it when; `beyond the API`: after a watch told it."""
    dice, frontends = random.Random(1), _frontends(weir)
    watch = Watch(weir)
    names = ["a watch", "Weir's kernel map", "Weir's, beyond the watch"] + (["kube-proxy's nftables, beyond the watch"] if nft else [])
    times: dict[str, list[float]] = {f"{name}{' (kube-proxy beside it)' if nft else ''}": [] for name in names}
    number_of = len(weir.cluster.api.items(_SLICES))
    for number in dice.sample(range(number_of), rounds):
        where = FrontendKey(vip(number), PORT, "TCP").pack()
        before = frontends.get(where)
        begun_s = time.perf_counter()
        address = _move(weir, number, 11 if nft else 10)
        _wait(lambda w=where, b=before: frontends.get(w) != b)
        applied_s = time.perf_counter()
        told_s = watch.when(address)
        found = [told_s - begun_s, applied_s - begun_s, applied_s - told_s] + ([nft.when(number, address) - told_s] if nft else [])
        for name, took_s in zip(times, found, strict=True):
            times[name].append(took_s * 1000)
        time.sleep(dice.uniform(0.02, 0.06))  # the pace
    return times


def paced(weir: Balanced, seconds: int) -> list[float]:
    """Changes at RATE; one in fifty is timed, from the API's answer to the kernel, in milliseconds."""
    frontends, lags = _frontends(weir), list[float]()
    begun_s, sent = time.perf_counter(), 0
    with ThreadPoolExecutor(8) as several:
        while (now_s := time.perf_counter() - begun_s) < seconds:
            due = int(now_s * RATE) - sent
            for _ in range(due):
                sent += 1
                several.submit(_timed_change, weir, frontends, (sent * 7919) % LARGE, 9 + sent % 7, lags if sent % 50 == 0 else None)
            time.sleep(0.005)
    print(f"{sent} changes sent in {time.perf_counter() - begun_s:.0f} s", flush=True)
    return lags


def _timed_change(weir: Balanced, frontends: Map, number: int, last: int, lags: list[float] | None) -> None:
    where = FrontendKey(vip(number), PORT, "TCP").pack()
    before = frontends.get(where)
    _move(weir, number, last)
    answered_s = time.perf_counter()
    if lags is not None:
        _wait(lambda: frontends.get(where) != before)
        lags.append((time.perf_counter() - answered_s) * 1000)


class Watch:
    """A watch beside Weir's: when it told of an address."""

    def __init__(self, weir: Balanced) -> None:
        self._seen: dict[str, float] = {}
        self._api = weir.cluster.api
        version = self._api.get(_SLICES, limit="1")["metadata"]["resourceVersion"]
        threading.Thread(target=self._follow, args=(version,), daemon=True).start()

    def when(self, address: str) -> float:
        """perf_counter()."""
        _wait(lambda: address in self._seen)
        return self._seen[address]

    def _follow(self, version: str) -> None:
        for event in self._api.watch(_SLICES, version):
            at_s = time.perf_counter()
            for endpoint in event["object"].get("endpoints") or ():
                self._seen.setdefault(endpoint["addresses"][0], at_s)


class Nft:
    """kube-proxy's rules of a Service on the LB node: asked again and again, as fast as `nft` answers."""

    def __init__(self, machines: Machines) -> None:
        self._machines = machines
        tables = self._list("table", "ip", "kube-proxy")
        self._chains = {int(number): chain for chain, number in re.findall(rf"chain (service-\w+-{NAMESPACE}/s(\d+)/tcp/) {{", tables)}

    def when(self, number: int, address: str) -> float:
        """perf_counter() once the rules of Service `number` name an endpoint."""
        _wait(lambda: f"{address} ." in self._list("chain", "ip", "kube-proxy", self._chains[number]))
        return time.perf_counter()

    def _list(self, *what: str) -> str:
        out: str = self._machines.rig.run(LB, "nft", "list", *what).stdout
        return out


def _make(machines: Machines, number: int) -> None:
    api, found = machines.cluster.api, service(number)
    spec: Object = found["spec"]  # type: ignore[assignment]
    spec["allocateLoadBalancerNodePorts"] = False  # there are 2,768 of them
    api.post(f"/api/v1/namespaces/{NAMESPACE}/services", found)
    api.post(_SLICES, endpoints(number))


def _move(weir: Balanced, number: int, last: int) -> str:
    """Moves the last of a Service's endpoints; returns its address."""
    found: list[Object] = endpoints(number, last=last)["endpoints"]  # type: ignore[assignment]
    weir.cluster.api.patch(f"{_SLICES}/s{number}", {"endpoints": found})
    address: str = found[-1]["addresses"][0]
    return address


def _frontends(weir: Balanced) -> Map:
    return Map.open(weir.where.pins / f"v{LAYOUT}" / "frontends")


def _told(machines: Machines) -> int:
    """How many Services have a record that says they are programmed: the last that is written of them."""
    records = machines.cluster.api.items(f"/apis/weir.dev/v1alpha1/namespaces/{NAMESPACE}/lbservices")
    return sum(conditions_of(record).get("Programmed", ("", ""))[0] == "True" for record in records)


def _wait(done: Callable[[], bool], seconds: float = _PATIENCE_S, step_s: float = 0.0001) -> None:
    begun_s = time.perf_counter()
    while not done():
        if time.perf_counter() - begun_s > seconds:
            raise TimeoutError("it never came")
        time.sleep(step_s)


if __name__ == "__main__":
    for table in run(quick=False):
        print(table.markdown())
