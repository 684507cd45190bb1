"""Two LB nodes that take turns: one announces a VIP, and the other takes over when it is gone."""

import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.pair import HUB, NODES, PLACES, ROOT, Pair, PairNetwork, installed
from tests.own import own
from weir.demo.network import wait_until
from weir.demo.stage import EXAMPLE

NAME = own("weirpair")
VIP = "203.0.113.10"
FAULT_S = 2.0  # a fault lasts so long under load
ON_ITS_WAY = 4  # of one datagram each 5 ms, and one connection each 10 ms


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    if os.geteuid():
        pytest.skip("namespaces and BPF need root")
    with installed(PairNetwork(NAME), tmp_path) as found:
        yield found


@contextmanager
def serving(pair: Pair, manifests: Path = EXAMPLE, *options: str) -> Iterator[None]:
    """Hub and both boxes, once both may announce VIPs."""
    with pair.hub(manifests, *options), pair.box("lb-1"), pair.box("lb-2"):
        settle(pair)
        yield


def settle(pair: Pair) -> None:
    """Wait until both are ready, one alone answers, and the log has it so."""
    assert wait_until(lambda: ready(pair) == {*NODES} and fetched(pair), 90), pair.told()
    assert wait_until(lambda: [owner(pair)] == answering(pair), 30), (owner(pair), answering(pair), pair.told())


def ready(pair: Pair) -> set[str]:
    rows = pair.rows("get", "owners")
    return set.intersection(*(set(row["ready"]) for row in rows)) if rows else set()


def owner(pair: Pair) -> str:
    return next((str(row["node"]) for row in pair.rows("get", "owners", VIP)), "")


def owners(pair: Pair) -> dict[str, int]:
    """How many VIPs each node announces."""
    return dict(Counter(str(row["node"]) for row in pair.rows("get", "owners")))


def heard_again(pair: Pair, node: str) -> bool:
    """Whether the node has heard its peer after it had lost it."""
    words = [line for line in (pair.folder / f"{node}.log").read_text().splitlines() if '"peer_lost"' in line or '"peer_heard"' in line]
    return '"peer_heard"' in words[-1]


def fetched(pair: Pair) -> bool:
    return not pair.network.run("client", "curl", "-sS", "--max-time", "2", f"http://{VIP}/", check=False).returncode


def answering(pair: Pair) -> list[str]:
    """All nodes that answer when the client's link is asked for the VIP."""
    done = pair.network.run("client", sys.executable, "-m", "tests.e2e.ask", "eth0", VIP, cwd=ROOT)
    macs = {pair.network.mac(node): node for node in NODES}
    return sorted(macs[mac] for mac in done.stdout.split())


def answers(pair: Pair, node: str, words: str = "") -> None:
    """Wait until one node alone answers."""
    assert wait_until(lambda: answering(pair) == [node], 30), (words, answering(pair), pair.told())


def other(node: str) -> str:
    return NODES[1 - NODES.index(node)]


def drop_hellos(pair: Pair, *, dropped: bool) -> None:
    for switch in ("front", "switch"):
        if not dropped:
            pair.network.run(switch, "nft", "delete table netdev hellos")
            continue
        pair.network.run(switch, "nft", "add table netdev hellos")
        for place in PLACES.values():
            chain = f'{{ type filter hook ingress device "{place}" priority 0; }}'
            pair.network.run(switch, "nft", f"add chain netdev hellos {place} {chain}")
            pair.network.run(switch, "nft", f"add rule netdev hellos {place} ether type 0x88b5 drop")


def drop_sent(pair: Pair, node: str, *, dropped: bool) -> None:
    """What the node sends is lost; it receives."""
    for switch in ("front", "switch"):
        if not dropped:
            pair.network.run(switch, "nft", "delete table netdev sent")
            continue
        pair.network.run(switch, "nft", "add table netdev sent")
        chain = f'{{ type filter hook ingress device "{PLACES[node]}" priority 0; policy drop; }}'
        pair.network.run(switch, "nft", f"add chain netdev sent c {chain}")


