"""The log lost under load, and brought back from a backup older than what the node forwards by: nothing lost, no VIP changed."""

import shutil
import subprocess
from collections.abc import Iterator

import pytest

from services.dataplane.edge import KEPT_S
from tests.running import Running, running_weir
from weir.demo.network import wait_until

LATER = """
apiVersion: v1
kind: Service
metadata: {namespace: shop, name: later}
spec:
  type: LoadBalancer
  loadBalancerClass: weir.dev/weir
  ports: [{name: http, port: 80, targetPort: 8080}, {name: dns, port: 53, targetPort: 5353, protocol: UDP}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: shop, name: later-v4, labels: {kubernetes.io/service-name: later}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: dns, port: 5353, protocol: UDP}]
endpoints: [{addresses: [10.77.0.12]}]
"""


@pytest.fixture(scope="module")
def weir() -> Iterator[Running]:
    with running_weir("weirback") as found:
        yield found


def test_a_lost_log_comes_back_from_an_older_backup_without_loss(weir: Running) -> None:
    backup = weir.stage.folder / "weir.backup"
    print(told(weir, "backup", str(backup)))
    first = weir.vips()
    (weir.stage.folder / "shop" / "later.yaml").write_text(LATER)
    assert wait_until(lambda: len(weir.vips()) == 3, 30)
    weir.settled(60)
    before, vips = weir.maps(), weir.vips()
    with weir.under_load(*first):
        weir.end()
        shutil.rmtree(weir.where.state / "nats")
        print(told(weir, "restore", str(backup)))
        assert weir.maps() == before
        weir.stage.up()
        took = weir.settled(KEPT_S + 90)
        assert weir.vips() == vips
    assert "older copy" in (weir.stage.folder / "up.log").read_text(), "an older plan was applied at once"
    print(f"restored and up: settled after {took:.1f} s")
    print(told(weir, "log", "tail", "-n", "3"))


def test_a_restore_leaves_a_log_alone_that_is_there(weir: Running) -> None:
    backup = weir.stage.folder / "weir.backup"
    assert "is up" in refused(weir, "restore", str(backup))
    weir.end()
    assert "--force" in refused(weir, "restore", str(backup))
    aside = weir.where.state / "nats.before"
    aside.mkdir()
    assert "move or remove it first" in refused(weir, "restore", "--force", str(backup)), "the log before an earlier restore is lost"
    aside.rmdir()
    torn = weir.stage.folder / "torn.backup"
    torn.write_bytes(backup.read_bytes()[:-20_000])
    store = sorted((path.name, path.stat().st_size) for path in (weir.where.state / "nats").rglob("*"))
    assert "not a complete backup" in refused(weir, "restore", "--force", str(torn), code=2)
    assert sorted((path.name, path.stat().st_size) for path in (weir.where.state / "nats").rglob("*")) == store
    weir.stage.up()
    weir.settled(60)


def test_a_log_lost_without_a_backup_is_made_anew_and_the_node_forwards_on(weir: Running) -> None:
    (weir.stage.folder / "shop" / "later.yaml").unlink()  # with two, each might get the other's VIP: docs/operations.md
    assert wait_until(lambda: len(weir.vips()) == 2, 30)
    weir.settled(60)
    with weir.under_load():
        weir.end()
        shutil.rmtree(weir.where.state / "nats")
        weir.stage.up()
        took = weir.settled(KEPT_S + 90)
    print(f"begun anew: settled after {took:.1f} s")


def told(weir: Running, *words: str) -> str:
    return weir.network.run("lb", *weir.command(*words)).stdout


def refused(weir: Running, *words: str, code: int = 1) -> str:
    done: subprocess.CompletedProcess[str] = weir.network.run("lb", *weir.command(*words), check=False)
    assert done.returncode == code
    return done.stderr
