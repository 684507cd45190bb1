"""The peers: each has a network of its own, alike but for what its load balancer is; all stand at once, idle but for the one measured.

    client ───── lb ───── switch ───── b1 b2 b3 (nginx, iperf3, a UDP receiver)

The VIPs are routed to the load balancer.  VIP and backends have the same ports, as plain routing changes none.
"""

import json
import os
import subprocess
import sys
from abc import ABC, abstractmethod
from itertools import starmap
from pathlib import Path
from shutil import which
from types import TracebackType
from typing import Self

from bench import installation
from bench.kube_proxy import ruleset
from bench.loads import STREAM_PORT, STREAM_VIP, VIP, VIP6, snmp, url
from services.dataplane.l4.layout import ID, LAYOUT, Frontend, Stats
from weir.demo.network import HTTP_PORT, UDP_PORT, VIP_NETWORKS, Network, wait_until
from weir.demo.stage import clear
from weir.pins import Map
from weir.where import Where

NAMESPACES = "bench-"  # what all their names begin with
READY_S = 60
FRONTENDS = ((VIP, "tcp", HTTP_PORT), (VIP, "udp", UDP_PORT), (STREAM_VIP, "tcp", STREAM_PORT), (VIP6, "tcp", HTTP_PORT))
QUIET = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)

NGINX = """
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
	access_log off;
	keepalive_requests 1000000000;
	server {{ listen {port} backlog=4096; listen [::]:{port} backlog=4096; location / {{ return 200 "{name}\\n"; }} }}
}}
"""

NGINX_STREAM = """
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
worker_processes auto;
pid {folder}/stream.pid;
error_log stderr crit;
events {{ worker_connections 4096; }}
stream {{
{servers}}}
"""

HAPROXY = """
global
	maxconn 4000
defaults
	mode tcp
	balance roundrobin
	timeout connect 5s
	timeout client 60s
	timeout server 60s
"""


class Peer(ABC):
    """A network with a load balancer in it, from `with` to its end.  folder: for what its programs want to read."""

    label: str
    name: str
    without_offloads = False  # as native XDP on veth needs it: it loses the checksums that the kernel left to the NIC
    refuses: tuple[str, ...] = ()  # names of loads that are not for it

    @classmethod
    def missing(cls) -> str:
        """Why this machine cannot have it; empty where it can."""
        return ""

    def __init__(self, folder: Path) -> None:
        self.network = Network(NAMESPACES + self.name)
        self.folder = folder / self.name

    def __enter__(self) -> Self:
        self.folder.mkdir()
        self.network.__enter__()
        try:
            self._offloads()
            for network, gateway in zip(VIP_NETWORKS, ("10.76.0.1", "fd76::1"), strict=True):
                self.network.run("client", "ip", "route", "replace", network, "via", gateway)
            self._serve()
            self.install()
            self._ready()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.network.__exit__(kind, error, traceback)

    @abstractmethod
    def install(self) -> None:
        """Puts the load balancer in place."""

    def passed(self) -> int:
        """Packets that its load balancer has taken to the other side."""
        v6 = self.network.run("lb", "grep", "Ip6OutForwDatagrams", "/proc/net/snmp6").stdout
        return snmp(self.network, "lb", "Ip", "ForwDatagrams") + int(v6.split()[1])

    def backends(self, vip: str) -> list[str]:
        """Addresses of those behind a VIP."""
        names = self.network.backends[:1] if vip == STREAM_VIP else self.network.backends
        return [self.network.addresses(name)[":" in vip] for name in names]

    def _offloads(self) -> None:
        if not self.without_offloads:
            return
        for place in ("client", *self.network.backends):
            self.network.run(place, "ethtool", "-K", "eth0", "tx", "off")
        for place, far_end in (("client", "eth0"), ("switch", "back")):  # a veth takes no frames from XDP unless its far end polls
            self.network.run(place, "ethtool", "-K", far_end, "gro", "on")

    def _serve(self) -> None:
        for name in self.network.backends:
            folder = self.folder / name
            folder.mkdir()
            (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=HTTP_PORT, name=name))
            self.network.popen(name, "nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;", **QUIET)
            self.network.popen(name, "iperf3", "-s", "-p", str(STREAM_PORT), **QUIET)
            receive = ("taskset", "-c", str(os.cpu_count() - 1), sys.executable, "-m", "bench.udp", "receive")
            self.network.popen(name, *receive, "0.0.0.0", str(UDP_PORT), **QUIET)

    def _ready(self) -> None:
        for vip in (VIP, VIP6):
            ask = ("curl", "-sf", "-m", "1", "--noproxy", "*", url(vip))
            if not wait_until(lambda ask=ask: self.network.run("client", *ask, check=False).returncode == 0, READY_S):  # type: ignore[misc]
                raise RuntimeError(f"{self.label}: no answer at {vip} after {READY_S} s")


