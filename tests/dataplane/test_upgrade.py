"""A new layout of the maps beside the old one: flows go over, and no connection is lost."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from services.dataplane.layout import LAYOUT, LRU_HASH, MODES, Flow
from services.dataplane.migrate import older
from services.dataplane.pinned_maps import create_or_open
from tests.dataplane.conftest import needs_kernel
from tests.dataplane.lab import inside
from tests.dataplane.wire import VIPS, Wire, name, wire
from weir.pins import Map

pytestmark = needs_kernel
CONNECTIONS = 40


@pytest.fixture
def w() -> Iterator[Wire]:
    with wire() as built:
        yield built


class Talker:
    """Connections that stay open, one request after another on each; every reply that does not come counts as lost."""

    def __init__(self) -> None:
        self.requests = self.lost = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._talk, args=(VIPS[number % 2],)) for number in range(CONNECTIONS)]

    def _talk(self, vip: str) -> None:
        try:
            with inside(name("c")):
                connection = socket.create_connection((vip, 80), 5)
            with connection:
                while not self._stop.wait(0.02):
                    connection.sendall(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n")
                    if not connection.recv(4096):
                        raise ConnectionResetError
                    self.requests += 1
        except OSError:
            self.lost += 1

    def __enter__(self) -> "Talker":
        for thread in self._threads:
            thread.start()
        self.wait_for(2 * CONNECTIONS)
        return self

    def wait_for(self, more: int) -> None:
        until, wanted = time.monotonic() + 20, self.requests + more
        while self.requests < wanted:
            assert time.monotonic() < until, f"{self.requests} requests, {self.lost} connections lost"
            threading.Event().wait(0.02)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def as_of_layout_1(w: Wire) -> None:
    """The pins as the release before left them; its programs go on with the maps they hold."""
    old = replace(w.options, pins=w.pins / "old")
    directory = w.pins / "v1"
    os.rename(w.options.directory, directory)
    flows = list(Map.open(directory / "conntrack").items())
    for added in ("conntrack", "flow_keys", "flow_blocks", "scratch", "programs_tc", "programs_xdp", "prog_tc"):
        (directory / added).unlink()
    spec = next(spec for spec in old.maps if spec.name == "conntrack")
    made = replace(spec, kind=LRU_HASH, value_size=Flow.FORMAT.size + 16)
    old.directory.mkdir(parents=True)
    os.close(create_or_open(old.directory, made))
    os.rename(old.directory / "conntrack", directory / "conntrack")
    old.directory.rmdir()
    old.pins.rmdir()
    Map.open(directory / "conntrack").put_many((key, value + bytes(16)) for key, value in flows)


@pytest.mark.parametrize("mode", MODES)
def test_open_connections_live_through_a_new_layout(w: Wire, mode: str) -> None:
    w.serve("b1", "b2", mode=MODES.index(mode))
    with Talker() as talker:
        w_programs = w.map("programs_tc")  # held, as the running program of the release before needs it
        as_of_layout_1(w)
        assert older(w.pins) == w.pins / "v1"
        lines = w.load()
        talker.wait_for(10 * CONNECTIONS)
        w_programs.close()
    assert talker.lost == 0
    assert any(line.startswith("v1: ") and line.endswith("flows carried over") for line in lines), lines
    assert "front: tc program replaced" in lines
    assert sorted(path.name for path in w.pins.iterdir()) == [f"v{LAYOUT}"]
    flows = [Flow.unpack(value) for _, value in w.map("conntrack").items()]
    assert max(flow.packets_in for flow in flows) > 12, "the same flows, with what they had counted before"


def test_flows_of_both_lives_are_noted_for_a_full_table(w: Wire) -> None:
    w.serve("b1")
    with Talker():
        as_of_layout_1(w)
        w.load()
    noted = {key for _, key in w.map("flow_keys").filled()}
    forward = {key for key, value in w.map("conntrack").items() if not Flow.unpack(value).kind}
    assert forward <= noted
