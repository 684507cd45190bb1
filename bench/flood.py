"""Floods on a full flow table, as fast as one processor runs the program, beside clients on another.

python -m bench.flood [KIND ...] [--hook HOOK] [--family FAMILY] [--flows N] [--seconds N]

A client's connection succeeds if the backend's answer and the client's next packet, each half a round trip later, meet its flow.
"""

import argparse
import heapq
import itertools
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.packet import BACKENDS, CLIENTS, CONNTRACK, ENDLESS, VARIED, VIPS, Harness
from bench.table import Row, Table
from tests.dataplane.frames import ACK, SYN, Packet, part, read
from tests.dataplane.lab import ACTIONS, OUT, Lab, namespace, run_program

SECONDS, FLOWS = 60, 100_000
ROUND_TRIPS_S = (0.01, 0.1)
EVERY_S = 0.002  # a new connection
SOURCES = {"v4": "198.18.0.1", "v6": "fd05::1"}
BATCH = 20_000


@dataclass
class Clients:
    """Connections of one client address, from the ports of `numbers`."""

    lab: Lab
    family: str
    src: str
    numbers: Iterator[int]

    def opened(self) -> tuple[Packet, Packet] | None:
        """The client's packet, and how it left to the backend."""
        number = next(self.numbers)
        sent = Packet(src=self.src, dst=VIPS[self.family], sport=1024 + number % 60_000, dport=80 + number // 60_000, flags=SYN)
        out = self._sent(sent)
        return (sent, out) if out else None

    def established(self, sent: Packet, out: Packet) -> bool:
        back = out.but(src=out.dst, dst=out.src, sport=out.dport, dport=out.sport, flags=SYN | ACK, ttl=64)
        answer = self._sent(back)
        then = self._sent(sent.but(flags=ACK))
        return answer is not None and then is not None and (answer.dst, then.dst) == (sent.src, out.dst)

    def _sent(self, packet: Packet) -> Packet | None:
        value, frame, _ = run_program(self.lab.program, packet.frame())
        return read(frame).but(eth=packet.eth) if ACTIONS[self.lab.hook][value] == OUT else None


def floods(family: str) -> dict[str, tuple[bytes, tuple[int, int]]]:
    """By kind: a frame, and where its packets differ."""
    there = Packet(src=SOURCES[family], dst=VIPS[family], body=b"x" * 64)
    v6, ends = family == "v6", VARIED[family]
    datagram = there.but(proto="UDP")
    echo = there.but(proto="ICMPV6" if v6 else "ICMP", sport=128 if v6 else 8, dport=0)
    return {
        "SYN": (there.but(flags=SYN).frame(), ends),
        "ACK": (there.frame(), ends),
        "UDP": (datagram.frame(), ends),
        "fragments": (part(datagram, 1, 0, datagram.l4()[:64], more=True), (58 if v6 else 18, ends[1])),
        "ICMP": (echo.frame(), (58 if v6 else 38, ends[1])),
        "SYN, spoofed sources": (there.but(flags=SYN).frame(), (ends[1], ends[1] - 2)),
    }


def flooded(lab: Lab, family: str, kind: str, flows: int, seconds: float) -> tuple[float, float, dict[float, float], float]:
    """Million packets a second; what is left of the flows; what succeeds of connections, by round trip; MiB that the maps grew."""
    frame, varied = floods(family)[kind]
    full, flood = Harness(lab, family), Harness(lab, family, varied)
    full.time(Packet(src=SOURCES[family], dst=VIPS[family], body=b"x" * 64, flags=SYN), ENDLESS, CONNTRACK)
    clients = Clients(lab, family, CLIENTS[family], itertools.count())
    assert all(opened and clients.established(*opened) for opened in (clients.opened() for _ in range(flows)))
    flood.put(frame, ENDLESS)
    begun_s, before_mib, sent, stop = time.monotonic(), _maps_mib(lab), itertools.count(1), threading.Event()

    def run() -> None:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        while not stop.is_set():
            run_program(flood.wrapper, frame, BATCH)
            next(sent)

    thread = threading.Thread(target=run)
    thread.start()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    try:
        tried, came = _connected(clients, begun_s + seconds)
    finally:
        stop.set()
        thread.join()
    rate = (next(sent) - 1) * BATCH / (time.monotonic() - begun_s) / 1e6
    ports = {(key.source_port, key.destination_port) for key in lab.flows() if key.source == CLIENTS[family]}
    left = sum((1024 + number % 60_000, 80 + number // 60_000) in ports for number in range(flows))
    return rate, left / flows, {trip_s: came[trip_s] / tried[trip_s] for trip_s in ROUND_TRIPS_S}, _maps_mib(lab) - before_mib


def _connected(clients: Clients, until_s: float) -> tuple[Counter[float], Counter[float]]:
    """How many connections were tried, and how many succeeded, by round trip."""
    tried, came = Counter[float](), Counter[float]()
    due: list[tuple[float, float, Packet, Packet]] = []
    trips, next_s = itertools.cycle(ROUND_TRIPS_S), time.monotonic()
    while (now_s := time.monotonic()) < until_s:
        if now_s >= next_s:
            next_s, trip_s = now_s + EVERY_S, next(trips)
            tried[trip_s] += 1
            if opened := clients.opened():
                heapq.heappush(due, (now_s + trip_s, trip_s, *opened))
        elif due and due[0][0] <= now_s:
            _, trip_s, sent, out = heapq.heappop(due)
            came[trip_s] += clients.established(sent, out)
    for _, trip_s, _, _ in due:
        tried[trip_s] -= 1
    return tried, came


def _maps_mib(lab: Lab) -> float:
    """What the kernel has allocated for the maps."""
    infos = (Path(f"/proc/self/fdinfo/{each.fd}").read_text().splitlines() for each in lab.maps.values())
    return sum(int(line.split()[1]) for lines in infos for line in lines if line.startswith("memlock")) / 2**20


def tables(kinds: list[str], hook: str, family: str, flows: int, seconds: float) -> list[Table]:
    rows: dict[str, list[Row]] = {}
    for kind in kinds or floods(family):
        with namespace(f"wb-{os.getpid()}"):
            lab = Lab(hook, CONNTRACK, "flood")
            lab.clear()
            for port in range(80, 80 + flows // 60_000 + 2):
                lab.serve(VIPS[family], BACKENDS[family], port=port, frontend=1 + port, first=1, to=8080)
            lab.serve(VIPS[family], BACKENDS[family], protocol="UDP", frontend=2, first=8)
            try:
                rate, left, came, taken = flooded(lab, family, kind, flows, seconds)
            finally:
                lab.close()
        figures = {
            "packets, million a second": rate,
            f"established flows left, of {flows:,}, %": 100 * left,
            "growth of the maps, MiB": taken,
        }
        figures |= {f"new connections that succeed, {1000 * trip_s:.0f} ms round trip, %": 100 * share for trip_s, share in came.items()}
        for title, figure in figures.items():
            rows.setdefault(title, []).append(Row(kind, (figure,)))
        print(f"{hook} {family} {kind}: {figures}", flush=True)
    return [Table(title=f"{hook} {family}: {title}", unit="", rows=tuple(each)) for title, each in rows.items()]


def run(quick: bool) -> list[Table]:
    """Each kind, on tc with IPv4."""
    return tables([], "tc", "v4", FLOWS, 5 if quick else SECONDS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(floods('v4'))}; all, if none is named")
    parser.add_argument("--hook", choices=("tc", "xdp"), default="tc")
    parser.add_argument("--family", choices=tuple(VIPS), default="v4")
    parser.add_argument("--flows", type=int, default=FLOWS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    wanted = parser.parse_args()
    for table in tables(wanted.kinds, wanted.hook, wanted.family, wanted.flows, wanted.seconds):
        print(table.markdown(), end="\n\n")
