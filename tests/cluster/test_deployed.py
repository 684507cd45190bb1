"""Weir as pods: `kubectl apply -k` on a cluster that has nothing of it, and what clients outside the cluster see."""

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cluster.api import Object
from tests.cluster.conftest import unused
from tests.cluster.deployed import SPACE, WEB, Deployed, vips
from tests.cluster.machines import Machines, condition, machines
from tests.cluster.node import family
from tests.cluster.rig import LB
from tests.e2e.router import router
from tests.l7.certificates import Authority
from weir.demo.load import Load

BESIDE = Path(__file__).with_name("testdata") / "beside.yaml"
GATEWAY = Path(__file__).with_name("testdata") / "gateway.yaml"
HOSTNAME = "web.example.com"
CAPABILITIES = {
    "CHOWN": 0,
    "KILL": 5,
    "SETGID": 6,
    "SETUID": 7,
    "SETPCAP": 8,
    "NET_BIND_SERVICE": 10,
    "NET_ADMIN": 12,
    "NET_RAW": 13,
    "SYS_ADMIN": 21,
    "SYS_NICE": 23,
    "PERFMON": 38,
    "BPF": 39,
}
PODS, DEPLOYMENT = 3, "/apis/apps/v1/namespaces/default/deployments/web"


@pytest.fixture(scope="module")
def weir(root: None, built: None) -> Iterator[Deployed]:
    """Weir's pods Ready on machines of their own, and the Service of `make cluster` answering."""
    with unused("weirpods") as name, machines(name, apart=True) as site:
        found = Deployed(site)
        found.apply()
        found.wait()
        site.cluster.api.apply(WEB.read_text())
        site.wait_ready(PODS, app="web")
        site.cluster.wait_for("an answer", lambda: all(asked(site, vip) for vip in vips(site)))
        yield found


def asked(site: Machines, vip: str) -> str:
    """What a client outside the cluster is answered; empty when it is not."""
    host = f"[{vip}]" if ":" in vip else vip
    return site.rig.run("client", "curl", "--silent", "--max-time", "1", f"http://{host}/", check=False).stdout


def answering(site: Machines, vip: str) -> set[str]:
    """The pods that answer forty requests."""
    return {answer.split()[0] for _ in range(40) if (answer := asked(site, vip))}


def test_every_pod_answers_on_the_vip(weir: Deployed) -> None:
    pods = {pod["metadata"]["name"]: pod["spec"]["nodeName"] for pod in weir.site.pods(app="web")}
    assert {weir.site.rig.nodes[node] for node in pods.values()} == {"routed", "overlay"}
    for vip in vips(weir.site):
        weir.site.cluster.wait_for(f"all of them behind {vip}", lambda vip=vip: answering(weir.site, vip) == set(pods))


def test_the_operator_sees_how_it_stands_from_wherever_the_log_can_be_reached(weir: Deployed) -> None:
    weir.site.cluster.wait_for("all well", lambda: weir.weir("status").returncode == 0)
    found = json.loads(weir.weir("status", "-o", "json").stdout)
    states = {each["name"]: each["state"] for each in found["processes"]}
    assert states == dict.fromkeys(("watcher", "ipam", "planner", f"dataplane-{LB}", f"health-{LB}"), "following")
    assert [each["summary"] for each in found["services"]] == ["serving"]


def test_every_container_runs_as_confined_as_its_manifest_says(weir: Deployed) -> None:
    """By what the kernel says of its first process."""
    pids = {pid for node in weir.site.processes() for pid in family(node) if _is_first(pid)}
    by_container = {Path(_read(pid, "cgroup").splitlines()[0]).name: pid for pid in pids}
    seen = set()
    for pod in weir.site.pods(SPACE):
        spec, status = pod["spec"], pod["status"]
        specs = {each["name"]: each for each in (*spec.get("initContainers", ()), *spec["containers"])}
        for each in (*status.get("initContainerStatuses", ()), *status["containerStatuses"]):
            if "running" in each["state"]:
                wanted = {**spec["securityContext"], **specs[each["name"]]["securityContext"]}
                assert _confinement(by_container[each["containerID"].rpartition("/")[2]]) == _wanted(wanted), each["name"]
                seen.add(each["name"])
    assert seen == {"nats", "watcher", "ipam", "planner", "loader", "dataplane", "hello", "health", "envoy", "frr"}


class Confinement(NamedTuple):
    """users: real, effective, saved, of files; seccomp: 2 with a filter; root: ro or rw."""

    users: list[str]
    effective: int
    bounding: int
    seccomp: str
    no_new_privileges: str
    root: str


