"""Packets of a client through BPF into a real Envoy, and on to backends: both hooks, both families."""

import asyncio
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from services.dataplane.l4.apply import Applier
from services.dataplane.l4.kernel import MAPS
from services.dataplane.l7 import places as envoy
from tests.dataplane.conftest import needs_kernel
from tests.dataplane.lab import inside
from tests.dataplane.wire import VIPS, Wire, name, wire
from tests.l7.conftest import missing_envoy
from tests.l7.plans import events
from tests.l7.proxy import Proxy, proxy
from weir.demo.network import wait_until

pytestmark = [needs_kernel, pytest.mark.skipif(bool(missing_envoy()), reason=missing_envoy())]
Test = Callable[[Proxy, Wire], Awaitable[None]]

PLAN = "".join(
    f"- {{type: vip_planned, vip: '{vip}', root: {{kind: Gateway, namespace: shop, name: edge}}}}\n"
    f"- {{type: frontend_planned, vip: '{vip}', port: 80, protocol: TCP, owner: Gateway/shop/edge, sets: [], mode: proxy}}\n"
    for vip in VIPS
)
PLAN += f"""
- {{type: listener_planned, port: 80, vips: ['{VIPS[0]}', '{VIPS[1]}'], chains: [{{name: http}}]}}
- type: virtualhost_planned
  port: 80
  chain: http
  hostname: "*"
  rules: [{{route: HTTPRoute/shop/web, rule: "0", match: {{}}, shares: [{{upstream: "shop/web:80"}}]}}]
- type: upstream_planned
  name: "shop/web:80"
  sets: [{{name: "shop/web:80/TCP:IPv4", chunks: 1}}, {{name: "shop/web:80/TCP:IPv6", chunks: 1}}]
- type: backends_planned
  set: "shop/web:80/TCP:IPv4"
  chunk: 0
  chunks: 1
  protocol: TCP
  backends: [{{address: 10.1.0.11, port: 8080}}]
- type: backends_planned
  set: "shop/web:80/TCP:IPv6"
  chunk: 0
  chunks: 1
  protocol: TCP
  backends: [{{address: "fd01::12", port: 8080}}]
"""


@pytest.fixture(scope="module", params=["tc", "xdp-generic"])
def built(request: pytest.FixtureRequest) -> Iterator[Wire]:
    with wire(f"front={request.param}", "back=tc") as built:
        yield built


def run(built: Wire, folder: Path, test: Test) -> None:
    async def whole() -> None:
        async with proxy(folder) as found:
            position = found.tell(*events(PLAN))
            Applier({title: built.map(title) for title in (*MAPS, "backend_up", "interfaces")}, "n1").apply_all(found.world)
            await found.applied(position)
            assert found.applier.rejections() == []
            await test(found, built)

    with inside(name("lb")):
        asyncio.run(whole())


def fetch(vip: str, upload: bytes = b"", words: int = 1) -> tuple[str, str]:
    """As the client: which backend answered, and the client's own address and port."""
    with inside(name("c")), closing(http.client.HTTPConnection(vip, 80, timeout=5)) as connection:
        connection.request(*(("POST", "/", upload) if upload else ("GET", f"/{words}")))
        own = connection.sock.getsockname()
        return connection.getresponse().read().decode(), f"{own[0]}:{own[1]}" if ":" not in vip else f"[{own[0]}]:{own[1]}"


def test_requests_reach_envoy_with_the_clients_address(built: Wire, tmp_path: Path) -> None:
    async def test(found: Proxy, built: Wire) -> None:
        before = built.verdict("delivered")
        clients = set()
        for vip in VIPS:
            answers = [await asyncio.to_thread(fetch, vip) for _ in range(20)]
            assert {body.split()[0] for body, _ in answers} == {"b1", "b2"}
            clients |= {client for _, client in answers}
            assert len((await asyncio.to_thread(fetch, vip, b"", 100_000))[0]) == 300_000
            assert (await asyncio.to_thread(fetch, vip, b"x" * 3_000_000))[0] == ""
        assert built.verdict("delivered") > before + 40

        def logged() -> set[str]:
            lines = (tmp_path / "envoy.log").read_text().splitlines()
            return {json.loads(line)["client"] for line in lines if line.startswith("{")}

        assert await asyncio.to_thread(wait_until, lambda: clients <= logged(), 15), "Envoy writes its log at intervals"

    run(built, tmp_path, test)


def test_every_other_port_of_a_vip_stays_closed(built: Wire, tmp_path: Path) -> None:
    def reaches(address: str) -> bool:
        with inside(name("c")):
            try:
                socket.create_connection((address, 81), timeout=5).close()
            except OSError:
                return False
        return True

    async def test(found: Proxy, built: Wire) -> None:
        with socket.create_server(("::", 81), family=socket.AF_INET6, dualstack_ipv6=True):
            assert [await asyncio.to_thread(reaches, address) for address in ("192.0.2.254", "fd02::fe", *VIPS)] == [
                True,
                True,
                False,
                False,
            ]

    run(built, tmp_path, test)


def test_envoy_killed_under_load_with_no_agent_is_back_from_its_files(built: Wire, tmp_path: Path) -> None:
    async def test(found: Proxy, built: Wire) -> None:
        assert found.envoy
        found.envoy.terminate()
        found.envoy.wait()
        kept = envoy.kept(found.files, tmp_path / "envoy.log")
        options = ["--run", str(tmp_path), "--name", kept.name, "--needs", str(kept.needs), "--log", str(kept.log), "--", *kept.command]
        keeper = subprocess.Popen([sys.executable, "-m", "services.dataplane.keeper", *options])
        try:
            assert await asyncio.to_thread(wait_until, lambda: served(VIPS[0]), 20)
            first = int((tmp_path / "envoy.pid").read_text())
            gap_s = await asyncio.to_thread(longest_gap, first)
            assert int((tmp_path / "envoy.pid").read_text()) != first
            print(f"\nlongest time without an answer: {gap_s * 1000:.0f} ms")
            assert await asyncio.to_thread(wait_until, lambda: served(VIPS[1]), 20)
            capabilities = Path(f"/proc/{int((tmp_path / 'envoy.pid').read_text())}/status").read_text()
            assert "CapEff:\t0000000000000400" in capabilities
            assert "NoNewPrivs:\t1" in capabilities
        finally:
            keeper.terminate()
            keeper.wait()
        assert not served(VIPS[0])

    run(built, tmp_path, test)


def served(vip: str) -> bool:
    try:
        return bool(fetch(vip)[0])
    except (OSError, http.client.HTTPException):
        return False


def longest_gap(pid: int) -> float:
    """Seconds between two answers at most, with requests all the time, while Envoy is killed."""
    killed = threading.Timer(0.5, subprocess.run, (["kill", "-9", str(pid)],))
    killed.start()
    end_s, last_s, gap_s = time.monotonic() + 4, time.monotonic(), 0.0
    while time.monotonic() < end_s:
        if served(VIPS[0]):
            gap_s, last_s = max(gap_s, time.monotonic() - last_s), time.monotonic()
    killed.join()
    return gap_s
