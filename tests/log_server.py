"""A NATS with the users, the certificates and the log of a cluster, for tests of what they may."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import msgspec

from weir.bus.client import Bus
from weir.cli.box.credentials import credentials
from weir.decider import Decided
from weir.demo.network import wait_until
from weir.events import NodeAddressesObserved


class LogServer:
    """One that runs.  `keys`: the folder of `weir credentials`."""

    def __init__(self, keys: Path, url: str, log: Path) -> None:
        self.keys, self.url, self.log = keys, url, log

    def environment(self, file: str) -> dict[str, str]:
        """What shows a process to be the user whose seed is `file`."""
        access = {"WEIR_NATS": self.url, "WEIR_NATS_SEED": str(self.keys / file), "WEIR_NATS_CA": str(self.keys / "ca.crt")}
        return {**os.environ, **access}

    def report_addresses(self, node: str) -> None:
        """LB node `node` reports that it has none: before one reports, no VIP is given."""

        async def append() -> None:
            author = f"dataplane-{node}"
            async with await Bus.connect(self.url, author) as bus:
                await bus.append(author, [Decided(NodeAddressesObserved(node=node), 0)], await bus.last(author))

        with patch.dict(os.environ, self.environment(f"dataplane-{node}.seed")):
            asyncio.run(append())


@contextmanager
def log_server(folder: Path, nodes: Sequence[str], port: int, inside: Sequence[str] = (), host: str = "127.0.0.1") -> Iterator[LogServer]:
    """Runs it, makes the log, ends it.   inside: words before a command that run it elsewhere."""
    keys, log = folder / "keys", folder / "nats.log"
    credentials(keys, nodes, (host,))
    config = {
        "listen": f"{host}:{port}",
        "tls": {"cert_file": str(keys / "tls.crt"), "key_file": str(keys / "tls.key")},
        "jetstream": {"store_dir": str(folder / "store"), "max_file_store": 1 << 30},
        "log_file": str(log),
    }
    (folder / "nats.conf").write_bytes(msgspec.json.encode(config)[:-1] + b', include "keys/users.conf"\n}')
    server = subprocess.Popen([*inside, str(Path(sys.executable).with_name("nats-server")), "-c", str(folder / "nats.conf")])
    try:
        assert wait_until(lambda: log.exists() and "Server is ready" in log.read_text(), 30)
        found = LogServer(keys, f"nats://{host}:{port}", log)
        create = [*inside, sys.executable, "-m", "weir.cli", "log", "create", "--size", "64MiB"]
        subprocess.run(create, env=found.environment("bootstrap.seed"), check=True, capture_output=True, timeout=60)
        yield found
    finally:
        server.terminate()
        server.wait(60)