class Plain(Peer):
    """No load balancer: the VIPs are addresses of the backends, and the router between has equal routes to them."""

    label, name = "plain routing", "plain"

    def install(self) -> None:
        self.network.run("lb", "sysctl", "-q", "net.ipv4.fib_multipath_hash_policy=1", "net.ipv6.fib_multipath_hash_policy=1")  # by ports
        for vip in (VIP, STREAM_VIP, VIP6):
            hops = [word for address in self.backends(vip) for word in ("nexthop", "via", address)]
            self.network.run("lb", "ip", "route", "add", vip, *hops)
        for name in self.network.backends:
            for vip in (VIP, STREAM_VIP, VIP6):
                self.network.run(name, "ip", "address", "add", _host(vip), "dev", "lo")


class PlainWithoutOffloads(Plain):
    """What XDP is to be compared with."""

    label, name = "plain routing, no offloads", "plainnotx"
    without_offloads = True


class KubeProxy(Peer):
    """nftables, as kube-proxy would set it up; the client's address stays."""

    label, name, masquerade = "nftables DNAT", "nft", False

    def install(self) -> None:
        frontends = [(vip, protocol, port, self.backends(vip)) for vip, protocol, port in FRONTENDS]
        for v6 in (False, True):
            own = [frontend for frontend in frontends if (":" in frontend[0]) is v6]
            self.network.run("lb", "nft", "-f", "-", input=ruleset(own, masquerade=self.masquerade))


class KubeProxyMasquerade(KubeProxy):
    """The other external traffic policy, Cluster."""

    label, name, masquerade = "nftables DNAT, masquerade", "nftmasq", True


class IPVS(Peer):
    """The kernel's own, as kube-proxy in ipvs mode uses it."""

    label, name = "IPVS NAT", "ipvs"

    @classmethod
    def missing(cls) -> str:
        subprocess.run(["modprobe", "ip_vs"], capture_output=True, check=False) if which("modprobe") else None
        return "" if Path("/proc/net/ip_vs").exists() else "this kernel has no ip_vs"

    def install(self) -> None:
        for vip, protocol, port in FRONTENDS:
            self.network.run("lb", "ip", "address", "replace", _host(vip), "dev", "lo")
            service = ("-t" if protocol == "tcp" else "-u", _socket(vip, port))
            self.network.run("lb", "ipvsadm", "-A", *service, "-s", "rr")
            for address in self.backends(vip):
                self.network.run("lb", "ipvsadm", "-a", *service, "-r", _socket(address, port), "-m")

    def passed(self) -> int:
        """Packets of its services, in and out."""
        return sum(int(word, 16) for word in self.network.run("lb", "sed", "-n", "3p", "/proc/net/ip_vs_stats").stdout.split()[1:3])


class Proxy(Peer):
    """A proxy of TCP, with its defaults."""

    refuses = ("udp",)

    def install(self) -> None:
        for vip in (VIP, STREAM_VIP, VIP6):
            self.network.run("lb", "ip", "address", "add", _host(vip), "dev", "lo")
        self.start([(vip, port) for vip, protocol, port in FRONTENDS if protocol == "tcp"])

    @abstractmethod
    def start(self, frontends: list[tuple[str, int]]) -> None:
        """Runs it."""

    def passed(self) -> int:
        """Segments that it took from its clients and its servers: half of them at most have gone on."""
        return snmp(self.network, "lb", "Tcp", "InSegs")


class HAProxy(Proxy):
    label, name = "HAProxy TCP", "haproxy"

    def start(self, frontends: list[tuple[str, int]]) -> None:
        (self.folder / "haproxy.cfg").write_text(HAPROXY + "".join(starmap(self._section, frontends)))
        self.network.popen("lb", "haproxy", "-db", "-q", "-f", str(self.folder / "haproxy.cfg"), **QUIET)

    def _section(self, vip: str, port: int) -> str:
        servers = "".join(f"\tserver s{at} {_socket(address, port)}\n" for at, address in enumerate(self.backends(vip)))
        return f"listen {vip}-{port}\n\tbind {_socket(vip, port)}\n{servers}"


