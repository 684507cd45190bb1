"""A pool that holds the box's own address: it is never drawn, and what listens on the box stays reachable."""

import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.own import own
from weir.demo.network import wait_until
from weir.demo.stage import Stage, stage

BOX, GATEWAY, FREE = "10.76.0.1", "10.76.0.4", "10.76.0.5"
PORT = "2222"  # of what an operator reaches the box by


def pool(**fields: Any) -> dict[str, Any]:
    spec = {"addresses": [BOX, f"{GATEWAY}-{FREE}"], **fields}
    return {"apiVersion": "weir.dev/v1alpha1", "kind": "VIPPool", "metadata": {"name": "lan"}, "spec": spec}


def service(name: str, **spec: str) -> list[dict[str, Any]]:
    """And its slice, of the first backend."""
    metadata, port = {"namespace": "shop", "name": name}, {"name": "http", "port": 8080, "protocol": "TCP"}
    labels = {"kubernetes.io/service-name": name}
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"type": "LoadBalancer", "ports": ports, **spec}},
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "addressType": "IPv4",
            "metadata": metadata | {"labels": labels},
            "ports": [port],
            "endpoints": [{"addresses": ["10.77.0.11"]}],
        },
    ]


class Box:
    """One whose front address, and whose gateway's, are in the pool."""

    def __init__(self, found: Stage) -> None:
        self.stage = found

    def offer(self, **fields: Any) -> None:
        (self.stage.folder / "shop" / "pool.yaml").write_text(yaml.safe_dump(pool(**fields)))

    def status(self) -> dict[str, Any]:
        return dict(self.stage.ask("status")[0])

    def condition(self, name: str, kind: str = "Allocated") -> tuple[bool, str, str]:
        for each in self.status()["services"]:
            if each["service"] == f"shop/{name}":
                return next((c["status"], c["reason"], c.get("message", "")) for c in each["conditions"] if c["type"] == kind)
        return False, "", ""

    def vips(self) -> dict[str, list[str]]:
        return {each["service"]: each["vips"] for each in self.status()["services"]}

    def answers(self, address: str, port: str) -> bool:
        done = self.stage.network.run("client", "curl", "-s", "-m", "2", "-o", "/dev/null", f"http://{address}:{port}/", check=False)
        return not done.returncode


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    if os.geteuid():
        pytest.skip("namespaces and BPF need root")
    with stage(own("weirown"), fast=True) as found:
        for file in (found.folder / "shop").iterdir():
            file.unlink()
        made = Box(found)
        made.offer()
        objects = [*service("drawn"), *service("named", loadBalancerIP=BOX), *service("router", loadBalancerIP=GATEWAY)]
        (found.folder / "shop" / "services.yaml").write_text(yaml.safe_dump_all(objects))
        found.network.run("lb", "ip", "route", "add", "default", "via", GATEWAY)
        found.network.popen("lb", sys.executable, "-m", "http.server", PORT, "--bind", "0.0.0.0", stdout=-3, stderr=-3)
        assert wait_until(lambda: made.answers(BOX, PORT), 30)
        found.up()
        found.wait_for("a VIP", 60, "status", holds=lambda told: made.condition("drawn", "Programmed")[0])
        yield made


def test_the_box_keeps_its_address_and_is_named_to_who_asks_for_it(box: Box) -> None:
    assert box.vips() == {"shop/drawn": [FREE], "shop/named": [], "shop/router": []}
    node = box.status()["nodes"][0]["node"]
    words = f"{BOX} is LB node {node}'s own address; pool lan can share it by ports: shareWithNodes"
    assert box.condition("named") == (False, "AddressInUse", words)
    assert box.condition("router") == (False, "AddressInUse", f"{GATEWAY} is the default gateway of LB node {node}")
    assert box.answers(FREE, "80")
    assert box.answers(BOX, PORT)


def test_a_vip_that_the_box_comes_to_have_is_reported_and_stays(box: Box) -> None:
    lb = box.stage.network
    node = box.status()["nodes"][0]["node"]
    lb.run("lb", "ip", "address", "add", f"{FREE}/32", "dev", "back")
    words = f"{FREE} is also LB node {node}'s own address; both stay until one is changed"
    assert wait_until(lambda: box.condition("drawn") == (True, "AddressInUse", words), 30), box.status()
    assert box.status()["problems"] == [f"node {node}: {FREE}, its own address, is also the VIP of shop/drawn"]
    assert box.answers(FREE, "80")
    lb.run("lb", "ip", "address", "del", f"{FREE}/32", "dev", "back")
    assert wait_until(lambda: box.condition("drawn")[1] == "Allocated" and not box.status()["problems"], 30), box.status()


def test_a_pool_may_share_the_boxs_address_and_its_gateways_not(box: Box) -> None:
    box.offer(shareWithNodes=True)
    assert wait_until(lambda: box.condition("named", "Programmed")[0], 30), box.status()
    assert box.vips() == {"shop/drawn": [FREE], "shop/named": [BOX], "shop/router": []}
    assert box.answers(BOX, "80")
    assert not box.status()["problems"]
