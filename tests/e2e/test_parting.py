"""A client that sends datagrams and never stops: a flow is its Service's, and does not outlive it."""

import itertools
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.dataplane.lab import inside
from tests.running import Running, running_weir
from weir.demo.network import wait_until

FIRST, SECOND = "203.0.113.21", "203.0.113.22"


@pytest.fixture(scope="module")
def weir() -> Iterator[Running]:
    with running_weir("weirpart") as found:
        yield found


class Sender:
    """One socket, so one flow."""

    def __init__(self, vip: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect((vip, 53))
        self._socket.settimeout(0.1)
        self._numbers = itertools.count()

    def asked(self) -> str:
        """Who answers a datagram; nobody where no answer comes at once, or it is refused."""
        number = str(next(self._numbers))
        try:
            self._socket.send(number.encode())
            while True:
                name, answered = self._socket.recv(100).decode().split()
                if answered == number:  # another one is late
                    return name
        except OSError:
            return ""

    def answer(self) -> str:
        """Who answers, as soon as somebody does."""
        found: list[str] = []
        assert wait_until(lambda: bool(found.append(self.asked()) or found[-1]), 30)
        return found[-1]


def test_datagrams_leave_a_backend_that_left_their_service_and_an_address_that_is_anothers(weir: Running) -> None:
    """It serves another Service all the time, so nothing but the Service tells that it is not theirs."""
    folder = weir.stage.folder / "shop"
    for name, vip in (("first", FIRST), ("second", SECOND)):
        write(folder, name, vip, "10.77.0.11")
    assert wait_until(lambda: {FIRST, SECOND} <= set(weir.vips()), 30)
    weir.settled(60)
    with inside(weir.network.namespace("client")):
        sender, other = Sender(FIRST), Sender(SECOND)
        assert wait_until(lambda: (sender.asked(), other.asked()) == ("b1", "b1"), 30)
        write(folder, "first", FIRST, "10.77.0.12")
        moved_s = until(lambda: sender.asked() == "b2")
        assert other.answer() == "b1", "it has stayed in the other Service"
        for path in folder.glob("first*.json"):
            path.unlink()
        assert wait_until(lambda: FIRST not in weir.vips(), 30)
        write(folder, "third", FIRST, "10.77.0.13")
        given_s = until(lambda: sender.asked() == "b3")
        assert other.answer() == "b1"
    print(f"\nanother backend {moved_s:.1f} s after the change, another Service {given_s:.1f} s after its manifest")


def until(done: Callable[[], bool]) -> float:
    begun = time.monotonic()
    assert wait_until(done, 30)
    return time.monotonic() - begun


def write(folder: Path, name: str, vip: str, backend: str) -> None:
    metadata = {"namespace": "parting", "name": name}
    port = {"name": "dns", "protocol": "UDP"}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"type": "LoadBalancer", "loadBalancerIP": vip, "ports": [{**port, "port": 53, "targetPort": 5353}]},
    }
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata | {"labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{**port, "port": 5353}],
        "endpoints": [{"addresses": [backend]}],
    }
    for kind, document in (("service", service), ("slice", endpoints)):
        temporary = folder / f"{name}-{kind}.tmp"
        temporary.write_text(json.dumps(document))
        temporary.rename(temporary.with_suffix(".json"))
