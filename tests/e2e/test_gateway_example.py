"""examples/gateway.yaml as it is: what it names is served, and HTTPS by the listener that it describes."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_gateway import Edge, secret
from tests.l7.certificates import Authority
from tests.own import own
from weir.demo.network import wait_until
from weir.demo.stage import EXAMPLE, stage

TEXT = (EXAMPLE.parent / "gateway.yaml").read_text()
HOST = "shop.example.com"


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    if os.geteuid():
        pytest.skip("namespaces and BPF need root")
    with stage(own("weirgwex"), fast=True) as found:
        for file in (found.folder / "shop").iterdir():
            file.unlink()
        made = Edge(found)
        (found.folder / "shop" / "gateway.yaml").write_text(TEXT)
        database = found.network.popen("b3", sys.executable, "-m", "http.server", "5432", "-d", str(found.folder / "shop"))
        try:
            found.up()
            yield made
        finally:
            database.kill()
            database.wait()


def test_what_the_example_names_is_served_and_all_is_well(edge: Edge) -> None:
    assert wait_until(lambda: edge.get(HOST)[0] == 200, 60), edge.get(HOST)
    bodies = {edge.get(HOST)[1].split()[0] for _ in range(40)}
    assert bodies <= {"b1", "b2"}, "blue and green"
    assert edge.get(HOST, "/old/cart")[0] == 302
    assert wait_until(lambda: edge.get("any", "/gateway.yaml", port=5432) == (200, TEXT), 20), "the database's port, by TCP"
    assert wait_until(lambda: edge.stage.ask("status")[0]["ok"], 20), edge.stage.ask("status")


def test_its_https_listener_is_served_with_a_certificate(edge: Edge, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    edge.write("secret.yaml", [secret("shop", *authority.sign("shop", f"DNS:{HOST}"))])
    (edge.stage.folder / "shop" / "gateway.yaml").write_text(TEXT.replace("# - {", "- {"))
    assert wait_until(lambda: edge.get_tls(HOST, str(authority.path))[0] == 200, 30), edge.get_tls(HOST, str(authority.path))
