"""Established flows, replies and new flows, in every mode: packet in, verdict, packet out, map dump."""

import pytest

from tests.dataplane.frames import SYN, Packet
from tests.dataplane.lab import Lab

V4 = {"vip": "198.51.100.1", "client": "192.0.2.1", "backend": "10.1.0.11"}
V6 = {"vip": "fd03::1", "client": "fd02::1", "backend": "fd01::11"}


@pytest.fixture(params=["v4", "v6"])
def net(request: pytest.FixtureRequest) -> dict[str, str]:
    return V4 if request.param == "v4" else V6


@pytest.fixture(params=["TCP", "UDP"])
def proto(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_flow_goes_to_the_backend_and_its_reply_comes_back(lab: Lab, net: dict[str, str], proto: str) -> None:
    lab.serve(net["vip"], [net["backend"]], protocol=proto)
    there = Packet(src=net["client"], dst=net["vip"], proto=proto, flags=SYN if proto == "TCP" else 16)
    out = lab.out(there, "forwarded")
    assert out == there.but(dst=net["backend"], dport=8080, ttl=63)
    back = there.but(src=net["backend"], dst=net["client"], sport=8080, dport=40000, flags=18 if proto == "TCP" else 16)
    out = lab.out(back, "replied")
    assert out == back.but(src=net["vip"], sport=80, ttl=63)
    assert len(lab.flows()) == 1
