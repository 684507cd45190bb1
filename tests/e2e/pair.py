"""Two LB nodes side by side, a client on the same link, backends behind both, and a hub that plans for them.

    client ─┐                ┌─ lb1 ─┐
            ├─ front (bridge)┤       ├─ switch (bridge) ── b1 … bN, hub
            │                └─ lb2 ─┘
    10.76.0.2        10.76.0.11, .12   10.77.0.1, .2       10.77.0.11 …, 10.77.0.200

Backends send what is for others to 10.77.0.254, a VIP: whoever announces it also gets what they answer.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.log_server import LogServer, log_server
from weir.bus.permissions import CENTRAL, OPERATOR
from weir.cli.box.credentials import credentials
from weir.demo.network import CLIENT, VIP_NETWORKS, Network, _ip
from weir.demo.stage import clear
from weir.where import Where

ROOT = Path(__file__).parents[2]
NODES = ("lb-1", "lb-2")
PLACES = {"lb-1": "lb1", "lb-2": "lb2"}
GATEWAY = ("10.77.0.254", "fd77::fe")
HUB = ("10.77.0.200", "fd77::c8")
URL = f"nats://{HUB[0]}:4222"


class PairNetwork(Network):
    """See the module."""

    def __init__(self, name: str, backends: int = 3) -> None:
        super().__init__(name, backends)
        self._places = ("client", "front", "switch", "hub", *PLACES.values(), *self.backends)

    def build(self) -> None:
        """Makes the network anew."""
        self.destroy()
        _ip("".join(f"netns add {self.namespace(place)}\n" for place in self._places))
        for place in self._places:
            self._sysctl(place, ("net.ipv6.conf.all.accept_dad", "net.ipv6.conf.default.accept_dad"), 0)
        _ip(self._cables())
        self._up("client", ("eth0",), [("eth0", f"{CLIENT[0]}/24", f"{CLIENT[1]}/64")], (), VIP_NETWORKS)
        self._up("front", ("bridge", "client", *PLACES.values()))
        self._up("switch", ("bridge", "hub", *PLACES.values(), *self.backends))
        self._up("hub", ("eth0",), [("eth0", f"{HUB[0]}/24", f"{HUB[1]}/64")])
        for number, place in enumerate(PLACES.values(), 1):
            front, back = f"10.76.0.1{number}/24", f"10.77.0.{number}/24"
            self._sysctl(place, ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"), 1)
            self._up(place, ("front", "back"), [("front", front, f"fd76::1{number}/64"), ("back", back, f"fd77::{number}/64")])
        for backend in self.backends:
            v4, v6 = self.addresses(backend)
            self._up(backend, ("eth0",), [("eth0", f"{v4}/24", f"{v6}/64")], GATEWAY)

    def _cables(self) -> str:
        space = self.namespace
        lines = [f"link add bridge netns {space(place)} type bridge mcast_snooping 0" for place in ("front", "switch")]
        lines.append(f"link add eth0 netns {space('client')} type veth peer name client netns {space('front')}")
        for place in PLACES.values():
            lines.append(f"link add front netns {space(place)} type veth peer name {place} netns {space('front')}")
            lines.append(f"link add back netns {space(place)} type veth peer name {place} netns {space('switch')}")
        inside = ("hub", *self.backends)
        lines += [f"link add eth0 netns {space(place)} type veth peer name {place} netns {space('switch')}" for place in inside]
        return "\n".join(lines)

    def unplug(self, node: str, *switches: str) -> None:
        """What the node sends and what is sent to it vanishes on the way; its links stay up."""
        places = switches or ("front", "switch")
        for cut in [self.popen(switch, "ip", "link", "set", PLACES[node], "nomaster") for switch in places]:  # both at the same time
            assert cut.wait(10) == 0

    def plug(self, node: str, *switches: str) -> None:
        """Undoes `unplug`."""
        for switch in switches or ("front", "switch"):
            self.run(switch, "ip", "link", "set", PLACES[node], "master", "bridge")

    def mac(self, node: str, interface: str = "front") -> str:
        done = self.run(PLACES[node], "ip", "-j", "link", "show", interface)
        return str(json.loads(done.stdout)[0]["address"])

    def neighbour(self, vip: str) -> str:
        """The MAC that the client has for a VIP; "" for none."""
        found = json.loads(self.run("client", "ip", "-j", "neigh", "show", vip).stdout or "[]")
        return str(found[0].get("lladdr", "")) if found else ""


class Pair:
    """instance: the name of the installation on each node begins with it."""

    def __init__(self, network: PairNetwork, folder: Path, instance: str) -> None:
        self.network, self.folder, self.instance = network, folder, instance
        self.server: LogServer | None = None
        self.boxes: dict[str, subprocess.Popen[str]] = {}

    def weir(self, node: str, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        env = self.environment()
        place = PLACES.get(node, node)
        return self.network.run(place, sys.executable, "-m", "weir.cli", *words, cwd=ROOT, timeout=60, env=env, **options)

    def environment(self) -> dict[str, str]:
        return LogServer(self.folder / "keys", URL, self.folder).environment(f"{OPERATOR}.seed")

    def rows(self, *words: str) -> list[Any]:
        """What a command prints as JSON, asked from the hub in the operator's name."""
        done = self.weir("hub", *words, "-o", "json", "--instance", f"{self.instance}hub", check=False)
        return list(json.loads(done.stdout)) if done.stdout else []

    def taken_by(self, node: str) -> list[str]:
        """What the log says of VIPs that a node took."""
        words = ("log", "tail", "-n", "1000", "--kind", "vip_taken", "-o", "jsonl")
        done = self.weir("hub", *words, "--instance", f"{self.instance}hub")
        return [line for line in done.stdout.splitlines() if node in line]

    def named(self, node: str) -> str:
        return f"{self.instance}{NODES.index(node) + 1}"

    @contextmanager
    def running(self, place: str, log: str, argv: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
        with (self.folder / log).open("a") as out:
            process = self.network.popen(place, *argv, cwd=ROOT, stdout=out, stderr=out, **options)
            try:
                yield process
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(30)

    @contextmanager
    def hub(self, manifests: Path, *options: str) -> Iterator[None]:
        """NATS and the services that plan.   options: of the watcher."""
        inside = self.network.command("hub")
        with log_server(self.folder, NODES, 4222, inside, HUB[0]) as self.server, ExitStack() as stack:
            for service in CENTRAL:
                more = [*options, str(manifests)] if service == "watcher" else []
                argv = [sys.executable, "-m", f"services.{service}", "--instance", f"{self.instance}hub", *more]
                stack.enter_context(self.running("hub", f"{service}.log", argv, env=self.server.environment(f"{service}.seed")))
            yield

    @contextmanager
    def box(self, node: str, *options: str) -> Iterator[subprocess.Popen[str]]:
        """`weir join` on a node."""
        words = ("join", URL, "--credentials", str(self.folder / "keys"), "-i", "front", "-i", "back", "--node", node)
        argv = [sys.executable, "-m", "weir.cli", *words, "--instance", self.named(node), *options]
        with self.running(PLACES[node], f"{node}.log", argv) as self.boxes[node]:
            try:
                yield self.boxes[node]
            finally:
                self.signal(node, signal.SIGCONT)

    def processes(self, node: str) -> dict[str, int]:
        """Pids of a box by name."""
        return dict(json.loads((Where(self.named(node)).run / "pids.json").read_text()))

    def signal(self, node: str, number: int, *names: str) -> None:
        """Send a signal to processes of a box, all if none is named."""
        for name, pid in self.processes(node).items():
            if not names or name in names:
                with contextlib.suppress(ProcessLookupError):  # killed, and not started again
                    os.kill(pid, number)

    @contextmanager
    def streaming(self, vip: str, flows: int = 0, place: str = "client") -> Iterator[Callable[[], Any]]:
        """Runs a client; what is yielded ends it, and returns what it saw."""
        words = [sys.executable, "-m", "tests.e2e.stream", vip, "--flows", str(flows)]
        client = self.network.popen(place, *words, stdout=subprocess.PIPE, cwd=ROOT)
        assert client.stdout
        assert client.stdout.readline() == "sending\n"

        def end() -> Any:
            client.send_signal(signal.SIGTERM)
            assert client.stdout
            return json.loads(client.stdout.readline())

        try:
            yield end
        finally:
            client.kill()
            client.wait()

    def told(self) -> str:
        return "\n".join(f"{path.name}: {path.read_text()[-2500:]}" for path in sorted(self.folder.glob("*.log")))


@contextmanager
def installed(network: PairNetwork, folder: Path) -> Iterator[Pair]:
    """The network with its servers, keys for both nodes, and nothing of Weir left behind, before or after."""
    found = Pair(network, folder, network.name)
    credentials(folder / "keys", NODES, [HUB[0]])
    try:
        with network:
            network.start()
            for node in NODES:
                clear(found.named(node))
            yield found
    finally:
        for node in NODES:
            clear(found.named(node))
