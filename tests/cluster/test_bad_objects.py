"""Bad Services, EndpointSlices and VIPPools through a real API server: what it admits is told on the object, and its neighbours stay."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.api import ApiError, Object
from tests.cluster.cluster import ROOT, Cluster
from tests.log_server import log_server
from tests.own import free_port, own
from weir.bus.permissions import CENTRAL
from weir.where import Where

NAME, SPACE = own("weirbadobjects"), "bad"
POOL, PEER = "203.0.113.0/30", "203.0.113.1"


def service(name: str, annotations: dict[str, str] | None = None, **spec: Any) -> Object:
    ports = [{"port": 80, "targetPort": 8080}]
    metadata = {"namespace": SPACE, "name": name, "annotations": annotations or {}}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"type": "LoadBalancer", "ports": ports, **spec}}


def slice_of(name: str, address: str = "10.44.1.2", kind: str = "IPv4", **fields: Any) -> Object:
    metadata = {"namespace": SPACE, "name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}}
    shape = {"addressType": kind, "ports": [{"port": 8080}], "endpoints": [{"addresses": [address]}], **fields}
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata, **shape}


def pool(name: str, *addresses: str, **spec: Any) -> Object:
    return {"apiVersion": "weir.dev/v1alpha1", "kind": "VIPPool", "metadata": {"name": name}, "spec": {"addresses": addresses, **spec}}


@pytest.fixture(scope="module")
def api(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that Weir's watcher, ipam and planner follow, with a pool and a good Service."""
    folder = tmp_path_factory.mktemp("bad")
    cluster.install_crds()
    cluster.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}}, pool(NAME, POOL))
    cluster.api.apply(service("peer", loadBalancerIP=PEER), slice_of("peer"))
    with log_server(folder, ["n1"], free_port()) as log, ExitStack() as stack:
        log.report_addresses("n1")
        for name in CENTRAL:
            words = [f"--cluster=kube={cluster.kubeconfig}"] if name == "watcher" else []
            stack.enter_context(process(folder, name, words, log.environment(f"{name}.seed")))
        cluster.wait_for("the good Service's address", lambda: told(cluster, "peer", "Allocated")[:1] == ("True",))
        yield cluster
        cluster.api.remove(pool(NAME, POOL))
    shutil.rmtree(Where(NAME).run, ignore_errors=True)


def process(folder: Path, name: str, words: list[str], env: dict[str, str]) -> Any:
    stack = ExitStack()
    log = stack.enter_context((folder / f"{name}.log").open("w"))
    argv = [sys.executable, "-m", f"services.{name}", "--instance", NAME, *words]
    started = stack.enter_context(subprocess.Popen(argv, cwd=ROOT, env=env, stdout=log, stderr=log))
    stack.callback(started.terminate)
    return stack


def told(cluster: Cluster, name: str, kind: str) -> tuple[str, ...]:
    """Status, reason and message of a condition of a Service."""
    status = cluster.api.get(f"/api/v1/namespaces/{SPACE}/services/{name}").get("status", {})
    found = [each for each in status.get("conditions", ()) if each["type"].rpartition("/")[2] == kind]
    return (found[0]["status"], found[0]["reason"], found[0]["message"]) if found else ()


def names(cluster: Cluster) -> set[str]:
    """Of the Services there are."""
    return {each["metadata"]["name"] for each in cluster.api.items(f"/api/v1/namespaces/{SPACE}/services")}


