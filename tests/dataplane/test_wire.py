"""The packet path under real stacks: checksums and GSO, replacement under traffic, and life without user space."""

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.dataplane.l4.layout import ID, MODES, Flow, Stats
from services.dataplane.load.interfaces import nic
from tests.dataplane.conftest import needs_kernel
from tests.dataplane.frames import Packet
from tests.dataplane.lab import inside, sh
from tests.dataplane.wire import VIPS, Wire, name, serving, wire

pytestmark = needs_kernel


@pytest.fixture(scope="module")
def built() -> Iterator[Wire]:
    with wire() as built:
        yield built


@pytest.fixture
def w(built: Wire) -> Wire:
    return built.without_flows()


def checksum_errors(space: str) -> int:
    with inside(name(space)):
        snmp = Path("/proc/thread-self/net/snmp").read_text(encoding="ascii").splitlines()
        snmp6 = dict(line.split() for line in Path("/proc/thread-self/net/snmp6").read_text(encoding="ascii").splitlines())
    found = int(snmp6["Udp6InCsumErrors"]) + int(snmp6["Icmp6InCsumErrors"])
    for heads, values in zip(snmp[::2], snmp[1::2], strict=True):
        found += sum(int(value) for head, value in zip(heads.split(), values.split(), strict=True) if head == "InCsumErrors")
    return found


def fetch(vip: str, words: int = 1, upload: bytes = b"") -> bytes:
    with inside(name("c")):
        connection = http.client.HTTPConnection(vip, 80, timeout=5)
        connection.request(*(("POST", "/", upload) if upload else ("GET", f"/{words}")))
        body = connection.getresponse().read()
        connection.close()
    return body


class Pinger:
    """Sends a datagram to the VIP each `pause_s` and counts what is answered within `patience_s`, from one port."""

    def __init__(self, vip: str, pause_s: float, patience_s: float = 5) -> None:
        with inside(name("c")):
            family = socket.AF_INET6 if ":" in vip else socket.AF_INET
            self.socket = socket.socket(family, socket.SOCK_DGRAM)
            self.socket.connect((vip, 80))
        self.socket.settimeout(patience_s)
        self.pause_s = pause_s
        self.sent = self.answered = 0
        self.last = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.wait(self.pause_s):
            self.sent += 1
            with contextlib.suppress(OSError):
                self.socket.send(str(self.sent).encode())
                self.socket.recv(100)
                self.answered += 1
                self.last = time.monotonic()

    def wait_for(self, answers: int, within_s: float = 10) -> None:
        """So many answers in a row from now on."""
        until = time.monotonic() + within_s
        lost, answered = self.sent - self.answered, self.answered
        while self.answered < answered + answers:
            assert time.monotonic() < until, f"only {self.answered - answered} answers in {within_s} s"
            if self.sent - self.answered > lost + 1:
                lost, answered = self.sent - self.answered, self.answered
            threading.Event().wait(0.02)

    def __enter__(self) -> "Pinger":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.socket.close()


def arrives_whole(vip: str, *, fetches: int, words: int) -> None:
    """Both backends answer, and transfers of so many three-byte words go either way, with no bad checksum anywhere."""
    before = [checksum_errors(space) for space in ("c", "b1", "b2")]
    assert {fetch(vip) for _ in range(fetches)} == {b"b1 ", b"b2 "}
    assert len(fetch(vip, words=words)) == 3 * words
    fetch(vip, upload=bytes(3 * words))
    assert [checksum_errors(space) for space in ("c", "b1", "b2")] == before


@pytest.mark.parametrize("vip", VIPS)
@pytest.mark.parametrize("mode", MODES)
def test_large_transfers_arrive_whole(w: Wire, vip: str, mode: str) -> None:
    w.serve("b1", "b2", mode=MODES.index(mode))
    arrives_whole(vip, fetches=8, words=2_000_000)


