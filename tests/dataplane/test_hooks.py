"""A hook for each interface: what is chosen, and XDP under live traffic on veths, with what these need for it."""

import os
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from services.dataplane.l4.layout import HOOK_WORDS, INTERFACE_STACK, MODES, Interface
from services.dataplane.load.interfaces import driver, nic
from services.dataplane.load.links import attach
from services.dataplane.load.loader import LoaderError, load
from services.dataplane.load.programs import HOOKS
from tests.dataplane.conftest import needs_kernel
from tests.dataplane.lab import inside, load_code, sh
from tests.dataplane.test_fragments import big_datagrams_arrive
from tests.dataplane.test_wire import Pinger, arrives_whole
from tests.dataplane.wire import VIPS, Wire, name, wire

pytestmark = needs_kernel


PASS_ALL = bytes.fromhex("b7000000020000009500000000000000")  # r0 = XDP_PASS; exit


@pytest.fixture(scope="module")
def built() -> Iterator[Wire]:
    """Native in front, generic on the bridge behind.

    What it needs of who sends on this machine: frames summed whole.  And of a veth's far end a program of its own, or XDP_TX wakes
    nobody there.
    """
    with wire("front=xdp", "back=xdp-generic") as built:
        for space in ("c", "b1", "b2"):
            sh(f"nsenter --net=/run/netns/{name(space)} ethtool -K eth0 tx off")
        program = load_code(HOOKS["xdp"], PASS_ALL, "pass")
        with inside(name("c")):
            attach(built.options.directory / "far_end", "xdp", program, nic("eth0"), 0)
        os.close(program)
        yield built


@pytest.fixture
def w(built: Wire) -> Wire:
    return built.without_flows()


def hooks(w: Wire) -> dict[str, str]:
    """Of each interface, as the agent tells it."""
    found = {}
    with inside(name("lb")):
        for key, value in w.map("interfaces").items():
            flags = Interface.unpack(value).flags & ~INTERFACE_STACK
            found[socket.if_indextoname(int.from_bytes(key, "little"))] = HOOK_WORDS[flags]
    return found


def test_each_interface_has_the_hook_it_was_given(w: Wire) -> None:
    assert hooks(w) == {"front": "xdp native", "back": "xdp generic"}
    links = sh(f"ip -n {name('lb')} link")
    assert "xdpgeneric" in links.split("back:")[1]
    assert "xdp " in links.split("front@")[1].split("\n")[0]


@pytest.mark.parametrize("vip", VIPS)
@pytest.mark.parametrize("mode", ["default", "fullnat"])  # onearm would reach the stack from outside with its own address
def test_xdp_serves_tcp_whole(w: Wire, vip: str, mode: str) -> None:
    w.serve("b1", "b2", mode=MODES.index(mode))
    arrives_whole(vip, fetches=12, words=200_000)


@pytest.mark.parametrize("vip", VIPS)
@pytest.mark.parametrize("mode", ["default", "fullnat"])
def test_xdp_forwards_fragments(w: Wire, vip: str, mode: str) -> None:
    w.serve("b1", "b2", mode=MODES.index(mode))
    big_datagrams_arrive(vip)


@pytest.mark.parametrize("vip", VIPS)
def test_xdp_loses_no_datagram_and_no_flow_when_the_program_is_replaced(w: Wire, vip: str) -> None:
    w.serve("b1", "b2")
    with Pinger(vip, 0.001) as pinger:
        lines = w.load()
        pinger.wait_for(100)
    assert "front: xdp program replaced" in lines
    assert "back: xdp-generic program replaced" in lines
    assert pinger.sent > 100
    assert pinger.answered == pinger.sent


def test_auto_is_tc_on_virtual_devices(w: Wire) -> None:
    """Where packets come in segments of 64 KiB and are never copied, tc is faster at everything."""
    with inside(name("lb")):
        assert (driver("front"), driver("back")) == ("veth", "bridge")
        for line in load(replace(w.options, interfaces=("front", "back"), hook="auto")):
            assert "xdp" not in line
        assert hooks(w) == {"front": "tc", "back": "tc"}
        list(load(w.options))
    assert hooks(w) == {"front": "xdp native", "back": "xdp generic"}


def test_native_is_refused_by_name_where_the_driver_has_none(w: Wire) -> None:
    with inside(name("lb")), pytest.raises(LoaderError, match="back: attaching to xdp: "):
        list(load(replace(w.options, interfaces=("front=xdp", "back=xdp"))))
    with inside(name("lb")):
        list(load(w.options))


def test_unknown_hook_is_refused(w: Wire) -> None:
    with inside(name("lb")), pytest.raises(LoaderError, match="front=ebpf: expected a hook of auto, tc, xdp, xdp-generic"):
        list(load(replace(w.options, interfaces=("front=ebpf",))))
