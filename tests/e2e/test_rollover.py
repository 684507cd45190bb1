"""A Service of 1,000 endpoints is rolled over under load, one endpoint after the other, as a Deployment does it."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import Running, running_weir
from weir.demo.load import Load
from weir.demo.network import wait_until

SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"namespace": "big", "name": "web"},
    "spec": {"type": "LoadBalancer", "loadBalancerIP": "203.0.113.20", "ports": [{"port": 80, "targetPort": 8080}]},
}
ENDPOINTS, SLICE = 1000, 100
PER_SECOND = 25


@pytest.fixture(scope="module")
def weir() -> Iterator[Running]:
    with running_weir("weirroll") as found:
        yield found


def test_a_thousand_endpoints_rolled_over_lose_no_request(weir: Running) -> None:
    everywhere(weir)
    folder = weir.stage.folder / "shop"
    old = [f"10.78.{n // 250}.{n % 250 + 1}" for n in range(ENDPOINTS)]
    new = [f"10.78.{n // 250 + 4}.{n % 250 + 1}" for n in range(ENDPOINTS)]
    for number in range(ENDPOINTS // SLICE):
        write(folder / f"big-{number}.json", endpoint_slice(number, [(address, True) for address in old[number * SLICE :][:SLICE]]))
    write(folder / "big.json", SERVICE)
    assert wait_until(lambda: "203.0.113.20" in weir.vips(), 30)
    weir.settled(60)
    before = facts(weir)
    with Load(weir.network, "--target", "203.0.113.20", "--port", "80", "--http", "32", "--rate", "400", "--flows", "0") as load:
        begun = time.monotonic()
        for index in range(ENDPOINTS):
            number = index // SLICE
            gone, here = new[number * SLICE : index], old[index + 1 : (number + 1) * SLICE]
            leaving = [(old[index], False)]
            write(
                folder / f"big-{number}.json",
                endpoint_slice(number, [(a, True) for a in gone] + leaving + [(a, True) for a in [new[index], *here]]),
            )
            if index % SLICE == SLICE - 1:
                write(folder / f"big-{number}.json", endpoint_slice(number, [(a, True) for a in new[number * SLICE :][:SLICE]]))
            time.sleep(max(0.0, begun + (index + 1) / PER_SECOND - time.monotonic()))  # the pace of the rollover
        weir.settled(60)
        report = load.stop()
    after = facts(weir)[len(before) :]
    tell(after)
    assert report.lost == 0, report.errors
    assert report.http.good > 1000
    held = {
        row["endpoint"]
        for lb in weir.stage.ask("get lb")
        if lb["ext ip"] == "203.0.113.20"
        for row in lb["endpoints"]
        if row["state"] != "draining"
    }
    assert held == set(new)


def everywhere(weir: Running) -> None:
    """b1 answers on all of 10.78.0.0/16."""
    weir.network.run("b1", "ip", "route", "add", "local", "10.78.0.0/16", "dev", "lo")
    weir.network.run("lb", "ip", "route", "add", "10.78.0.0/16", "via", "10.77.0.11")


def endpoint_slice(number: int, endpoints: list[tuple[str, bool]]) -> dict[str, object]:
    def one(address: str, ready: bool) -> dict[str, object]:
        conditions = {"ready": ready, "serving": True, "terminating": not ready}
        return {"addresses": [address], "conditions": conditions}

    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"namespace": "big", "name": f"web-{number}", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"port": 8080}],
        "endpoints": [one(*endpoint) for endpoint in endpoints],
    }


def write(path: Path, document: dict[str, object]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(document))
    temporary.rename(path)


def facts(weir: Running) -> list[dict[str, object]]:
    lines = weir.network.run("lb", *weir.command("log", "tail", "-n", "100000", "-o", "jsonl")).stdout.splitlines()
    return [json.loads(line) for line in lines]


def tell(after: list[dict[str, object]]) -> None:
    """Bytes of log, map writes and latency; figures for the reader, not a verdict."""
    from datetime import datetime

    times = {fact["sequence"]: datetime.fromisoformat(str(fact["time"])).timestamp() for fact in after}
    kinds: dict[str, list[int]] = {}
    for fact in after:
        kinds.setdefault(str(fact["event"]["type"]), []).append(len(json.dumps(fact["event"], separators=(",", ":"))))  # type: ignore[index]
    applied = [fact["event"] for fact in after if fact["event"]["type"] == "applied_through"]  # type: ignore[index]
    observed = sorted(times[f["sequence"]] for f in after if f["event"]["type"] == "endpointslice_observed")  # type: ignore[index]
    acks = [(fact["sequence"], fact["event"]["seq"]) for fact in after if fact["event"]["type"] == "applied_through"]  # type: ignore[index]
    seen = {fact["sequence"] for fact in after if fact["event"]["type"] == "endpointslice_observed"}  # type: ignore[index]
    delays = sorted(1000 * (next(times[a] for a, upto in acks if upto > s) - times[s]) for s in seen if any(upto > s for _, upto in acks))
    print(f"\n{len(observed)} changes, {len(after)} facts, {sum(map(sum, kinds.values()))} bytes of log")
    for kind, sizes in sorted(kinds.items()):
        print(f"  {kind:<24} {len(sizes):>6} facts {sum(sizes):>9} bytes")
    print(f"  map writes {sum(a.get('writes', 0) for a in applied)}")
    print(f"  observed -> acknowledged: p50 {delays[len(delays) // 2]:.0f} ms, p99 {delays[len(delays) * 99 // 100]:.0f} ms")
