"""Two LB nodes and a router: flows are shared, or one node is preferred; what a client notices when a node goes, is drained, or is back."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import yaml

from tests.e2e.pair import NODES, PLACES, Pair, PairNetwork, installed
from tests.e2e.router import Router, router
from tests.e2e.test_bgp import advertisement, peer
from tests.own import own
from weir.demo.network import CLIENT, VIP_NETWORKS, _ip, wait_until
from weir.demo.stage import EXAMPLE

NAME = own("weirecmp")
VIP = "203.0.113.10"
FRONT = {"lb-1": "10.76.0.11", "lb-2": "10.76.0.12"}
USER = "10.75.0.2"
SETTLED_S = 1.0  # after a fault


class RoutedNetwork(PairNetwork):
    """The client of a pair is a router here, and behind it is a user."""

    def build(self) -> None:
        """Makes the network anew."""
        super().build()
        _ip(f"netns add {self.namespace('user')}\n")
        _ip(f"link add eth0 netns {self.namespace('user')} type veth peer name users netns {self.namespace('client')}")
        self._up("user", ("eth0",), [("eth0", f"{USER}/24")], ("10.75.0.1",))
        self._up("client", ("users",), [("users", "10.75.0.1/24")])
        self._sysctl("client", ("net.ipv4.ip_forward", "net.ipv4.fib_multipath_hash_policy"), 1)
        _ip("".join(f"route del {each} dev eth0\n" for each in VIP_NETWORKS), "-n", self.namespace("client"))
        for place in PLACES.values():
            _ip(f"route add 10.75.0.0/24 via {CLIENT[0]}\n", "-n", self.namespace(place))


class Routed:
    """A pair, and its router.   manifests: a folder."""

    def __init__(self, pair: Pair, tor: Router, manifests: Path) -> None:
        self.pair, self.router, self.manifests = pair, tor, manifests

    def gateways(self) -> list[str]:
        """The nodes that the router sends packets for the VIP to."""
        names = {address: node for node, address in FRONT.items()}
        return sorted(names[each] for each in self.router.routes().get(VIP, []))

    def settles(self, *nodes: str, within_s: float = 60) -> None:
        assert wait_until(lambda: self.gateways() == sorted(nodes), within_s), (self.gateways(), self.pair.told())

    def guarded(self) -> None:
        """Wait until BFD watches over both sessions: it comes up after them."""
        assert wait_until(lambda: [row["bfd"] for row in self.pair.rows("get", "bgp")] == ["up", "up"], 60), self.pair.rows("get", "bgp")

    def write(self, **advertised: Any) -> None:
        (self.manifests / "bgp.yaml").write_text(yaml.safe_dump_all([peer("tor", CLIENT[0]), advertisement(**advertised)]))


@contextmanager
def routed(folder: Path, **advertised: Any) -> Iterator[Routed]:
    if os.geteuid():
        pytest.skip("namespaces and BPF need root")
    manifests = Path(copytree(EXAMPLE, folder / "shop"))
    with installed(RoutedNetwork(NAME), folder) as pair, router(pair.network, "client", [*FRONT.values()]) as tor:
        found = Routed(pair, tor, manifests)
        found.write(**advertised)
        with pair.hub(manifests, "--mode=onearm"), pair.box("lb-1"), pair.box("lb-2"):
            yield found


def lost(seen: Any, since: float = 0.0) -> tuple[int, int]:
    """Datagrams without an answer and connections that failed, of those begun later than `since`."""
    return (
        sum(not answered for sent, answered in seen["udp"] if sent > since),
        sum(took < 0 for begun, took in seen["tcp"] if begun > since),
    )


def test_flows_are_shared_and_move_when_a_node_is_gone(tmp_path: Path) -> None:
    with routed(tmp_path) as found:
        found.settles(*NODES)
        for node in NODES:
            found.guarded()
            with found.pair.streaming(VIP, place="user") as end:
                found.pair.network.unplug(node)
                found.settles(*(each for each in NODES if each != node), within_s=20)
                moved = time.monotonic()
                time.sleep(SETTLED_S)
                seen = end()
            assert lost(seen, moved) == (0, 0), f"after {node} was gone"
            found.pair.network.plug(node)
            found.settles(*NODES)


def test_a_drained_node_tells_of_nothing_and_no_new_connection_notices(tmp_path: Path) -> None:
    with routed(tmp_path) as found:
        found.settles(*NODES)
        with found.pair.streaming(VIP, place="user") as end:
            done = found.pair.weir("hub", "node", "drain", "lb-1", "--instance", f"{NAME}hub", check=False)
            assert not done.returncode, (done.stderr, found.pair.told())
            found.settles("lb-2", within_s=20)
            moved = time.monotonic()
            time.sleep(SETTLED_S)
            found.pair.weir("hub", "node", "uncordon", "lb-1", "--instance", f"{NAME}hub")
            found.settles(*NODES)
            seen = end()
        assert lost(seen, moved) == (0, 0)


def test_one_node_is_preferred_and_another_takes_over(tmp_path: Path) -> None:
    with routed(tmp_path, activeBackup=True) as found:
        assert wait_until(lambda: len(found.gateways()) == 1, 60), found.pair.told()
        assert wait_until(lambda: "BGP.med: 100" in found.router.attributes(VIP), 30), "the other node's way is known"
        found.guarded()
        (first,) = found.gateways()
        with found.pair.streaming(VIP, place="user") as end:
            found.pair.network.unplug(first)
            found.settles(*(each for each in NODES if each != first), within_s=20)
            moved = time.monotonic()
            time.sleep(SETTLED_S)
            seen = end()
        assert lost(seen, moved) == (0, 0)
        found.pair.network.plug(first)
        assert wait_until(lambda: "BGP.med: 100" in found.router.attributes(VIP), 60), "it is back"
        found.settles(*(each for each in NODES if each != first))
