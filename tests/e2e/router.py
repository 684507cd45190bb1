"""A router of the network, BIRD: it takes what BGP tells it, and routes by that, over all ways that are alike."""

import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from weir.demo.network import Network

ASN, NODES_ASN = 65000, 65001
BESIDE_PORT = 1790

_HEAD = """
router id 192.0.2.1;
log "{folder}/bird.log" all;
protocol device { scan time 1; }
"""
_ROUTING = """
protocol direct { ipv4; ipv6; }
protocol kernel k4 { merge paths on; ipv4 { export where source = RTS_BGP; }; }
protocol kernel k6 { merge paths on; ipv6 { export where source = RTS_BGP; }; }
protocol bfd { accept direct; }
"""
_PEER = """
protocol bgp {name} {{
  local port {port} as {asn};
  neighbor {address} as {theirs};
  {family} {{ import all; export none; }};
  bfd {bfd};
  connect delay time 1; connect retry time 1; error wait time 1, 2;
  {more}
}}
"""


class Router:
    """BIRD in a place of a network."""

    def __init__(self, network: Network, place: str, folder: Path) -> None:
        self._network, self._place, self._folder = network, place, folder

    def show(self, *words: str) -> str:
        """What a command of birdc prints."""
        argv = ("birdc", "-s", str(self._folder / "bird.ctl"), "show", *words)
        return self._network.run(self._place, *argv, check=False).stdout

    def routes(self, family: str = "-4") -> dict[str, list[str]]:
        """What it routes by BGP: prefix -> gateways."""
        out = self._network.run(self._place, "ip", family, "route", "show", "proto", "bird").stdout
        found: dict[str, list[str]] = {}
        prefix = ""
        for line in out.splitlines():
            words = line.split()
            prefix = words[0] if words[0] != "nexthop" else prefix
            gateways = [words[place + 1] for place, word in enumerate(words) if word == "via"]
            found.setdefault(prefix, []).extend(gateways)
        return {prefix: sorted(gateways) for prefix, gateways in found.items()}

    def attributes(self, prefix: str) -> str:
        """All that it knows of the ways to a prefix."""
        return self.show("route", "for", prefix, "all")


@contextmanager
def router(
    network: Network, place: str, neighbors: Sequence[str], *, asn: int = ASN, beside: bool = False, more: str = ""
) -> Iterator[Router]:
    """BIRD, until the block ends.   neighbors: addresses of LB nodes.   asn: its own.   more: of each session.

    beside: another is in the same place already, which routes, and has the ports of BGP and BFD.
    """
    with tempfile.TemporaryDirectory(prefix="weir-bird-") as name:
        folder = Path(name)
        parts = [_HEAD.replace("{folder}", name), "" if beside else _ROUTING]
        for number, address in enumerate(neighbors):
            family = "ipv6" if ":" in address else "ipv4"
            port = BESIDE_PORT if beside else 179
            words = {"name": f"n{number}", "asn": asn, "port": port, "address": address, "theirs": NODES_ASN}
            parts.append(_PEER.format(**words, family=family, more=more, bfd="off" if beside else "on"))
        (folder / "bird.conf").write_text("".join(parts))
        argv = ("bird", "-f", "-c", str(folder / "bird.conf"), "-s", str(folder / "bird.ctl"), "-P", str(folder / "bird.pid"))
        with network.popen(place, *argv, stderr=subprocess.STDOUT, stdout=(folder / "out").open("w")) as process:
            try:
                while not (folder / "bird.ctl").exists():
                    assert process.poll() is None, (folder / "out").read_text()
                    time.sleep(0.05)
                yield Router(network, place, folder)
            finally:
                process.terminate()
