"""This machine as the log knows it: its interfaces, how the loader attached them, its addresses; and the kernel's `interfaces` map.

netlink only says that something changed; each time everything is read again, so a lost message does no harm.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Sequence

import structlog
from msgspec import structs

from services.dataplane.l4.layout import HOOK_WORDS, ID, INTERFACE_STACK, LAYOUT, Interface
from services.dataplane.load.interfaces import Nic, NicError, is_pattern, matching, nic
from services.dataplane.own_addresses import own_addresses, subscribe
from weir.decider import World
from weir.events import AnyEvent, NodeSeen, key_of
from weir.lbnodes import counts
from weir.model import Rejection
from weir.pins import Map
from weir.service.process import LoadAgain
from weir.service.runner import Runner

ATTACHED_WITHIN_S = 5.0  # of an interface that came by a pattern
_RTM_GROUPS = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, IPV4_IFADDR, IPV6_IFADDR

log = structlog.get_logger()


class Node:
    """entries: the map `interfaces`.   interfaces: NAME, NAME=HOOK, PREFIX*.   moved: called when there is something to report.

    hellos: this node says hello to others.
    """

    def __init__(
        self, name: str, hook: str, interfaces: Sequence[str], entries: Map, moved: Callable[[], None], *, hellos: bool = False
    ) -> None:
        names = tuple(word.partition("=")[0] for word in interfaces)
        self.interfaces = tuple(word for word in names if not is_pattern(word))  # where VIPs are announced
        self._patterns = tuple(filter(is_pattern, names))
        self._seen = NodeSeen(node=name, hook=hook, layout=LAYOUT, interfaces=(*self.interfaces, *self._patterns), hellos=hellos)
        self._own = own_addresses(name)
        self._name, self._entries, self._moved = name, entries, moved
        self._absent: dict[str, str] = {}  # interfaces that cannot be used, and why
        self._bare_since_s: dict[str, float] = {}  # those that came by a pattern, and have no program yet

    def rejections(self) -> list[Rejection]:
        """Return the interfaces that cannot be used."""
        return [Rejection(entity=f"interface {name}", reason=reason) for name, reason in sorted(self._absent.items())]

    def joins(self, world: World) -> bool:
        """True where the log does not count this node: it is new, or was retired."""
        return not counts(world, self._seen)

    def news(self, world: World) -> Iterator[AnyEvent]:
        """What the log does not have, or otherwise."""
        if self.joins(world) or world.get(key_of(self._seen)) != self._seen:
            yield self._seen
        if world.get(key_of(self._own)) != self._own:
            yield self._own

    async def follow_addresses(self, _: Runner) -> None:
        """Edge: report the addresses of this machine and its default gateways when they change."""
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE) as netlink:
            subscribe(netlink)
            readable = asyncio.Event()
            asyncio.get_running_loop().add_reader(netlink.fileno(), readable.set)
            while True:
                own = await asyncio.to_thread(own_addresses, self._name)  # a router may have a million routes
                if own != self._own:
                    self._own = own
                    self._moved()
                await readable.wait()
                readable.clear()
                _empty(netlink)

    async def follow_interfaces(self, _: Runner) -> None:
        """Edge: keep MACs and addresses of our interfaces as the kernel has them.  Raises LoadAgain."""
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE) as netlink:
            netlink.bind((0, _RTM_GROUPS))
            readable = asyncio.Event()
            asyncio.get_running_loop().add_reader(netlink.fileno(), readable.set)
            while True:
                self.refresh_interfaces()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(ATTACHED_WITHIN_S if self._bare_since_s else None):
                        await readable.wait()
                readable.clear()
                _empty(netlink)

    def refresh_interfaces(self) -> None:
        """Read all interfaces again.  Raises LoadAgain for one that was replaced under its name, and has no program."""
        before, hooks, named = dict(self._absent), list[str](), list[Nic]()
        for name in self.interfaces:
            try:
                found = nic(name)
            except NicError as error:
                self._absent[name] = str(error)
                hooks.append("")
                log.warning("interface_unusable", interface=name, reason=str(error))
                continue
            self._absent.pop(name, None)
            flags = self._refresh(found)
            if flags is None:
                raise LoadAgain(f"{name} was replaced and has index {found.index} now")
            hooks.append(HOOK_WORDS[flags & ~INTERFACE_STACK])
            named.append(found)
        self._refresh_passing(named)
        hooks += [HOOK_WORDS[0]] * len(self._patterns)
        # XDP in a driver sees only what comes in, and not what a backend on this machine answers.
        seen = structs.replace(self._seen, hooks=tuple(hooks), local_backends=set(hooks) <= {HOOK_WORDS[0]})
        if self._absent != before or self._seen != seen:
            self._seen = seen
            self._moved()

    def _refresh_passing(self, named: Sequence[Nic]) -> None:
        """Interfaces that match a pattern: the loader attaches them as they come; one that stays without a program is reported."""
        now_s = time.monotonic()
        bare = [each.name for each in matching(self._patterns, named) if self._refresh(each) is None]
        self._bare_since_s = {name: self._bare_since_s.get(name, now_s) for name in bare}
        for name in self._absent.keys() - {*self.interfaces, *bare}:
            del self._absent[name]
        late = (name for name, since_s in self._bare_since_s.items() if now_s - since_s >= ATTACHED_WITHIN_S)
        self._absent |= dict.fromkeys(late, "no program is attached to it: see the loader")

    def _refresh(self, found: Nic) -> int | None:
        """Return the flags that say how the loader attached it; None where it has no program, or not yet."""
        key = ID.pack(found.index)
        held = self._entries.get(key)
        if held is None:
            return None
        flags = Interface.unpack(held).flags
        value = Interface(found.mac, found.v4, found.v6, flags).pack()
        if held != value:
            self._entries.put(key, value)
        return flags


def _empty(netlink: socket.socket) -> None:
    while True:
        try:
            netlink.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:  # ENOBUFS: messages were lost, and everything is read again anyway
            continue
