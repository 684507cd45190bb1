"""Weir in front of a cluster's Services, as clients outside the cluster see it."""

from collections.abc import Iterator

import pytest

from tests.cluster.__main__ import WEB
from tests.cluster.machines import Machines
from tests.cluster.weir import Weir
from weir.demo.load import Load
from weir.demo.network import wait_until

PODS, SERVICE = 3, "/api/v1/namespaces/default/services/web"
DEPLOYMENT = "/apis/apps/v1/namespaces/default/deployments/web"


@pytest.fixture(scope="module")
def weir(site: Machines) -> Iterator[Weir]:
    """Weir on the LB node, with the Deployment and the Service of `make cluster`."""
    site.cluster.install_crds()
    with Weir(site.rig, site.cluster) as found:
        site.cluster.api.apply(WEB.read_text())
        site.cluster.wait_for("a VIP", lambda: found.running() and vips(site))
        yield found
        site.cluster.api.remove(WEB.read_text())
        site.cluster.wait_for("the pods gone", lambda: not site.pods(app="web"))


def vips(site: Machines) -> list[str]:
    return [one["ip"] for one in site.cluster.api.get(SERVICE)["status"]["loadBalancer"]["ingress"]]


def asked(site: Machines, vip: str) -> str:
    """What a client outside the cluster is answered; empty when it is not."""
    host = f"[{vip}]" if ":" in vip else vip
    return site.rig.run("client", "curl", "--silent", "--max-time", "1", f"http://{host}/", check=False).stdout


def scale(site: Machines, replicas: int) -> None:
    site.cluster.api.patch(DEPLOYMENT, {"spec": {"replicas": replicas}})
    site.wait_ready(replicas, app="web")


def answering(site: Machines, vip: str) -> set[str]:
    return {answer.split()[0] for _ in range(30) if (answer := asked(site, vip))}


def test_every_pod_answers_on_the_vip_from_outside(site: Machines, weir: Weir) -> None:
    pods = {pod["metadata"]["name"]: pod["spec"]["nodeName"] for pod in site.wait_ready(PODS, app="web")}
    assert {site.rig.nodes[node] for node in pods.values()} == {"routed", "overlay"}
    assert len(vips(site)) == 2
    for vip in vips(site):
        site.cluster.wait_for(f"all at {vip}", lambda vip=vip: answering(site, vip) == set(pods))


def test_a_service_scaled_to_nothing_answers_again_when_it_is_scaled_back(site: Machines, weir: Weir) -> None:
    scale(site, 0)
    before = vips(site)
    site.cluster.wait_for("no pod left", lambda: not site.pods(app="web"))
    site.cluster.wait_for("no answer", lambda: not asked(site, before[0]))
    scale(site, PODS)
    for vip in before:
        site.cluster.wait_for(f"an answer from {vip}", lambda vip=vip: asked(site, vip))
    assert vips(site) == before


def test_a_rolling_update_fails_no_request(site: Machines, weir: Weir) -> None:
    before = {pod["metadata"]["name"] for pod in site.wait_ready(PODS, app="web")}
    for vip in vips(site):
        site.cluster.wait_for(f"an answer from {vip}", lambda vip=vip: asked(site, vip))
    targets = [word for vip in vips(site) for word in ("--target", vip)]
    with Load(site.rig, *targets, "--port", "80", "--http", "32", "--rate", "400", "--nat") as load:
        container = {"name": "web", "image": "weir/backend:2"}
        site.cluster.api.patch(DEPLOYMENT, {"spec": {"template": {"spec": {"containers": [container]}}}}, "strategic-merge-patch")
        site.cluster.wait_for("the old gone", lambda: not before & {pod["metadata"]["name"] for pod in site.pods(app="web")})
        site.wait_ready(PODS, app="web")
        reached = load.now().http.good
        assert wait_until(lambda: load.now().http.good > reached + 200, 10)
        report = load.stop()
    print(f"\n{report.http.good} requests to {len(report.http.by_backend)} pods, longest gap {report.http.longest_gap_ms} ms")
    assert report.lost == 0, report.errors
    assert report.http.good > 0
    assert len(set(report.http.by_backend) - before) == PODS