ADMITTED = {
    "SCTP beside UDP": (
        [service("a", ports=[{"name": "u", "port": 53, "protocol": "UDP"}, {"name": "s", "port": 53, "protocol": "SCTP"}])],
        ("Accepted", "Unsupported", "spec.ports[1].protocol: got 'SCTP'"),
    ),
    "address outside every pool": ([service("a", loadBalancerIP="198.51.100.1")], ("Allocated", "AddressOutsidePools", "198.51.100.1")),
    "address that is owned": ([service("a", loadBalancerIP=PEER)], ("Allocated", "AddressHeld", "bad/peer")),
    "address with a zone": ([service("a", loadBalancerIP="fe80::1%eth0")], ("Accepted", "Invalid", "without a zone")),
    "IPv4-mapped address": ([service("a", loadBalancerIP="::ffff:203.0.113.2")], ("Accepted", "Invalid", "not IPv4-mapped")),
    "multicast address": ([service("a", loadBalancerIP="224.0.0.1")], ("Accepted", "Invalid", "multicast")),
    "external addresses": ([service("a", externalIPs=["198.51.100.9"])], ("Accepted", "Unsupported", "CVE-2020-8554")),
    "a mode that nobody knows": ([service("a", {"weir.dev/lbmode": "fullnt"})], ("Accepted", "Invalid", "got 'fullnt'")),
    "a mode that is not served": ([service("a", {"loxilb.io/lbmode": "dsr"})], ("Accepted", "Unsupported", "got 'dsr'")),
    "escapes in an annotation": ([service("a", {"weir.dev/lbmode": "\x1b[2J"})], ("Accepted", "Invalid", "\\x1b[2J")),
    "a pool that nobody has": ([service("a", {"weir.dev/pool": "gold"})], ("Allocated", "NoPool", "gold")),
    "a slice of names": ([service("a"), slice_of("a", "web.example", "FQDN")], ("Serving", "NoEndpoints", "")),
    "a slice of names, told": ([service("a"), slice_of("a", "web.example", "FQDN")], ("Accepted", "Invalid", "addressType: got 'FQDN'")),
    "an endpoint that is a cloud's metadata": ([service("a"), slice_of("a", "100.100.100.200")], ("Accepted", "Invalid", "metadata")),
    "a slice of SCTP": (
        [service("a"), slice_of("a", ports=[{"name": "s", "port": 80, "protocol": "SCTP"}])],
        ("Serving", "NoEndpoints", ""),
    ),
}


@pytest.mark.parametrize(("objects", "expected"), ADMITTED.values(), ids=ADMITTED)
def test_what_the_api_admits_is_told_on_the_service(objects: list[Object], expected: tuple[str, str, str], api: Cluster) -> None:
    kind, reason, words = expected
    api.api.apply(*objects)
    try:
        api.wait_for(f"{kind} {reason}", lambda: told(api, "a", kind)[:2] == ("False", reason))
        assert words in told(api, "a", kind)[2]
        assert told(api, "peer", "Allocated")[0] == "True"
    finally:
        for each in reversed(objects):
            api.api.remove(each)
        api.wait_for("gone", lambda: "a" not in names(api))


REFUSED = {
    "port 0": service("a", ports=[{"port": 0}]),
    "port 65536": service("a", ports=[{"port": 65536}]),
    "port twice": service("a", ports=[{"name": "a", "port": 80}, {"name": "b", "port": 80}]),
    "headless": service("a", clusterIP="None"),
    "slice of 1001": slice_of("a", endpoints=[{"addresses": ["10.44.1.2"]}] * 1001),
    "endpoint on loopback": slice_of("a", "127.0.0.1"),
    "endpoint that is the metadata service": slice_of("a", "169.254.169.254"),
    "endpoint on multicast": slice_of("a", "224.0.0.1"),
    "pool of everything": pool("a", "0.0.0.0/0"),
    "pool of loopback": pool("a", "127.0.0.0/30"),
    "pool of nothing": pool("a"),
    "pool backwards": pool("a", "10.0.0.9-10.0.0.1"),
    "pool shared by something else": pool("a", "10.0.0.0/30", share="names"),
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_what_the_api_refuses_never_comes(body: Object, api: Cluster) -> None:
    with pytest.raises(ApiError) as refused:
        api.api.apply(body)
    assert refused.value.code in (422, 500), "500: ports that server-side apply cannot tell apart"


def test_a_pool_that_overlaps_another_says_so_and_offers_nothing(api: Cluster) -> None:
    second = pool("weirbad-second", "203.0.113.3-203.0.113.9")
    api.api.apply(second)
    path = "/apis/weir.dev/v1alpha1/vippools/weirbad-second"
    api.wait_for("told", lambda: api.api.get(path).get("status", {}).get("conditions"))
    (condition,) = [each for each in api.api.get(path)["status"]["conditions"] if each["type"] == "Accepted"]
    api.api.remove(second)
    assert (condition["status"], f"pool {NAME} has" in condition["message"]) == ("False", True)