def drop_log(pair: Pair, node: str) -> None:
    """What goes between the node and NATS is lost, both ways."""
    pair.network.run("switch", "nft", "add table netdev nohub")
    address = f"10.77.0.{NODES.index(node) + 1}"
    for chain, port, to in (("there", PLACES[node], HUB[0]), ("back", "hub", address)):
        hook = f'{{ type filter hook ingress device "{port}" priority 0; }}'
        pair.network.run("switch", "nft", f"add chain netdev nohub {chain} {hook}")
        pair.network.run("switch", "nft", f"add rule netdev nohub {chain} ip daddr {to} drop")


def set_front(pair: Pair, node: str, *, up: bool) -> None:
    pair.network.run(PLACES[node], "ip", "link", "set", "front", "up" if up else "down")
    if up:  # the kernel has taken the address away
        pair.network.run(PLACES[node], "ip", "address", "replace", f"fd76::1{NODES.index(node) + 1}/64", "dev", "front")


Fault = Callable[[Pair, str], None]
FAULTS: dict[str, tuple[Fault, Fault]] = {
    "power off": (lambda pair, node: pair.network.unplug(node), lambda pair, node: pair.network.plug(node)),
    "frozen": (lambda pair, node: pair.signal(node, signal.SIGSTOP), lambda pair, node: pair.signal(node, signal.SIGCONT)),
    "link down": (lambda pair, node: set_front(pair, node, up=False), lambda pair, node: set_front(pair, node, up=True)),
    "cut off from clients": (lambda pair, node: pair.network.unplug(node, "front"), lambda pair, node: pair.network.plug(node, "front")),
    "one way": (lambda pair, node: drop_sent(pair, node, dropped=True), lambda pair, node: drop_sent(pair, node, dropped=False)),
    "hello process killed": (lambda pair, node: pair.signal(node, signal.SIGKILL, "hello"), lambda _pair, _node: None),
}


def test_whatever_happens_to_one_the_other_takes_over_and_keeps_the_vip(pair: Pair) -> None:
    with serving(pair, EXAMPLE, "--mode=onearm"):
        for name, (fault, undo) in FAULTS.items():
            first = owner(pair)
            with pair.streaming(VIP) as end:
                fault(pair, first)
                answers(pair, other(first), name)
                time.sleep(FAULT_S)
                seen = end()
            last = seen["udp"][-1][0]
            late = [answered for sent, answered in seen["udp"] if sent > last - FAULT_S / 2]
            assert all(late), f"{name}: {late.count(0)} of {len(late)} datagrams lost once the other had taken over"
            late = [took for begun, took in seen["tcp"] if begun > last - FAULT_S / 2]
            assert min(late) > 0, f"{name}: {sum(took < 0 for took in late)} of {len(late)} connections failed then"
            undo(pair, first)
            assert wait_until(lambda: ready(pair) == {*NODES}, 60), (name, pair.told())
            answers(pair, other(first), f"{name}: it was taken back")


def test_two_that_do_not_hear_each_other_both_forward_and_agree_when_they_do(pair: Pair) -> None:
    with serving(pair, EXAMPLE, "--mode=onearm"), pair.streaming(VIP) as end:
        drop_hellos(pair, dropped=True)
        assert wait_until(lambda: answering(pair) == sorted(NODES), 30), pair.told()
        time.sleep(FAULT_S)
        drop_hellos(pair, dropped=False)
        assert wait_until(lambda: len(answering(pair)) == 1, 30), pair.told()
        assert wait_until(lambda: [owner(pair)] == answering(pair), 30), pair.told()
        seen = end()
        assert [answered for _, answered in seen["udp"]].count(0) == 0
        # With `onearm` one that is open while the client turns to the other node ends: the port on the backend's side is a node's own.
        assert len([took for _, took in seen["tcp"] if took < 0]) <= ON_ITS_WAY


