"""Hellos: what is on the wire, who is alive by it, and why a node may not announce VIPs."""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.dataplane.announce.order import Alive, announcer, is_ours
from services.dataplane.announce.peers import Peers, PeersFile
from services.dataplane.hello.frame import Hello, decode, encode, number_of
from services.dataplane.hello.group import MS, Group
from services.dataplane.hello.readiness import Agent, Link, Place, hindrance
from services.dataplane.l4.layout import LB_NODES

U64 = st.integers(0, 2**64 - 1)
HELLOS = st.builds(
    Hello,
    group=st.binary(min_size=8, max_size=8),
    sender=U64,
    sequence=U64,
    orders=U64,
    interval_ms=st.integers(1, 65535),
    multiplier=st.integers(1, 255),
    ready=st.booleans(),
    taken=st.booleans(),
    heard=st.frozensets(U64, max_size=20),
)
GROUP = b"ourgroup"
A, B, C = (number_of(name) for name in ("a", "b", "c"))
SECOND = 1000 * MS


@given(HELLOS, st.binary(max_size=64), st.binary(max_size=60))
def test_a_hello_reads_back_padded_or_not(hello: Hello, key: bytes, padding: bytes) -> None:
    assert decode(encode(hello, key), key) == decode(encode(hello, key) + padding, key) == hello


@given(HELLOS, st.data())
def test_a_hello_that_was_changed_or_is_of_another_key_is_none(hello: Hello, data: st.DataObject) -> None:
    payload = encode(hello, b"key")
    assert decode(payload, b"other") is None
    assert decode(payload[: data.draw(st.integers(0, len(payload) - 1))], b"key") is None
    at, bit = data.draw(st.integers(0, len(payload) - 1)), 1 << data.draw(st.integers(0, 7))
    assert decode(payload[:at] + bytes((payload[at] ^ bit,)) + payload[at + 1 :], b"key") in (None, hello)  # the head has unused bytes


@given(st.binary(max_size=200))
def test_whatever_comes_is_read_without_a_fault(payload: bytes) -> None:
    assert decode(payload, b"key") is None


@dataclass
class Heard:
    """Node a, which hears b and c; what they say."""

    group: Group
    now_ns: int = 100 * SECOND
    sequence: int = 0

    @classmethod
    def of(cls) -> "Heard":
        return cls(Group(GROUP, A, {B: 1, C: 2}))

    def say(
        self, sender: int = B, interface: str = "eth0", heard: frozenset[int] = frozenset({A}), orders: int = 0, **flags: bool
    ) -> object:
        """flags: ready (unless it is false), taken."""
        self.sequence += 1
        said = {"ready": True, "taken": False, **flags}
        return self.group.hear(Hello(GROUP, sender, self.sequence, orders, 100, 3, heard=heard, **said), interface, self.now_ns)

    def wait(self, ms: int) -> None:
        self.now_ns += ms * MS


def test_a_peer_is_alive_for_its_interval_times_its_multiplier() -> None:
    it = Heard.of()
    assert it.group.heard(it.now_ns) == frozenset()
    assert it.say() == (1, (it.now_ns + 300 * MS, it.now_ns + 300 * MS))
    assert it.say(C, ready=False) == (2, (it.now_ns + 300 * MS, 0))
    assert it.group.next_deadline_ns(it.now_ns) == it.now_ns + 300 * MS
    it.wait(299)
    assert it.group.heard(it.now_ns) == {B, C}
    it.say(C)
    it.wait(1)
    assert it.group.heard(it.now_ns) == {C}
    assert it.group.next_deadline_ns(it.now_ns) == it.now_ns + 299 * MS


def test_hellos_of_others_old_ones_and_copies_change_nothing() -> None:
    it = Heard.of()
    it.say()
    old = Hello(GROUP, B, it.sequence, 0, 100, 3, ready=False, taken=False, heard=frozenset())
    for strange in (old, old._replace(sequence=0), old._replace(sequence=9, sender=77), old._replace(sequence=9, group=b"foreign!")):
        assert it.group.hear(strange, "eth1", it.now_ns) is None
    assert it.group.unheard_ns("eth1", it.now_ns) == 0, "the copy on another interface shows that this works"
    assert it.group.unheard_ns("eth2", it.now_ns) is None, "no peer has a way there"
    assert not it.group.deaf_to_us(it.now_ns)
    it.group.change(GROUP, {C: 2})
    assert it.group.heard(it.now_ns) == frozenset()
    assert it.say() is None


def test_it_yields_to_a_peer_that_is_ready_and_does_not_hear_it() -> None:
    it = Heard.of()
    it.say(heard=frozenset(), ready=False)
    assert not it.group.deaf_to_us(it.now_ns), "that peer announces nothing itself"
    it.say(heard=frozenset({C}))
    assert it.group.deaf_to_us(it.now_ns)
    it.wait(300)
    assert not it.group.deaf_to_us(it.now_ns), "nobody is there"


def test_who_was_cut_off_must_read_what_others_knew_when_they_were_heard_again() -> None:
    it = Heard.of()
    it.say(orders=10)
    assert it.group.is_behind(9, it.now_ns)
    assert not it.group.is_behind(10, it.now_ns)
    it.say(orders=11)
    assert not it.group.is_behind(10, it.now_ns), "what is new to all is no sign"
    it.wait(300)
    it.say(orders=12)
    assert it.group.is_behind(11, it.now_ns)
    it.say(orders=3)
    assert not it.group.is_behind(4, it.now_ns), "the log was restored from an older copy"
    it.say(orders=20)
    it.group.note_unheard(it.now_ns)
    assert it.group.is_behind(19, it.now_ns)
    it.group.change(b"another!", {B: 1})
    assert not it.group.is_behind(0, it.now_ns)