@pytest.mark.parametrize("vip", VIPS)
def test_gso_packets_go_through_whole(w: Wire, vip: str) -> None:
    """More bytes for each conntrack lookup than an MTU: segments were not cut before the balancer."""
    w.serve("b1")
    fetch(vip, upload=bytes(20_000_000))
    raw = w.map("frontend_stats").get(ID.pack(1 if vip == VIPS[0] else 3))
    stats = Stats.sum(raw or b"")
    assert stats.bytes_in > 20_000_000
    assert stats.packets_in > 20_000_000 / 1500, "counted in segments"


@pytest.mark.parametrize("vip", VIPS)
def test_vip_is_pinged_by_a_real_stack(w: Wire, vip: str) -> None:
    w.serve("b1")
    with inside(name("c")):
        ping(vip)


@pytest.mark.parametrize("vip", VIPS)
def test_program_is_replaced_under_traffic_without_loss(w: Wire, vip: str) -> None:
    w.serve("b1", "b2")
    with Pinger(vip, 0.0005) as pinger:
        for _ in range(3):
            lines = w.load()
            assert "front: tc program replaced" in lines
            assert "back: tc program replaced" in lines
        threading.Event().wait(0.2)
    assert pinger.sent > 500
    assert pinger.answered == pinger.sent
    flows = [Flow.unpack(value) for _, value in w.map("flows").filled()]
    assert max(flow.packets_in for flow in flows) == pinger.sent, "one flow, kept through every program"


@pytest.mark.parametrize("vip", VIPS)
def test_new_mac_of_a_backend_is_noticed_with_every_process_dead(w: Wire, vip: str) -> None:
    """Nothing of ours runs here: the kernel's neighbour code must be kept going by the program itself."""
    w.serve("b1")
    mac = "02:00:00:00:00:4a" if ":" not in vip else "02:00:00:00:00:6a"
    with quick_neighbours(), Pinger(vip, 0.02, 0.5) as pinger:
        pinger.wait_for(30)
        sh(f"ip -n {name('b1')} link set eth0 address {mac}; ip -n {name('b1')} -6 route replace default via fd01::1")
        changed = time.monotonic()
        pinger.wait_for(30, within_s=15)
        assert mac in sh(f"ip -n {name('lb')} neighbour show dev back")
    assert pinger.last > changed


@contextlib.contextmanager
def quick_neighbours() -> Iterator[None]:
    """Behind the balancer a changed MAC is noticed within seconds.

    Afterwards no neighbour is known: with the MAC of before, that of the other family would swallow what the next test sends.
    """
    quick = {"base_reachable_time_ms": 1000, "delay_first_probe_time": 1, "retrans_time_ms": 100}
    settings = {f"net.{family}.neigh.back.{setting}": value for family in ("ipv4", "ipv6") for setting, value in quick.items()}
    lb = name("lb")
    before = sh(f"ip netns exec {lb} sysctl {' '.join(settings)}").replace(" = ", "=").split()
    wanted = [f"{setting}={value}" for setting, value in settings.items()]
    sh(f"ip netns exec {lb} sysctl -qw {' '.join(wanted)}")
    try:
        yield
    finally:
        sh(f"ip netns exec {lb} sysctl -qw {' '.join(before)}; ip -n {lb} neighbour flush dev back")


def ping(vip: str) -> None:
    """From where we are."""
    v6 = ":" in vip
    asks, answers = (128, 129) if v6 else (8, 0)
    families = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if v6 else (socket.AF_INET, socket.IPPROTO_ICMP)
    with socket.socket(families[0], socket.SOCK_RAW, families[1]) as raw:
        raw.settimeout(5)
        raw.sendto(
            Packet(
                src="::" if v6 else "0.0.0.0", dst=vip, proto="ICMPV6" if v6 else "ICMP", sport=asks, dport=0, body=b"\0\1\0\2here"
            ).l4(),
            (vip, 0),
        )
        while not ((reply := raw.recv(2048)).endswith(b"\0\1\0\2here") and reply[0 if v6 else 20] == answers):
            pass