def _wanted(context: Object) -> Confinement:
    added = sum(1 << CAPABILITIES[name] for name in context["capabilities"].get("add", ()))
    filtered = {"RuntimeDefault": "2", "Unconfined": "0"}[context["seccompProfile"]["type"]]
    root = "ro" if context["readOnlyRootFilesystem"] else "rw"
    return Confinement([str(context["runAsUser"])] * 4, added, added, filtered, "0" if context["allowPrivilegeEscalation"] else "1", root)


def _confinement(pid: int) -> Confinement:
    found = dict(line.split(":\t") for line in _read(pid, "status").splitlines() if ":\t" in line)
    root = next(line.split()[5] for line in _read(pid, "mountinfo").splitlines() if line.split()[4] == "/")
    effective, bounding = (int(found[name], 16) for name in ("CapEff", "CapBnd"))
    return Confinement(found["Uid"].split(), effective, bounding, found["Seccomp"], found["NoNewPrivs"], root.split(",")[0])


def _is_first(pid: int) -> bool:
    """Whether it is the first process of a container, and not of the pod's own."""
    return any(line.startswith("NSpid:") and line.endswith("\t1") for line in _read(pid, "status").splitlines())


def _read(pid: int, file: str) -> str:
    """Empty once the process has ended."""
    with contextlib.suppress(OSError):
        return (Path("/proc") / str(pid) / file).read_text()
    return ""


PEER = """
apiVersion: weir.dev/v1alpha1
kind: BGPPeer
metadata: {name: tor}
spec: {myASN: 65001, peerASN: 65000, peerAddress: 10.76.0.2, bfd: {interval: 300}}
---
apiVersion: weir.dev/v1alpha1
kind: BGPAdvertisement
metadata: {name: all}
spec: {}
"""


def test_a_router_is_told_of_the_vip(weir: Deployed) -> None:
    site = weir.site
    (vip,) = (vip for vip in vips(site) if "." in vip)
    with router(site.rig, "client", ["10.76.0.1"]) as tor:
        site.cluster.api.apply(PEER)
        site.cluster.wait_for("a route", lambda: tor.routes().get(vip) == ["10.76.0.1"])
        site.cluster.wait_for("an answer", lambda: asked(site, vip))
        site.cluster.kubectl("delete", "bgppeer", "tor")
        site.cluster.wait_for("no route", lambda: not tor.routes())
    site.cluster.kubectl("delete", "bgpadvertisement", "all")


def test_a_rolling_update_fails_no_request(weir: Deployed) -> None:
    site = weir.site
    before = {pod["metadata"]["name"] for pod in site.pods(app="web")}
    vip = next(vip for vip in vips(site) if "." in vip)
    with Load(site.rig, "--target", vip, "--port", "80", "--http", "32", "--rate", "400", "--nat") as load:
        container = {"name": "web", "image": "weir/backend:2"}
        site.cluster.api.patch(DEPLOYMENT, {"spec": {"template": {"spec": {"containers": [container]}}}}, "strategic-merge-patch")
        site.cluster.wait_for("the old gone", lambda: not before & {pod["metadata"]["name"] for pod in site.pods(app="web")})
        after = {pod["metadata"]["name"] for pod in site.wait_ready(PODS, app="web")}
        site.cluster.wait_for("requests to the new", lambda: after <= set(load.now().http.by_backend))
        report = load.stop()
    print(f"\n{report.http.good} requests, longest gap {report.http.longest_gap_ms} ms")
    assert report.lost == 0, report.errors


def test_pods_of_the_lb_node_serve_whether_they_share_a_bridge_or_have_an_interface_each(weir: Deployed) -> None:
    site = weir.site
    before = _restarts(site)
    site.cluster.api.apply(BESIDE.read_text())
    pods = site.wait_ready(2, app="beside")
    links = {_link(site, pod["status"]["podIP"]) for pod in pods}
    assert [link for link in links if link.startswith("cali")], links
    assert "pods" in links, "of the bridge"
    names = {pod["metadata"]["name"] for pod in pods}
    site.cluster.wait_for("two VIPs", lambda: len(vips(site, name="beside")) == 2)
    for vip in vips(site, name="beside"):
        site.cluster.wait_for(f"both of them behind {vip}", lambda vip=vip: answering(site, vip) == names)
    assert _restarts(site) == before, "interfaces of pods need no new life of anything"


def test_an_interface_that_comes_anew_is_loaded_again(weir: Deployed) -> None:
    site = weir.site
    vip = next(vip for vip in vips(site) if "." in vip)
    pods = {pod["metadata"]["name"] for pod in site.pods(app="web")}
    restarts = _restarts(site)
    site.rig.renew_overlay(LB)
    site.cluster.wait_for("the pods of the overlay behind the VIP", lambda: answering(site, vip) == pods)
    weir.wait()
    after = _restarts(site)
    print(f"\nrestarts before {restarts}, after {after}")
    assert after["health"] == restarts["health"]