def test_a_node_that_joins_takes_nothing_and_one_without_the_log_is_not_relied_on(pair: Pair, tmp_path: Path) -> None:
    more = tmp_path / "more"
    shutil.copytree(EXAMPLE, more)
    service = (EXAMPLE / "service.yaml").read_text()
    for number in range(6):
        (more / f"z{number}.yaml").write_text(service.replace("name: web\n", f"name: x{number}\n"))
    with pair.hub(more, "--mode=onearm"), pair.box("lb-1"):
        assert wait_until(lambda: owners(pair) == {"lb-1": 14} and fetched(pair), 60), pair.told()
        with pair.box("lb-2"):
            assert wait_until(lambda: ready(pair) == {*NODES}, 60), pair.told()
            assert (owners(pair), answering(pair)) == ({"lb-1": 14}, ["lb-1"])
            assert (len(pair.taken_by("lb-1")), pair.taken_by("lb-2")) == (14, [])
            drop_log(pair, "lb-2")
            pair.weir("hub", "node", "cordon", "lb-1")
            time.sleep(FAULT_S)
            answers(pair, "lb-1", "lb-2 does not know that it is to announce, and says so")


@pytest.fixture
def together(tmp_path: Path) -> Path:
    """examples/pair, and the shop in its pool."""
    folder = tmp_path / "manifests"
    folder.mkdir()
    for name in ("service.yaml", "endpoints.yaml"):
        shutil.copy(EXAMPLE / name, folder)
    text = (EXAMPLE.parent / "pair" / "pair.yaml").read_text()
    (folder / "pair.yaml").write_text(text.replace("203.0.113.40-", f"{VIP}-"))
    return folder


def test_flows_live_on_with_the_other_node_when_one_is_gone_and_when_one_is_drained(pair: Pair, together: Path) -> None:
    with serving(pair, together):
        first = owner(pair)
        assert {row["node"] for row in pair.rows("get", "owners")} == {first}, "one node announces all of them"
        with pair.streaming(VIP, flows=100) as end:
            pair.network.unplug(first)
            answers(pair, other(first))
            time.sleep(FAULT_S)
            seen = end()
        assert (seen["flows"], seen["broken"]) == (100, 0)
        pair.network.plug(first)
        settle(pair)

        with pair.streaming(VIP, flows=100) as end:
            assert "drained: it announces no VIP" in pair.weir("hub", "node", "drain", other(first)).stdout
            assert answering(pair) == [first]
            time.sleep(FAULT_S)
            seen = end()
        # An answer on its way while the VIP and the backends' gateway move meets a node that does not know its flow yet.
        assert [answered for _, answered in seen["udp"]].count(0) <= ON_ITS_WAY
        assert len([took for _, took in seen["tcp"] if took < 0]) <= ON_ITS_WAY
        assert (seen["flows"], seen["broken"]) == (100, 0)
        pair.weir("hub", "node", "uncordon", other(first))
        time.sleep(FAULT_S)
        assert answering(pair) == [first], "it takes nothing back by itself"


def test_without_the_log_one_takes_over_and_without_any_process_no_vip_goes_dark(pair: Pair) -> None:
    with pair.box("lb-1"), pair.box("lb-2"):
        with pair.hub(EXAMPLE, "--mode=onearm"):
            settle(pair)
            first = owner(pair)
        pair.network.unplug(first)
        answers(pair, other(first))
        assert fetched(pair)
        pair.network.plug(first)
        assert wait_until(lambda: heard_again(pair, other(first)), 30), pair.told()
        answers(pair, other(first))
        for node in NODES:
            pair.signal(node, signal.SIGKILL)
        assert wait_until(lambda: bool(answering(pair)), 30)
        pair.network.run("client", "ip", "neigh", "flush", "all")
        assert wait_until(lambda: fetched(pair), 10)
