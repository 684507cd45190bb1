"""Network namespaces for a client, the load balancer, N backends, and the switch between the latter two.

    client eth0 ───── front lb back ───── back switch b1 … bN ───── eth0 b1 … bN
    10.76.0.2         10.76.0.1  10.77.0.1                          10.77.0.11 …
    fd76::2           fd76::1    fd77::1                            fd77::11 …

The client takes the VIP networks for on-link, so it asks for every VIP by ARP and NDP.  Commands enter a namespace with nsenter:
`ip netns exec` would give them a mount namespace of their own, and BPF pins made there vanish with it.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, Self

VIP_NETWORKS = ("203.0.113.0/24", "2001:db8:113::/64")
CLIENT = ("10.76.0.2", "fd76::2")
HTTP_PORT, UDP_PORT = 8080, 5353  # of every backend

_FORWARD = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")
_DAD = ("net.ipv6.conf.all.accept_dad", "net.ipv6.conf.default.accept_dad")  # off before a link is there: addresses serve at once
_ANNOUNCE = ("net.ipv4.conf.all.arp_notify", "net.ipv6.conf.all.ndisc_notify")


class Network:
    """The network called `name`; several with different names live side by side, leftovers of the same name are replaced.

    Places are "client", "lb", "switch" and the backends "b1" … "bN".  On leaving, also by Ctrl-C, SIGTERM and SIGHUP, every
    process in it and all its namespaces are gone, unless `kept` was set.
    """

    def __init__(self, name: str, backends: int = 3) -> None:
        self.name = name
        self.backends = tuple(f"b{number}" for number in range(1, backends + 1))
        self.kept = False
        self._places = ("client", "lb", "switch", *self.backends)
        self._servers: dict[str, subprocess.Popen[str]] = {}
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        with contextlib.suppress(ValueError):  # not the main thread: whoever owns the signals cleans up
            self._handlers = {number: signal.signal(number, _exit) for number in (signal.SIGTERM, signal.SIGHUP)}
        try:
            self.build()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        with undisturbed():
            if not self.kept:
                self.destroy()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    # ── where things are ───────────────────────────────────────────────────────────────────────────────────────────

    def namespace(self, place: str) -> str:
        """The namespace's name, as `ip netns` lists it."""
        return f"{self.name}-{place}"

    def addresses(self, backend: str) -> tuple[str, str]:
        """The backend's IPv4 and IPv6 address."""
        number = self.backends.index(backend) + 11
        return f"10.77.0.{number}", f"fd77::{number}"

    # ── commands ───────────────────────────────────────────────────────────────────────────────────────────────────

    def command(self, place: str, *argv: str) -> list[str]:
        """`argv` as it must be run to run in `place`."""
        return ["nsenter", f"--net=/run/netns/{self.namespace(place)}", *argv]

    def run(self, place: str, *argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end, its output captured.  Raises CalledProcessError unless `check=False`."""
        return subprocess.run(self.command(place, *argv), **{"text": True, "capture_output": True, "check": True, **options})

    def popen(self, place: str, *argv: str, **options: Any) -> subprocess.Popen[str]:
        """Starts a command in a session of its own: Ctrl-C reaches it through `destroy` only."""
        return subprocess.Popen(self.command(place, *argv), **{"text": True, "start_new_session": True, **options})

    # ── backends ───────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self, *backends: str) -> None:
        """Starts the servers of `backends` (all, if none is named) and returns once they listen."""
        for backend in backends or self.backends:
            self._servers[backend] = self.popen(
                backend, sys.executable, "-m", "weir.demo.backend", "--name", backend, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
            )
        for backend in backends or self.backends:
            out = self._servers[backend].stdout
            assert out
            if not out.readline():
                raise RuntimeError(f"the server of {backend} ended before it listened")

    def pid(self, backend: str) -> int:
        """Of the server of `backend`."""
        return self._servers[backend].pid

    def stop(self, backend: str) -> None:
        """Kills the server of `backend` and waits until it is gone: its port answers with RST."""
        server = self._servers.pop(backend)
        server.kill()
        server.communicate()

    def set_link(self, backend: str, *, up: bool) -> None:
        """Plugs the backend's cable in or out; its addresses and routes stay, packets to it vanish unanswered."""
        self.run("switch", "ip", "link", "set", backend, "up" if up else "down")

    def change_mac(self, backend: str, *, announced: bool = True) -> str:
        """Gives the backend another MAC and returns it; `announced` by gratuitous ARP and unsolicited NA, as a moved VM does."""
        mac = "02:" + ":".join(f"{random.randrange(256):02x}" for _ in range(5))
        self._sysctl(backend, _ANNOUNCE, int(announced))
        self.run(backend, "ip", "link", "set", "eth0", "address", mac)
        return mac

    # ── building ───────────────────────────────────────────────────────────────────────────────────────────────────

    def build(self) -> None:
        """Makes the network anew."""
        self.destroy()
        _ip("".join(f"netns add {self.namespace(place)}\n" for place in self._places))
        for place in self._places:
            self._sysctl(place, _DAD, 0)
        _ip(self._cables())
        self._sysctl("lb", _FORWARD, 1)
        self._up("client", ("eth0",), [("eth0", f"{CLIENT[0]}/24", f"{CLIENT[1]}/64")], ("10.76.0.1", "fd76::1"), VIP_NETWORKS)
        self._up("lb", ("front", "back"), [("front", "10.76.0.1/24", "fd76::1/64"), ("back", "10.77.0.1/24", "fd77::1/64")])
        self._up("switch", ("bridge", "back", *self.backends))
        for backend in self.backends:
            v4, v6 = self.addresses(backend)
            self._up(backend, ("eth0",), [("eth0", f"{v4}/24", f"{v6}/64")], ("10.77.0.1", "fd77::1"))

    def destroy(self) -> None:
        """Ends every process in the network and removes it, also what an earlier run left.  Does nothing where nothing is."""
        places = [name for name in os.listdir("/run/netns") if name.startswith(f"{self.name}-")] if os.path.isdir("/run/netns") else []
        for number in (signal.SIGTERM, signal.SIGKILL):
            _end({pid for place in places for pid in _pids(place)}, number)
        for server in self._servers.values():
            server.communicate()
        self._servers.clear()
        _ip("".join(f"netns del {place}\n" for place in places))

    def _cables(self) -> str:
        space = self.namespace
        return (
            f"link add eth0 netns {space('client')} type veth peer name front netns {space('lb')}\n"
            f"link add back netns {space('lb')} type veth peer name back netns {space('switch')}\n"
            f"link add bridge netns {space('switch')} type bridge mcast_snooping 0\n"
        ) + "".join(f"link add eth0 netns {space(b)} type veth peer name {b} netns {space('switch')}\n" for b in self.backends)

    def _up(
        self,
        place: str,
        links: tuple[str, ...],
        addresses: list[tuple[str, ...]] | None = None,
        gateways: tuple[str, ...] = (),
        on_link: tuple[str, ...] = (),
    ) -> None:
        ports = links[1:] if links[0] == "bridge" else ()
        lines = [f"link set {port} master bridge" for port in ports]
        lines += [f"link set {link} up" for link in ("lo", *links)]
        lines += [f"address add {address} dev {link}" for link, *both in addresses or () for address in both]
        lines += [f"route add default via {gateway}" for gateway in gateways]
        lines += [f"route add {network} dev {links[0]}" for network in on_link]
        _ip("\n".join(lines), "-n", self.namespace(place))

    def _sysctl(self, place: str, names: tuple[str, ...], value: int) -> None:
        self.run(place, "sysctl", "-q", *(f"{name}={value}" for name in names))


def wait_until(done: Callable[[], bool], patience_s: float) -> bool:
    """Asks until `done`; tells whether it came within `patience_s`."""
    until = time.monotonic() + patience_s
    while not (reached := done()) and time.monotonic() < until:
        time.sleep(0.01)
    return reached


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP wait until the block is through."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ip(batch: str, *options: str) -> None:
    if batch:
        subprocess.run(["ip", *options, "-batch", "-"], input=batch, text=True, check=True)


def _pids(namespace: str) -> set[int]:
    out = subprocess.run(["ip", "netns", "pids", namespace], text=True, capture_output=True, check=False).stdout
    return {int(pid) for pid in out.split()}


def _end(pids: set[int], number: int, patience_s: float = 3) -> None:
    """Signals the processes and waits for them to go, at most `patience_s`; a stopped one is woken to hear it."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            os.kill(pid, signal.SIGCONT)
    wait_until(lambda: not any(_alive(pid) for pid in pids), patience_s)


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _exit(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)