def exchange(vip: str, backends: set[str]) -> None:
    """By TCP, segments larger than the MTU, and UDP, datagrams larger than that, too; from where we are, with any of these."""
    connection = http.client.HTTPConnection(vip, 80, timeout=5)
    connection.request("GET", "/100000")
    body = connection.getresponse().read().split()
    assert len(body) == 100_000
    assert {each.decode() for each in body} <= backends
    connection.request("POST", "/", b"x" * 1_000_000)
    assert connection.getresponse().status == 200
    connection.close()
    with socket.socket(socket.AF_INET6 if ":" in vip else socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.connect((vip, 80))
        udp.settimeout(5)
        for ask in (b"ask", bytes(3000)):
            udp.send(ask)
            who, _, asked = udp.recv(65536).partition(b" ")
            assert (who.decode() in backends, asked) == (True, ask)


@pytest.mark.parametrize("vip", VIPS)
@pytest.mark.parametrize("mode", range(len(MODES)), ids=MODES)
def test_the_balancer_itself_reaches_a_vip(w: Wire, vip: str, mode: int) -> None:
    """And it is pinged; both where the VIP is on the wire and behind a router."""
    w.serve("b1", "b2", mode=mode)
    v6 = ":" in vip
    network, router = ("fd03::/64", "fd02::1") if v6 else ("198.51.100.0/24", "192.0.2.1")
    with inside(name("lb")):
        for route in (f"{network} dev front", f"{network} via {router}"):
            sh(f"ip route replace {route}; ip neigh flush dev front")
            try:
                exchange(vip, {"b1", "b2"})
                ping(vip)
            finally:
                sh(f"ip route del {route}")
    assert checksum_errors("lb") == 0


@pytest.fixture
def own(w: Wire) -> Iterator[Wire]:
    """The balancer is a backend, too, at an address of its own."""
    own = serving("lb")
    w.backends = {**w.backends, "lb": ("192.0.2.254", "fd02::fe")}
    try:
        yield w
    finally:
        own.kill()
        own.wait()


@pytest.mark.parametrize("vip", VIPS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("client", ["c", "lb"])
def test_backend_on_the_balancer_itself_is_served(own: Wire, vip: str, mode: str, client: str) -> None:
    """Also for what dials from there."""
    own.serve("lb", mode=MODES.index(mode))
    v6 = ":" in vip
    network = "fd03::/64 dev front" if v6 else "198.51.100.0/24 dev front"
    with inside(name(client)):
        if client == "lb":
            sh(f"ip route replace {network}")
        try:
            exchange(vip, {"lb"})
        finally:
            if client == "lb":
                sh(f"ip route del {network}")
    flows = [Flow.unpack(value) for _, value in own.map("flows").filled()]
    assert {flow.new_destination for flow in flows} == {own.backends["lb"][v6]}
    assert all(flow.packets_out for flow in flows), "answers are counted"


@pytest.mark.parametrize("vip", VIPS)
def test_priority_tag_makes_no_difference_and_a_vlan_is_passed(w: Wire, vip: str) -> None:
    """Frames of VLAN 0 are untagged ones with a priority (802.1Q, 9.6); the stack takes them so, and so must the program before it."""
    w.serve("b1")
    family, source = (socket.AF_INET6, "fd02::1") if ":" in vip else (socket.AF_INET, "192.0.2.1")
    with inside(name("lb")):
        to = nic("front").mac
    with inside(name("c")), socket.socket(family, socket.SOCK_DGRAM) as client, socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        client.bind((source, 0))
        client.settimeout(5)
        raw.bind(("eth0", 0))
        sent = Packet(src=source, dst=vip, proto="UDP", sport=client.getsockname()[1], eth=to + nic("eth0").mac)
        before = w.verdict("forwarded"), w.verdict("replied")
        for body, tag in ((b"vlan", 100), (b"priority", 5 << 13)):  # in this order, on one queue
            frame = sent.but(body=body).frame()
            raw.send(frame[:12] + b"\x81\x00" + tag.to_bytes(2, "big") + frame[12:])
        assert client.recv(100) == b"b1 priority"
    assert (w.verdict("forwarded"), w.verdict("replied")) == (before[0] + 1, before[1] + 1)