def test_who_does_not_learn_what_others_know_cannot_be_relied_on() -> None:
    """It has lost the log: by its order another announces, and by theirs it does."""
    it = Heard.of()
    it.say(orders=10)
    for _ in range(20):
        it.say(orders=11)
        assert not it.group.is_behind(10, it.now_ns)
        it.wait(100)
    it.say(orders=11)
    assert it.group.is_behind(10, it.now_ns)
    assert not it.group.is_behind(11, it.now_ns)
    it.say(orders=12)
    assert not it.group.is_behind(11, it.now_ns), "counted anew"


def test_a_peer_that_booted_is_heard_though_its_numbers_begin_anew() -> None:
    it = Heard.of()
    it.sequence = 1000
    it.say()
    it.sequence = 10
    assert it.say() is None, "repeated by somebody"
    it.wait(3299)
    assert it.say() is None
    it.wait(1)
    assert it.say() is not None
    assert it.say() is not None


def test_a_peer_that_is_lost_on_one_interface_is_alive_and_not_well_heard() -> None:
    it = Heard.of()
    it.say()
    it.sequence -= 1
    it.say(interface="eth1")
    for _ in range(4):
        assert it.group.well_heard(it.now_ns) == {B}
        it.wait(100)
        it.say()
    it.wait(50)
    assert (it.group.heard(it.now_ns), it.group.well_heard(it.now_ns)) == ({B}, set())
    it.say(interface="eth1")
    assert it.group.well_heard(it.now_ns) == {B}
    for _ in range(700):
        it.wait(100)
        it.say()
    assert it.group.well_heard(it.now_ns) == {B}, "it has that interface no more"


def test_who_comes_back_leaves_what_others_took_until_the_log_knows_of_it() -> None:
    it = Heard.of()
    it.say(taken=True)
    assert it.group.is_guest(it.now_ns)
    it.say(taken=True)
    assert it.group.is_guest(it.now_ns)
    it.say(taken=True, ready=False)
    assert not it.group.is_guest(it.now_ns), "it does not announce them any more"
    it.say()
    it.say(taken=True)
    assert not it.group.is_guest(it.now_ns), "what it takes from a third while we are there"
    it.wait(300)
    it.say(taken=True)
    assert it.group.is_guest(it.now_ns)
    it.say()
    assert not it.group.is_guest(it.now_ns), "there is an order for it"


GOOD = Agent(age_s=0.5, stopped=False, caught_up=True)
LINKS = {"eth0": Link(running=True, quiet=False), "eth1": Link(running=True, quiet=False)}


@pytest.mark.parametrize(
    ("agent", "links", "place", "reason"),
    [
        (GOOD, {}, Place(), ""),
        (GOOD, {}, Place(alive=True), ""),
        (GOOD, {}, Place(listening=True), "it has just begun to listen for others"),
        (GOOD._replace(caught_up=False), {}, Place(), "its agent has not read the log to the end yet"),
        (GOOD._replace(stopped=True), {}, Place(), "its agent is stopped"),
        (GOOD._replace(age_s=11.0), {}, Place(), "its agent was not heard for 10 s"),
        (GOOD, {"eth1": Link(running=False, quiet=True)}, Place(), "no carrier on eth1"),
        (GOOD, {"eth1": Link(running=True, quiet=True)}, Place(alive=True), "nothing arrives on eth1"),
        (GOOD, {"eth1": Link(running=True, quiet=True)}, Place(), ""),
        (GOOD, dict.fromkeys(LINKS, Link(running=True, quiet=True)), Place(), "nothing arrives on eth0, eth1"),
        (GOOD, {}, Place(alive=True, unheard=True), "others are ready and do not hear it"),
        (GOOD, {}, Place(alive=True, behind=True), "it was cut off, and has not read who announces since"),
        (GOOD, {}, Place(alive=True, guest=True), "others have taken over from it, and the log does not know of it yet"),
    ],
)
def test_why_a_node_may_not_announce(agent: Agent, links: dict[str, Link], place: Place, reason: str) -> None:
    assert hindrance(agent, LINKS | links, place) == reason


def test_without_an_order_a_vip_is_everybodys() -> None:
    assert is_ours((), Alive())
    assert announcer((1, 0), Alive()) is None
    assert not is_ours((1, 0), Alive())


def test_slots_stay_as_long_as_their_nodes_do(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    added: list[int] = []
    peers = Peers(path, "a", added.append)
    assert (peers.of(("b", "a", "c")), added) == ((1, 0, 2), [1, 2])
    assert peers.names == {0: "a", 1: "b", 2: "c"}
    peers.belong("log-1")
    again = Peers(path, "a")
    assert again.of(("c", "d", "b")) == (2, 3, 1)
    again.keep(["d"])
    assert again.of(("e", "d")) == (1, 3)
    file = PeersFile.read(path)
    assert file is not None
    assert (file.of(("d", "x", "a")), len(file.group)) == ((3, 0), 16)
    assert Peers(path, "b").of(("c",)) == (1,), "the file is of a node of another name"
    path.write_bytes(b"torn")
    assert PeersFile.read(path) is None


def test_no_node_beyond_the_slots_is_counted(tmp_path: Path) -> None:
    peers = Peers(tmp_path / "peers.json", "a")
    assert len(peers.of([f"n{number}" for number in range(LB_NODES + 5)])) == LB_NODES - 1


def test_the_file_is_written_only_when_something_changes(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    peers = Peers(path, "a")
    peers.of(("b",))
    before = path.stat().st_ino
    peers.of(("b",))
    assert path.stat().st_ino == before
    peers.learn(7)
    assert msgspec.json.decode(path.read_bytes())["orders"] == 7