def test_a_gateway_is_served_by_envoy_beside_the_agent(weir: Deployed, tmp_path: Path) -> None:
    site, authority = weir.site, Authority(tmp_path)
    certificate, key = authority.sign("web", f"DNS:{HOSTNAME}")
    content = {"tls.crt": certificate, "tls.key": key}
    tls = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "stringData": content}
    site.cluster.api.apply({**tls, "metadata": {"name": "tls", "namespace": "default"}}, GATEWAY.read_text())
    pods = {pod["metadata"]["name"] for pod in site.pods(app="web")}
    site.cluster.wait_for("the Gateway programmed", lambda: condition(_gateway(site), "Programmed"))
    vip = next(each["value"] for each in _gateway(site)["status"]["addresses"])

    def answering_on(*words: str) -> set[str]:
        named = ("--resolve", f"{HOSTNAME}:80:{vip}", "--resolve", f"{HOSTNAME}:443:{vip}", *words)
        asking = [site.rig.run("client", "curl", "--silent", "--max-time", "2", *named, check=False).stdout for _ in range(40)]
        return {answer.split()[0] if answer else "" for answer in asking}

    site.cluster.wait_for("all of them over HTTP", lambda: answering_on(f"http://{HOSTNAME}/") == pods)
    site.cluster.wait_for("and HTTPS", lambda: answering_on("--cacert", str(authority.path), f"https://{HOSTNAME}/") == pods)
    restarts = _restarts(site)
    (envoy,) = [pid for node in site.processes() for pid in family(node) if _read(pid, "comm").strip() == "envoy"]
    os.kill(envoy, signal.SIGKILL)
    site.cluster.wait_for("all of them once it was killed", lambda: answering_on(f"http://{HOSTNAME}/") == pods)
    assert _restarts(site) == restarts, "it is started again in its container: kubelet would wait"
    site.cluster.wait_for("the Service of the Gateway", lambda: vips(site, name="edge-weir") == [vip])
    made = site.cluster.api.get("/api/v1/namespaces/default/services/edge-weir")["metadata"]
    assert made["labels"]["team"] == "shop"
    assert made["annotations"] == {"external-dns.alpha.kubernetes.io/hostname": HOSTNAME}
    assert asked(site, vip) == "", "a request without the hostname: nobody but the Gateway answers there"
    site.cluster.api.delete("/apis/gateway.networking.k8s.io/v1/namespaces/default/gateways/edge")
    site.cluster.wait_for("it is collected", lambda: "edge-weir" not in _names(site, "services"))


def _names(site: Machines, plural: str) -> set[str]:
    return {each["metadata"]["name"] for each in site.cluster.api.items(f"/api/v1/namespaces/default/{plural}")}


def _gateway(site: Machines) -> Object:
    found: Object = site.cluster.api.get("/apis/gateway.networking.k8s.io/v1/namespaces/default/gateways/edge")
    return found


def _link(site: Machines, address: str) -> str:
    """The interface by which the LB node reaches an address."""
    (route,) = json.loads(site.rig.run(LB, "ip", "-json", "route", "get", address).stdout)
    return str(route["dev"])


def _restarts(site: Machines) -> dict[str, int]:
    """Of each container of the LB node's pod."""
    (pod,) = [pod for pod in site.pods(SPACE) if pod["metadata"]["name"].startswith("node-")]
    return {each["name"]: each["restartCount"] for each in pod["status"]["containerStatuses"]}


def test_without_any_pod_of_weir_and_without_the_api_the_kernel_forwards_on(weir: Deployed) -> None:
    site = weir.site
    vip = next(vip for vip in vips(site) if "." in vip)
    with Load(site.rig, "--target", vip, "--port", "80", "--http", "16", "--rate", "200", "--nat") as load:
        for kind in ("daemonsets", "deployments", "statefulsets"):
            for found in site.cluster.api.items(f"/apis/apps/v1/namespaces/{SPACE}/{kind}"):
                site.cluster.api.delete(f"/apis/apps/v1/namespaces/{SPACE}/{kind}/{found['metadata']['name']}")
        site.cluster.wait_for("Weir's pods gone", lambda: all(pod["status"]["phase"] == "Succeeded" for pod in site.pods(SPACE)))
        site.cluster.kill_apiserver()
        counted = load.now().http.good
        site.cluster.wait_for("more requests", lambda: load.now().http.good > counted + 500)
        report = load.stop()
    site.cluster.start_apiserver()
    assert report.lost == 0, report.errors
