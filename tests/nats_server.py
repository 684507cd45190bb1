"""A NATS of a test's own, on a port that was free, with JetStream in a folder."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from weir.bus.client import Bus
from weir.bus.subjects import STREAM
from weir.demo.network import wait_until


class NatsServer:
    """url: of the one that runs, the same after each start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> None:
        ports = self._folder / "ports"
        ports.mkdir(exist_ok=True)
        config = {
            "listen": self.url.removeprefix("nats://") or "127.0.0.1:-1",
            "jetstream": {"store_dir": str(self._folder / "store"), "sync_interval": "always"},
            "log_file": str(self._folder / "nats.log"),
            "ports_file_dir": str(ports),
        }
        (self._folder / "nats.conf").write_bytes(msgspec.json.encode(config))
        server = Path(sys.executable).with_name("nats-server")
        self._process = subprocess.Popen([server, "-c", self._folder / "nats.conf"], stderr=subprocess.DEVNULL)
        assert wait_until(lambda: _told(ports), 30), (self._folder / "nats.log").read_text()
        self.url = _told(ports)
        assert wait_until(lambda: asyncio.run(self._answers()), 30), (self._folder / "nats.log").read_text()

    async def _answers(self) -> bool:
        try:
            async with await Bus.connect(self.url, "test") as bus:
                await bus.api("INFO")
        except Exception as error:
            return not error
        return True

    def kill(self) -> None:
        assert self._process
        self._process.kill()
        self._process.wait()
        for left in (self._folder / "ports").glob("*.ports"):
            left.unlink()


def _told(ports: Path) -> str:
    """The URL that the server wrote there; "" while it has not, or not all of it."""
    for file in ports.glob("*.ports"):
        with contextlib.suppress(msgspec.DecodeError):
            return str(msgspec.json.decode(file.read_bytes())["nats"][0])
    return ""


@contextmanager
def nats_server(folder: Path) -> Iterator[NatsServer]:
    """Runs it, and ends it."""
    server = NatsServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


async def keep_for(bus: Bus, age_s: float) -> None:
    """Events older than that expire: shorter than `weir log limit` lets an operator ask for."""
    config: dict[str, Any] = (await bus.stream())["config"]
    age_ns = int(age_s * 1e9)
    await bus.api(f"STREAM.UPDATE.{STREAM}", config | {"max_age": age_ns, "duplicate_window": min(age_ns, config["duplicate_window"])})
