"""VIPs become local to a machine, and no longer, whoever made them so."""

import os
import subprocess
from collections.abc import Iterator

import pytest

from services.dataplane.l7.local_vips import PROTOCOL, LocalVips
from tests.dataplane.lab import inside, sh
from tests.own import own


@pytest.fixture
def machine() -> Iterator[None]:
    if os.geteuid():
        pytest.skip("needs root")
    name = own("wl")
    sh(f"ip netns add {name}")
    try:
        with inside(name):
            sh("ip link set lo up")
            yield
    finally:
        sh(f"ip netns delete {name}")


def routes() -> set[str]:
    listed = "".join(sh(f"ip -{family} route show table local proto {PROTOCOL}") for family in (4, 6))
    return {line.split()[1] for line in listed.splitlines()}


def test_vips_come_and_go(machine: None) -> None:
    vips = LocalVips()
    vips.set(["192.0.2.1", "2001:db8::1"])
    assert routes() == {"192.0.2.1", "2001:db8::1"}
    vips.set(["192.0.2.1", "192.0.2.2"])
    assert (routes(), vips.refused) == ({"192.0.2.1", "192.0.2.2"}, {})


def test_a_new_process_takes_over_what_an_earlier_one_made(machine: None) -> None:
    LocalVips().set([f"192.0.2.{number}" for number in range(1, 200)])
    LocalVips().set(["192.0.2.7", "2001:db8::1"])
    assert routes() == {"192.0.2.7", "2001:db8::1"}


def test_no_address_is_added_and_others_routes_stay(machine: None) -> None:
    sh("ip address add 198.51.100.1/32 dev lo; ip route add local 198.51.100.9 dev lo proto 99")
    before = sh("ip address")
    LocalVips().set(["192.0.2.1"])
    LocalVips().set([])
    assert sh("ip address") == before
    assert "198.51.100.9" in sh("ip route show table local")


def test_without_the_right_to_it_is_reported(machine: None) -> None:
    code = "from services.dataplane.l7.local_vips import LocalVips; v = LocalVips(); v.set(['192.0.2.1']); print(v.refused)"
    drop = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"]
    done = subprocess.run([*drop, ".venv/bin/python", "-c", code], capture_output=True, text=True, check=True)
    assert "192.0.2.1 cannot be made local to this machine: Operation not permitted" in done.stdout
