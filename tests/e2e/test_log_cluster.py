"""Three NATS servers by the configuration of deploy/base: they hold the log together, and take no server without their CA's word."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.log_server import LogServer
from tests.own import free_ports
from weir.bus.client import Bus
from weir.bus.reader import LogError, Refused
from weir.bus.snapshots import newest, sequences
from weir.bus.snapshotter import take, tidy
from weir.bus.subjects import STATE, STREAM
from weir.cli.box.credentials import credentials
from weir.decider import Decided
from weir.demo.network import wait_until
from weir.events import VipReleased
from weir.model import Root

CONFIG = Path(__file__).parents[2] / "deploy" / "base" / "nats"
_CREATE = [sys.executable, "-m", "weir.cli", "log", "create", "--replicas", "3", "--size", "16MiB"]
PORTS = free_ports(12)
CLIENTS, PEERS, PROBES = PORTS[:4], PORTS[4:8], PORTS[8:]


class Three:
    """Servers that run, by number."""

    def __init__(self, folder: Path) -> None:
        self.keys, self._folder = folder / "keys", folder
        credentials(self.keys, (), ())
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, number: int, keys: Path | None = None) -> None:
        """keys: other ones than the log's."""
        own = self._folder / str(number)
        (own / "config").mkdir(parents=True)
        (own / "keys").symlink_to(keys or self.keys)
        for path in CONFIG.glob("*.conf"):
            (own / "config" / path.name).write_text(self._local(path.read_text(), own, number))
        with (own / "log").open("w") as log:
            server = [str(Path(sys.executable).with_name("nats-server")), "-c", str(own / "config/nats.conf")]
            self.processes[number] = subprocess.Popen(server, stdout=log, stderr=log)

    def log(self, number: int) -> str:
        return (self._folder / str(number) / "log").read_text()

    def _local(self, text: str, own: Path, number: int) -> str:
        for old, first in (("0.0.0.0:4222", CLIENTS), ("0.0.0.0:6222", PEERS), ("0.0.0.0:8222", PROBES)):
            text = text.replace(old, f"127.0.0.1:{first[number]}")
        for peer in range(3):
            text = text.replace(f"nats-{peer}.nats-peers.weir-system.svc:6222", f"localhost:{PEERS[peer]}")
        return text.replace("/etc/nats/keys", str(own / "keys")).replace('"/data"', f'"{own}/data"').replace("$POD_NAME", f"nats-{number}")


@contextmanager
def three(folder: Path) -> Iterator[Three]:
    found = Three(folder)
    try:
        for number in range(3):
            found.start(number)
        yield found
    finally:
        for process in found.processes.values():
            process.kill()
            process.wait(10)


def test_three_servers_hold_the_log_and_two_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with three(tmp_path) as servers:
        urls = [f"nats://localhost:{CLIENTS[number]}" for number in range(3)]
        server = LogServer(servers.keys, ",".join(urls), tmp_path)
        assert _create(server, "--timeout=2m").returncode == 0
        assert wait_until(lambda: _append(server, monkeypatch, fence=0), 60)
        assert wait_until(lambda: _snapshots(server) == [1], 60)
        leader = _leader(server, monkeypatch)
        servers.processes[leader].kill()
        left = LogServer(servers.keys, ",".join(url for number, url in enumerate(urls) if number != leader), tmp_path)
        assert wait_until(lambda: _append(left, monkeypatch, fence=1), 60)
        assert wait_until(lambda: _snapshots(left) == [1, 2], 60)


def test_creating_the_log_waits_for_its_servers(tmp_path: Path) -> None:
    """The Job of deploy/base begins before NATS does: an attempt that fails costs it kubelet's back-off."""
    urls = ",".join(f"nats://localhost:{CLIENTS[number]}" for number in range(3))
    credentials(tmp_path / "keys", (), ())
    server = LogServer(tmp_path / "keys", urls, tmp_path)
    assert _create(server).returncode == 2, "without --timeout it waits for nothing"
    with subprocess.Popen(
        [*_CREATE, "--timeout=2m"], env=server.environment("bootstrap.seed"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as waiting:
        assert waiting.stderr
        assert "waiting up to 120 s for the log: no NATS at" in waiting.stderr.readline()
        with three(tmp_path):
            rest = waiting.stderr.read()
    assert waiting.returncode == 0, rest


def test_creating_the_log_gives_up_in_the_end_and_says_why(tmp_path: Path) -> None:
    credentials(tmp_path / "keys", (), ())
    done = _create(LogServer(tmp_path / "keys", f"nats://localhost:{CLIENTS[0]}", tmp_path), "--timeout=1s")
    assert done.returncode == 2
    assert f"the log of instance weir cannot be read: no NATS at nats://localhost:{CLIENTS[0]}" in done.stderr


def test_a_server_of_another_ca_is_not_taken_for_one_of_them(tmp_path: Path) -> None:
    credentials(tmp_path / "others", (), ())
    with three(tmp_path) as servers:
        servers.start(3, tmp_path / "others")
        assert wait_until(lambda: "certificate signed by unknown authority" in servers.log(3) + servers.log(0) + servers.log(1), 30), (
            servers.log(3)[-1500:] + servers.log(0)[-1500:]
        )


def _create(server: LogServer, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_CREATE, *words], env=server.environment("bootstrap.seed"), capture_output=True, text=True, timeout=200, check=False
    )


def _append(server: LogServer, monkeypatch: pytest.MonkeyPatch, fence: int) -> bool:
    """Whether ipam could write a fact behind its last, `fence`."""

    released = VipReleased(vip=f"203.0.113.{fence}", pool="public", holders=(), root=Root(kind="Service", name="web"))

    async def attempt() -> None:
        async with await Bus.connect(server.url, "ipam") as bus:
            await bus.append("ipam", [Decided(released, 0)], fence)

    _as(server, "ipam.seed", monkeypatch)
    try:
        asyncio.run(attempt())
    except Refused as refused:
        return refused.code == 10201  # stored by an earlier attempt, of which no answer came in time
    except LogError as error:
        print(error)
        return False
    return True


def _snapshots(server: LogServer) -> list[int]:
    """Where there are snapshots, with one as of now, taken with ipam's key; empty while a stream elects its leader."""

    async def attempt() -> list[int]:
        async with await Bus.connect(server.url, "ipam") as bus:
            head = (await bus.stream())["state"]["last_seq"]
            if await newest(bus) is None or (await sequences(bus))[-1] < head:
                assert (await take(bus)).entities == head
            await tidy(bus)
            return await sequences(bus)

    try:
        return asyncio.run(attempt())
    except LogError as error:
        print(error)
        return []


def _leader(server: LogServer, monkeypatch: pytest.MonkeyPatch) -> int:
    """Whoever leads the stream, once the others hold what it holds; the number of its server."""

    async def question() -> int:
        async with await Bus.connect(server.url, "bootstrap") as bus:
            info = [(await bus.stream(name))["cluster"] for name in (STREAM, STATE)]
            current = all(peer["current"] for each in info for peer in each["replicas"])
            assert [len(each["replicas"]) for each in info] == [2, 2]
            return int(info[0]["leader"].rpartition("-")[2]) if current else -1

    _as(server, "bootstrap.seed", monkeypatch)
    found: list[int] = []

    def known() -> bool:
        with contextlib.suppress(LogError, KeyError):  # there is none while they elect one
            found[:] = [asyncio.run(question())]
        return found > [-1]

    assert wait_until(known, 60)
    return found[0]


def _as(server: LogServer, seed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in server.environment(seed).items():
        monkeypatch.setenv(key, value)
