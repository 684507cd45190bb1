"""The hello process's loop: say hello, listen, set deadlines in the kernel, and announce at once what a dead node announced.

It waits on nothing but its sockets and the clock, so that a busy agent, the log or a disk never delay a hello.  Each time round it
empties its sockets before it judges anybody: after a pause of this process, others are not dead because nobody read what they said.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
import structlog

from services.dataplane.announce.order import SELF, Alive, NodeTable, announcer, named
from services.dataplane.announce.peers import PeersFile
from services.dataplane.hello.claims import Claims
from services.dataplane.hello.frame import Hello, decode, encode, number_of
from services.dataplane.hello.group import MS, Group
from services.dataplane.hello.links import Links
from services.dataplane.hello.machine import AgentWatch
from services.dataplane.hello.readiness import Place, hindrance
from services.dataplane.hello.wires import Wires
from services.dataplane.l4.layout import VIP_SHARED, Vip
from weir.pins import Map, address_text
from weir.service.heartbeat import BEAT_S
from weir.where import Health, Where, write_file

KNOWN_NS = 5_000 * MS  # after which the log knows who took a VIP over, if this node follows it
LOOK_S = 0.5  # at the agent, and at who belongs to the group
_GROUP_SIZE = 8

log = structlog.get_logger()


class Timing(msgspec.Struct, frozen=True):
    """A node is dead when nothing was heard of it for interval_ms * multiplier."""

    interval_ms: int = 100
    multiplier: int = 3

    @property
    def detect_ns(self) -> int:
        return self.interval_ms * self.multiplier * MS


class Speaker:
    """interfaces: those on which VIPs are announced, and hellos said.   maps: `lb_nodes` and `vips`, pinned."""

    def __init__(
        self, where: Where, node: str, interfaces: Sequence[str], maps: Mapping[str, Map], key: bytes, timing: Timing = Timing()
    ) -> None:
        self._where, self._key, self._timing = where, key, timing
        self._table, self._vips = NodeTable(maps["lb_nodes"]), maps["vips"]
        self._me, self._names = number_of(node), {SELF: node}
        self._group = Group(bytes(_GROUP_SIZE), self._me, {})
        self._wires, self._claims, self._agent_watch = Wires(interfaces), Claims(interfaces), AgentWatch(where, node)
        self._was = Alive()
        self._links = Links(interfaces, self._wires, timing.detect_ns)
        self._orders = self._sequence = 0
        self._taken_ns: int | None = None  # when it last took VIPs over, until the log must know of it
        self._hindrance = "-"
        self._began_ns = self._turned_ns = _now_ns()
        self._agent = self._agent_watch.look(self._began_ns, self._began_ns)

    def run(self, peers: Callable[[], PeersFile | None]) -> None:
        """Never returns.   peers: reads who belongs to the group."""
        hello_ns = look_ns = beat_ns = 0
        while True:
            self._wires.wait((min(hello_ns, look_ns, self._wake_ns()) - _now_ns()) / MS)
            for interface, payload in self._wires.receive():
                if hello := decode(payload, self._key):
                    self._hear(hello, interface)
            now_ns = self._turn()
            if now_ns >= look_ns:
                self._wires.open()
                self._regroup(peers())
                self._agent = self._agent_watch.look(self._began_ns, now_ns)
                look_ns = now_ns + int(LOOK_S * 1e9)
            if now_ns >= hello_ns or (not self._hindrance and self._must_yield(now_ns)):
                self._say(now_ns)
                hello_ns = max(hello_ns + self._timing.interval_ms * MS, now_ns)
            self._settle(now_ns)
            if now_ns >= beat_ns:
                self._beat(now_ns)
                beat_ns = now_ns + int(BEAT_S * 1e9)

    def _must_yield(self, now_ns: int) -> bool:
        """Whether a peer that was heard again has taken over: that is said at once."""
        return self._group.is_behind(self._orders, now_ns) or self._group.is_guest(now_ns)

    def _wake_ns(self) -> int:
        """When something happens without a packet: a peer dies, or a VIP is to be claimed again."""
        times = (self._group.next_deadline_ns(self._turned_ns), self._claims.next_ns)
        return min((at for at in times if at is not None), default=self._turned_ns + 10_000 * MS)

    def _turn(self) -> int:
        """Return the time; begin anew where this process stood still for as long as others take to find it dead."""
        now_ns = _now_ns()
        if now_ns - self._turned_ns > self._timing.detect_ns:
            log.warning("stood_still", ms=(now_ns - self._turned_ns) // MS)
            self._began_ns = now_ns
        self._turned_ns = now_ns
        return now_ns

    def _regroup(self, peers: PeersFile | None) -> None:
        if peers is None:
            return
        self._orders = peers.orders
        group = bytes.fromhex(peers.group).ljust(_GROUP_SIZE, b"\0")
        slots = {number_of(node): slot for node, slot in peers.slots.items()}
        if (group, slots) == (self._group.group, self._group.slots):
            return
        for slot in {*self._names} - {SELF, *slots.values()}:
            self._table.put(slot, 0, 0)
        self._group.change(group, slots)
        self._names = {SELF: self._names[SELF], **{slot: node for node, slot in peers.slots.items()}}
        log.info("hello_group", peers=sorted(peers.slots))

    # ── hellos ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _hear(self, hello: Hello, interface: str) -> None:
        if found := self._group.hear(hello, interface, _now_ns()):
            slot, deadline = found
            self._table.put(slot, deadline.alive_ns, deadline.ready_ns)

    def _say(self, now_ns: int) -> None:
        """Say hello on every interface, and with that put our own deadline off: who says none must not announce."""
        heard, timing = self._group.heard(now_ns), self._timing
        place = Place(
            listening=now_ns - self._began_ns < 2 * timing.detect_ns,
            alive=bool(heard),
            unheard=self._group.deaf_to_us(now_ns),
            behind=self._group.is_behind(self._orders, now_ns),
            guest=self._group.is_guest(now_ns),
        )
        if place.unheard:
            self._group.note_unheard(now_ns)
        why = hindrance(self._agent, self._links.look(self._group, now_ns), place)
        until_ns = now_ns + timing.detect_ns
        self._table.put(SELF, 0 if place.listening else until_ns, 0 if why else until_ns)
        self._sequence = max(self._sequence + 1, now_ns)  # it grows over restarts, until the machine boots
        if self._taken_ns is not None and self._agent.follows and now_ns - self._taken_ns > KNOWN_NS:
            self._taken_ns = None
        timed, taken = (timing.interval_ms, timing.multiplier), self._taken_ns is not None
        well_heard = self._group.well_heard(now_ns)
        hello = Hello(self._group.group, self._me, self._sequence, self._orders, *timed, not why, taken, well_heard)
        self._wires.send(encode(hello, self._key))
        if why != self._hindrance:
            self._hindrance = why
            log.info("may_announce", reason=why or "ready")

    # ── taking over ────────────────────────────────────────────────────────────────────────────────────────────────

    def _settle(self, now_ns: int) -> None:
        """Claim what this node announces now and did not before somebody came or went."""
        now, before = self._table.at(now_ns), self._was
        if now != before:
            self._was = now
            for word, slots in (("peer_lost", before.alive - now.alive), ("peer_heard", now.alive - before.alive)):
                for name in named(slots - {SELF}, self._names):
                    log.warning(word, peer=name)
            taken = {vip: order for vip, order in self._ordered() if announcer(order, now) == SELF != announcer(order, before)}
            if taken:
                log.warning("taken_over", vips=len(taken), ready=named(now.ready, self._names))
            if any(order[0] != SELF for order in taken.values()):
                self._taken_ns = now_ns
            self._claims.add(taken, now_ns)
        self._claims.send(now_ns, lambda: {vip for vip, order in self._ordered() if announcer(order, now) == SELF})

    def _ordered(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        for key, value in self._vips.items():
            vip = Vip.unpack(value)
            if vip.order and not vip.flags & VIP_SHARED:
                yield address_text(key), vip.order

    def _beat(self, now_ns: int) -> None:
        """Report on ourselves, as services do.  A node without peers is never hindered: it announces anyway."""
        hindered = bool(self._hindrance and self._group.slots)
        reason = f"it may not announce VIPs: {self._hindrance}" if hindered else ""
        health = Health("hello", os.getpid(), "degraded" if hindered else "following", reason, beat_s=now_ns / 1e9)
        try:
            write_file(self._where.run / "hello.json", msgspec.json.encode(health))
        except OSError as error:  # a full /run must not end hellos; `weir status` finds this process silent
            log.error("health_not_written", service="hello", reason=str(error))


def _now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)