class NginxStream(Proxy):
    label, name = "nginx stream", "nginx"

    def start(self, frontends: list[tuple[str, int]]) -> None:
        config = self.folder / "stream.conf"
        config.write_text(NGINX_STREAM.format(folder=self.folder, servers="".join(self._server(*each) for each in enumerate(frontends))))
        self.network.popen("lb", "nginx", "-p", str(self.folder), "-c", str(config), "-g", "daemon off;", **QUIET)

    def _server(self, number: int, frontend: tuple[str, int]) -> str:
        vip, port = frontend
        members = "".join(f"server {_socket(address, port)}; " for address in self.backends(vip))
        listen = f"server {{ listen {_socket(vip, port)} backlog=4096; proxy_pass u{number}; }}"
        return f"\tupstream u{number} {{ {members}}}\n\t{listen}\n"


class Weir(Peer):
    """The real thing: `weir up` on a folder of manifests."""

    label, name, hook, ready_s = "Weir tc", "tc", "tc", READY_S

    def install(self) -> None:
        self.where = Where(self.network.name)
        (self.folder / "manifests.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": self._manifests()}))
        log = (self.folder / "up.log").open("ab")
        up = ("up", "-f", str(self.folder / "manifests.json"), "--interface", "front", "--interface", "back", "--hook", self.hook)
        self.network.popen("lb", *self._command(*up), stdout=log, stderr=log)
        log.close()
        if not wait_until(lambda: self.network.run("lb", *self._command("status", "--wait"), check=False).returncode == 0, self.ready_s):
            raise RuntimeError(f"{self.label} is not up: {(self.folder / 'up.log').read_text()[-2000:]}")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        super().__exit__(kind, error, traceback)
        clear(self.network.name)

    def passed(self) -> int:
        """By its own counters: what its program did not forward itself, the kernel did, and does not count."""
        pins = self.where.pins / f"v{LAYOUT}"
        with Map.open(pins / "frontends") as frontends, Map.open(pins / "frontend_stats") as stats:
            ids = (ID.pack(Frontend.unpack(value).id) for _, value in frontends.items())
            return sum(Stats.sum(stats.get(each) or b"").packets_in for each in ids)

    def _command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "weir.cli", *words, "--instance", self.network.name]

    def _manifests(self) -> list[dict[str, object]]:
        addresses = [f"{VIP}/31", f"{VIP6}/128"]
        pool = {"apiVersion": "weir.dev/v1alpha1", "kind": "VIPPool", "metadata": {"name": "own"}, "spec": {"addresses": addresses}}
        return [
            pool,
            *self._service("web", VIP, [(HTTP_PORT, "TCP"), (UDP_PORT, "UDP")]),
            *self._service("web6", VIP6, [(HTTP_PORT, "TCP")]),
            *self._service("stream", STREAM_VIP, [(STREAM_PORT, "TCP")]),
        ]

    def _service(self, name: str, vip: str, ports: list[tuple[int, str]]) -> list[dict[str, object]]:
        """A Service on `vip`, and its EndpointSlice."""
        metadata = {"namespace": "bench", "name": name}
        named = [{"name": protocol.lower(), "port": port, "protocol": protocol} for port, protocol in ports]
        return [
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": metadata,
                "spec": {"type": "LoadBalancer", "loadBalancerIP": vip, "ports": named, "ipFamilies": [_family(vip)]},
            },
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": metadata | {"labels": {"kubernetes.io/service-name": name}},
                "addressType": _family(vip),
                "ports": named,
                "endpoints": [{"addresses": [address]} for address in self.backends(vip)],
            },
        ]


class WeirMany(Weir):
    """Beside so many Services that nobody uses."""

    count = 10_000
    label, name = f"Weir tc, {count:,} Services beside", "many"
    ready_s = 300

    def _manifests(self) -> list[dict[str, object]]:
        many = (make(number) for number in range(self.count) for make in (installation.service, installation.endpoints))
        return [*super()._manifests(), installation.pool(), *many]


class WeirXdp(Weir):
    """The other hook, native: where a driver lacks it the kernel would do with the generic one."""

    label, name, hook = "Weir XDP", "xdp", "xdp"
    without_offloads = True

    def install(self) -> None:
        super().install()
        if "xdpgeneric" in self.network.run("lb", "ip", "link").stdout:
            raise RuntimeError(f"{self.label}: the hook is the generic one")


# The first is what the others are a ratio of.
PEERS: tuple[type[Peer], ...] = (
    Plain,
    PlainWithoutOffloads,
    KubeProxy,
    KubeProxyMasquerade,
    IPVS,
    HAProxy,
    NginxStream,
    Weir,
    WeirMany,
    WeirXdp,
)


def _host(address: str) -> str:
    return f"{address}/{128 if ':' in address else 32}"


def _socket(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _family(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"
