"""deploy/ against a real API server: it admits every overlay, refuses bad pools, and the watcher does its work with its account alone."""

import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.api import Api, ApiError, Object
from tests.cluster.cluster import ROOT, Cluster
from tests.log_server import LogServer, log_server
from tests.own import free_port, own
from weir.bus.client import Bus
from weir.decider import Decided
from weir.demo.network import wait_until
from weir.events import AppliedThrough, NodeSeen
from weir.where import Where

OVERLAYS = ("in-cluster", "external", "single-node")
NAMESPACE = "weir-system"
ACCOUNTS = ("watcher", "ipam", "planner", "node", "nats", "bootstrap")
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
GOLDEN = Path(__file__).parent / "testdata" / "access.txt"


@pytest.fixture(scope="module")
def deployed(cluster: Cluster) -> Cluster:
    """With all of an overlay but what would run: pods have no machine here."""
    cluster.install_crds()
    cluster.install_gateway_api()
    found = cluster.kubectl("kustomize", str(ROOT / "deploy/overlays/in-cluster"))
    kept = [document for document in found.stdout.split("\n---\n") if not _runs(document)]
    cluster.api.apply(*kept)
    watcher = cluster.api_of(cluster.account_token(NAMESPACE, "watcher"))
    cluster.wait_for("the policy in force", lambda: _is_denied(watcher, _of_a_gateway(selector={"app": "mine"})))
    return cluster


def _is_denied(api: Api, service: Object) -> bool:
    try:
        api.post("/api/v1/namespaces/default/services?dryRun=All", service)
    except ApiError as error:
        return error.code == 422
    return False


def _runs(document: str) -> bool:
    return any(f"kind: {kind}\n" in document for kind in ("Deployment", "StatefulSet", "DaemonSet", "Job", "CustomResourceDefinition"))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_api_server_admits_every_overlay(deployed: Cluster, overlay: str) -> None:
    words = ("--server-side", "--force-conflicts", "--dry-run=server", "-k", str(ROOT / "deploy/overlays" / overlay))
    assert deployed.kubectl("apply", *words).stdout.count("serverside-applied") >= 30


def test_all_but_the_nodes_pods_are_admitted_where_security_is_restricted(deployed: Cluster) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    deployed.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "weirstrict", "labels": labels}})
    refused = {name: words for name, pod in _pods(deployed) if (words := _refusal(deployed, pod))}
    print(refused)
    assert list(refused) == ["node"]
    assert "privileged" not in refused["node"]


def _pods(cluster: Cluster) -> Iterator[tuple[str, Object]]:
    found = cluster.kubectl("kustomize", str(ROOT / "deploy/overlays/in-cluster"))
    for each in yaml.safe_load_all(found.stdout):
        if "template" in each.get("spec", {}):
            spec = each["spec"]["template"]["spec"] | {"serviceAccountName": "default", "restartPolicy": "Never"}
            claims = [{"name": claim["metadata"]["name"], "emptyDir": {}} for claim in each["spec"].get("volumeClaimTemplates", ())]
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec | {"volumes": [*spec["volumes"], *claims]}}
            yield each["metadata"]["name"], pod


def _refusal(cluster: Cluster, pod: Object) -> str:
    """What pod security says against it."""
    try:
        cluster.api.post("/api/v1/namespaces/weirstrict/pods?dryRun=All", pod)
    except ApiError as error:
        return error.message
    return ""


# ── pools ──────────────────────────────────────────────────────────────────────────────────────────────────────────

MANY = [f"10.{number}.0.0/24" for number in range(65)]
ADMITTED: dict[str, Object] = {
    "a CIDR": {"addresses": ["203.0.113.0/28"]},
    "host bits": {"addresses": ["123.123.123.1/24"]},
    "one address": {"addresses": ["203.0.113.7"]},
    "one address as a CIDR": {"addresses": ["203.0.113.7/32"]},
    "first-last": {"addresses": ["203.0.113.10-203.0.113.29"]},
    "first-last with spaces": {"addresses": ["203.0.113.10 - 203.0.113.29"]},
    "first and last the same": {"addresses": ["203.0.113.10-203.0.113.10"]},
    "both families": {"addresses": ["203.0.113.0/28", "2001:db8::/64", "2001:db8:1::1-2001:db8:1::ff"]},
    "all fields": {
        "addresses": ["203.0.113.0/28"],
        "autoAssign": False,
        "priority": -3,
        "avoidBuggyIPs": True,
        "shareWithNodes": True,
        "oneAnnouncer": True,
        "serviceSelector": {"matchLabels": {"a": "b"}},
        "namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]},
    },
    "64 ranges": {"addresses": MANY[:64]},
}
REFUSED: dict[str, Any] = {
    "no spec": None,
    "no addresses": {},
    "an empty list": {"addresses": []},
    "a word": {"addresses": ["public"]},
    "a prefix beyond 32": {"addresses": ["203.0.113.0/33"]},
    "half a range": {"addresses": ["203.0.113.10-"]},
    "three ends": {"addresses": ["203.0.113.1-203.0.113.2-203.0.113.3"]},
    "ends of two families": {"addresses": ["203.0.113.1-2001:db8::1"]},
    "last before first": {"addresses": ["203.0.113.29-203.0.113.10"]},
    "leading zeros": {"addresses": ["203.0.113.010"]},
    "a zone": {"addresses": ["fe80::1%eth0"]},
    "IPv4-mapped": {"addresses": ["::ffff:203.0.113.1"]},
    "everything": {"addresses": ["0.0.0.0/0"]},
    "loopback": {"addresses": ["127.0.0.0/8"]},
    "loopback of IPv6": {"addresses": ["::1"]},
    "link-local": {"addresses": ["169.254.1.1"]},
    "link-local of IPv6": {"addresses": ["fe80::/64"]},
    "multicast": {"addresses": ["224.0.0.1-224.0.0.9"]},
    "multicast of IPv6": {"addresses": ["ff02::/16"]},
    "broadcast": {"addresses": ["255.255.255.255/32"]},
    "the same twice": {"addresses": ["203.0.113.0/28", "203.0.113.0/28"]},
    "65 ranges": {"addresses": MANY},
    "text as a flag": {"addresses": ["203.0.113.0/28"], "autoAssign": "yes"},
    "text as a number": {"addresses": ["203.0.113.0/28"], "priority": "high"},
    "a selector with nothing in it": {"addresses": ["203.0.113.0/28"], "serviceSelector": {}},
    "a selector with a misspelt field": {"addresses": ["203.0.113.0/28"], "serviceSelector": {"matchLabel": {"a": "b"}}},
    "In without values": {"addresses": ["203.0.113.0/28"], "serviceSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}},
    "an unknown operator": {"addresses": ["203.0.113.0/28"], "serviceSelector": {"matchExpressions": [{"key": "a", "operator": "Is"}]}},
}


@pytest.mark.parametrize("words", ADMITTED)
def test_a_good_pool_is_admitted(deployed: Cluster, words: str) -> None:
    made = _try_pool(deployed, ADMITTED[words])
    defaults = {"autoAssign": True, "priority": 0, "avoidBuggyIPs": False, "share": "key", "shareWithNodes": False, "oneAnnouncer": False}
    assert made["spec"] == defaults | ADMITTED[words]


@pytest.mark.parametrize("words", REFUSED)
def test_a_bad_pool_is_refused(deployed: Cluster, words: str) -> None:
    with pytest.raises(ApiError) as error:
        _try_pool(deployed, REFUSED[words])
    assert error.value.code == 422
    print(f"{words}: {error.value.message}")


def _try_pool(cluster: Cluster, spec: Any) -> Object:
    pool = {"apiVersion": "weir.dev/v1alpha1", "kind": "VIPPool", "metadata": {"name": "tried"}} | (
        {"spec": spec} if spec is not None else {}
    )
    made: Object = cluster.api.post("/apis/weir.dev/v1alpha1/vippools?dryRun=All", pool)
    return made


def test_kubectl_shows_what_a_person_asks_for(deployed: Cluster) -> None:
    pool = {"apiVersion": "weir.dev/v1alpha1", "kind": "VIPPool", "metadata": {"name": "shown"}, "spec": {"addresses": ["203.0.113.0/28"]}}
    deployed.api.apply(pool)
    status = {"used": 3, "total": 16, "conditions": [{"type": "Accepted", "status": "True", "reason": "Accepted"}]}
    deployed.api.patch("/apis/weir.dev/v1alpha1/vippools/shown/status", {"status": status})
    shown = deployed.kubectl("get", "vp", "shown").stdout.splitlines()
    deployed.api.remove(pool)
    assert shown[0].split() == ["NAME", "ADDRESSES", "USED", "TOTAL", "AUTO", "ACCEPTED", "REASON", "AGE"]
    assert shown[1].split()[:7] == ["shown", '["203.0.113.0/28"]', "3", "16", "true", "True", "Accepted"]


# ── the class of new Services ──────────────────────────────────────────────────────────────────────────────────────

CLASSES: dict[str, tuple[str, Object, Object, str | None]] = {
    "none is named": ("weirin", {}, {}, "weir.dev/weir"),
    "another's class stays": ("weirin", {}, {"loadBalancerClass": "metallb.io/metallb"}, "metallb.io/metallb"),
    "kube-loxilb's annotation": ("weirin", {"loxilb.io/loadBalancerClass": "loxilb.io/loxilb"}, {}, "loxilb.io/loxilb"),
    "our annotation": ("weirin", {"weir.dev/loadBalancerClass": "weir.dev/weir"}, {}, "weir.dev/weir"),
    "no load balancer": ("weirin", {}, {"type": "ClusterIP"}, None),
    "a namespace that did not ask for it": ("weirout", {}, {}, None),
}


@pytest.mark.parametrize("words", CLASSES)
def test_new_load_balancers_get_our_class_where_the_namespace_asks_for_it(deployed: Cluster, words: str) -> None:
    namespace, annotations, spec, expected = CLASSES[words]
    _namespaces(deployed)
    service = _service("web", namespace, annotations, spec)
    made = _made_with_policy(deployed, namespace, service, expected)
    assert made["spec"].get("loadBalancerClass") == expected


def test_a_service_that_becomes_a_load_balancer_gets_our_class(deployed: Cluster) -> None:
    _namespaces(deployed)
    _made_with_policy(deployed, "weirin", _service("first", "weirin", {}, {}), "weir.dev/weir")
    deployed.api.apply(_service("later", "weirin", {}, {"type": "ClusterIP"}))
    changed = deployed.api.patch("/api/v1/namespaces/weirin/services/later", {"spec": {"type": "LoadBalancer"}})
    deployed.api.delete("/api/v1/namespaces/weirin/services/later")
    assert changed["spec"]["loadBalancerClass"] == "weir.dev/weir"


def _namespaces(cluster: Cluster) -> None:
    for name, labels in (("weirin", {"weir.dev/inject-class": "true"}), ("weirout", {})):
        cluster.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})


def _service(name: str, namespace: str, annotations: Object, spec: Object) -> Object:
    whole = {"type": "LoadBalancer", "ports": [{"port": 80}]} | spec
    metadata = {"name": name, "namespace": namespace, "annotations": annotations}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": whole}


def _made_with_policy(cluster: Cluster, namespace: str, service: Object, expected: str | None) -> Object:
    """The API server takes up a new policy within a second or so."""
    made: list[Object] = []

    def done() -> bool:
        made.append(cluster.api.post(f"/api/v1/namespaces/{namespace}/services?dryRun=All", service))
        return made[-1]["spec"].get("loadBalancerClass") == expected

    wait_until(done, 30)
    return made[-1]


# ── who may what ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_accounts_may_what_the_table_says_and_nothing_else(deployed: Cluster) -> None:
    everybody = set(_access(deployed, "nobody"))
    lines = [f"{account:<10} {line}" for account in ACCOUNTS for line in _access(deployed, account) if line not in everybody]
    print("\n".join(lines))
    assert "\n".join(lines) + "\n" == GOLDEN.read_text()


def _access(cluster: Cluster, account: str) -> Iterator[str]:
    """Verbs allowed on each resource that the API server has, subresources included."""
    for group, resource in _resources(cluster):
        if verbs := [verb for verb in VERBS if _may(cluster, account, group, resource, verb)]:
            yield f"{group or 'core':<18} {resource:<20} {' '.join(verbs)}"


def _resources(cluster: Cluster) -> list[tuple[str, str]]:
    named = {each["name"]: "/apis/" + each["preferredVersion"]["groupVersion"] for each in cluster.api.get("/apis")["groups"]}
    paths = {"": "/api/v1", **named}
    return sorted((group, each["name"]) for group, path in paths.items() for each in cluster.api.get(path)["resources"])


def _may(cluster: Cluster, account: str, group: str, resource: str, verb: str) -> bool:
    what, _, part = resource.partition("/")
    asked = {"namespace": "default", "verb": verb, "group": group, "resource": what, "subresource": part}
    user = f"system:serviceaccount:{NAMESPACE}:{account}"
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{NAMESPACE}", "system:authenticated"]
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
    body = review | {"spec": {"user": user, "groups": groups, "resourceAttributes": asked}}
    told: Object = cluster.api.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", body)
    return bool(told["status"]["allowed"])


FORGED = {
    "a selector": {"spec": {"selector": {"app": "mine"}}},
    "external addresses": {"spec": {"externalIPs": ["198.51.100.9"]}},
    "a port": {"spec": {"ports": [{"port": 81}]}},
    "an annotation": {"metadata": {"annotations": {"weir.dev/staticIP": "198.51.100.9"}}},
    "a label": {"metadata": {"labels": {"app": "mine"}}},
}


@pytest.mark.parametrize("body", FORGED.values(), ids=FORGED)
def test_the_watchers_account_changes_nothing_of_a_service_but_its_finalizers(body: Object, deployed: Cluster) -> None:
    deployed.api.apply(_service("forged", "default", {}, {}))
    path, watcher = "/api/v1/namespaces/default/services/forged", deployed.api_of(deployed.account_token(NAMESPACE, "watcher"))
    try:
        with pytest.raises(ApiError) as refused:
            watcher.patch(path, body)
        assert (refused.value.code, "its finalizers alone" in str(refused.value)) == (422, True)
        watcher.patch(path, {"metadata": {"finalizers": ["weir.dev/vip"]}})
        watcher.patch(path, {"metadata": {"finalizers": []}})
    finally:
        deployed.api.delete(path)


def _of_a_gateway(**more: Any) -> Object:
    spec = {"type": "LoadBalancer", "loadBalancerClass": "weir.dev/gateway", "ports": [{"port": 80}], **more}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "edge-weir", "namespace": "default"}, "spec": spec}


MADE = {
    "another class": _of_a_gateway(loadBalancerClass="weir.dev/weir"),
    "no class": _of_a_gateway(type="ClusterIP", loadBalancerClass=None),
    "a selector": _of_a_gateway(selector={"app": "mine"}),
}


@pytest.mark.parametrize("body", MADE.values(), ids=MADE)
def test_the_watchers_account_makes_no_service_but_those_of_gateways(body: Object, deployed: Cluster) -> None:
    path, watcher = "/api/v1/namespaces/default/services", deployed.api_of(deployed.account_token(NAMESPACE, "watcher"))
    with pytest.raises(ApiError) as refused:
        watcher.post(path, body)
    assert (refused.value.code, "unless it is one of a Gateway's" in str(refused.value)) == (422, True)
    watcher.post(path, _of_a_gateway())
    try:
        watcher.patch(f"{path}/edge-weir", {"metadata": {"labels": {"team": "shop"}}})
        with pytest.raises(ApiError):
            watcher.patch(f"{path}/edge-weir", {"spec": {"selector": {"app": "mine"}}})
    finally:
        deployed.api.delete(f"{path}/edge-weir")


# ── the watcher with exactly that account ──────────────────────────────────────────────────────────────────────────


@contextmanager
def services(folder: Path, server: LogServer, kubeconfig: Path, *clusters: str) -> Iterator[Callable[[str], str]]:
    """Watcher, ipam and planner, each as its own user; yields what reads their logs.  clusters: names of the one that there is."""
    running = []
    try:
        for name, *options in (
            ["watcher", "--no-tls", *(f"--cluster={each}={kubeconfig}" for each in clusters or ("c",))],
            ["ipam"],
            ["planner"],
        ):
            command = [sys.executable, "-m", f"services.{name}", "--instance", own("weirdeployrbac"), *options]
            with (folder / f"{name}.log").open("w") as log:
                running.append(subprocess.Popen(command, env=server.environment(f"{name}.seed"), stderr=log, cwd=ROOT))
        yield lambda name: (folder / f"{name}.log").read_text()
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(60)
        shutil.rmtree(Where(own("weirdeployrbac")).run, ignore_errors=True)


async def _acknowledged(server: LogServer, monkeypatch: pytest.MonkeyPatch, node: str = "n1") -> None:
    """A node says that it holds all that is planned, for a cluster without machines."""
    author = f"dataplane-{node}"
    for key, value in server.environment(f"{author}.seed").items():
        monkeypatch.setenv(key, value)
    async with await Bus.connect(server.url, author) as bus:
        head = (await bus.stream())["state"]["last_seq"]  # not what the mirror has, which may lag
        facts = (NodeSeen(node=node, hook="tc", layout=1, interfaces=("eth0",), hooks=("tc",)), AppliedThrough(node=node, seq=head))
        await bus.append(author, [Decided(fact, 0) for fact in facts], await bus.last(author))


def test_the_watcher_does_its_work_with_exactly_its_account(deployed: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kubeconfig = deployed.kubeconfig_of_account(NAMESPACE, "watcher")
    api, here, ours = deployed.api, "/api/v1/namespaces/weirrbac", "/apis/weir.dev/v1alpha1"
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "weirrbac"}})
    pool = {"apiVersion": "weir.dev/v1alpha1", "kind": "VIPPool", "metadata": {"name": "rbac"}, "spec": {"addresses": ["198.51.100.7"]}}
    service = _service("web", "weirrbac", {}, {"loadBalancerClass": "weir.dev/weir", "allocateLoadBalancerNodePorts": False})
    with log_server(tmp_path, ["n1"], free_port()) as server, services(tmp_path, server, kubeconfig) as log:
        server.report_addresses("n1")
        try:
            api.apply(pool, service)
            deployed.wait_for("a plan", lambda: '"frontend_planned"' in log("planner"))
            asyncio.run(_acknowledged(server, monkeypatch))
            deployed.wait_for("a status", lambda: api.get(f"{here}/services/web")["status"]["loadBalancer"].get("ingress"))
            web = api.get(f"{here}/services/web")
            deployed.wait_for(
                "a record", lambda: api.get(f"{ours}/namespaces/weirrbac/lbservices/web")["status"]["vips"] == ["198.51.100.7"]
            )
            deployed.wait_for("a node", lambda: api.get(f"{ours}/lbnodes/n1")["status"]["hook"] == "tc")
            api.apply(service | {"metadata": {"namespace": "weirrbac", "name": "second"}})
            second = f"{ours}/namespaces/weirrbac/lbservices/second"
            deployed.wait_for("a record of one without an address", lambda: api.get(second)["status"]["reason"] == "PoolExhausted")
            row = deployed.kubectl("get", "lbservices", "-n", "weirrbac", "web", "--no-headers").stdout.split()
            assert row[:2] == ["web", "198.51.100.7"]
            deployed.wait_for(
                "its Event", lambda: "PoolExhausted" in [e["reason"] for e in api.items(f"{here}/events") if "second" in str(e)]
            )
            api.delete(f"{here}/services/second")
            api.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})
            api.patch("/api/v1/nodes/n1/status", {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}, "merge-patch")
            deployed.wait_for("a node that is not Ready", lambda: "NodeNotReady" in str(api.get(f"{ours}/lbnodes/n1")["status"]))
            deployed.wait_for("the use of the pool", lambda: api.get(f"{ours}/vippools/rbac")["status"]["used"] == 1)
            deployed.wait_for("an Event", lambda: [each for each in api.items(f"{here}/events") if each["involvedObject"]["name"] == "web"])
            api.delete(f"{here}/services/web")
            deployed.wait_for("its end in the plan", lambda: '"vip_withdrawn"' in log("planner"))  # the last of it
            asyncio.run(_acknowledged(server, monkeypatch))
            deployed.wait_for("the finalizer to go", lambda: not api.items(f"{here}/services"))
        finally:
            api.remove(pool)
            api.delete("/api/v1/nodes/n1")
        lines = log("watcher").splitlines()
    assert web["status"]["loadBalancer"]["ingress"][0]["ip"] == "198.51.100.7"
    assert "weir.dev/vip" in web["metadata"]["finalizers"]
    assert [line for line in lines if '"level": "error"' in line or '"reason": "403' in line] == []


def test_an_lb_node_whose_node_or_lbnode_is_deleted_holds_up_nothing(
    deployed: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """n1 is replaced by n2, then n2's LBNode is deleted by hand, though n2 lives."""
    kubeconfig = deployed.kubeconfig_of_account(NAMESPACE, "watcher")
    api, here, nodes = deployed.api, "/api/v1/namespaces/weirgone", "/apis/weir.dev/v1alpha1/lbnodes"
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "weirgone"}})
    api.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})
    spec = {"addresses": ["198.51.100.16/30"]}
    pool = {"apiVersion": "weir.dev/v1alpha1", "kind": "VIPPool", "metadata": {"name": "gone"}, "spec": spec}

    def service(name: str) -> Object:
        return _service(name, "weirgone", {}, {"loadBalancerClass": "weir.dev/weir", "allocateLoadBalancerNodePorts": False})

    def address(name: str) -> Any:
        return api.get(f"{here}/services/{name}")["status"]["loadBalancer"].get("ingress")

    def names() -> list[str]:
        return [each["metadata"]["name"] for each in api.items(nodes)]

    with log_server(tmp_path, ["n1", "n2"], free_port()) as server, services(tmp_path, server, kubeconfig) as log:
        server.report_addresses("n1")
        try:
            api.apply(pool, service("old"))
            deployed.wait_for("a plan", lambda: '"frontend_planned"' in log("planner"))
            for node in ("n1", "n2"):
                asyncio.run(_acknowledged(server, monkeypatch, node))
            deployed.wait_for("the address of the old one", lambda: address("old"))
            deployed.wait_for("both nodes", lambda: names() == ["n1", "n2"])
            api.apply(service("new"))
            deployed.wait_for("its plan", lambda: log("planner").count('"vip_planned"') == 2)
            api.delete(f"{here}/services/old")
            deployed.wait_for("the end of the old one", lambda: '"vip_withdrawn"' in log("planner"))
            asyncio.run(_acknowledged(server, monkeypatch, "n2"))
            deployed.wait_for("what it waits for", lambda: "waiting for n1 to confirm" in str(api.get(f"{here}/services/new")["status"]))
            assert not address("new")
            begun_s = time.monotonic()
            api.delete("/api/v1/nodes/n1")
            deployed.wait_for("the address of the new one", lambda: address("new"))
            print(f"address {time.monotonic() - begun_s:.2f} s after the Node was deleted")
            deployed.wait_for(
                "the finalizer of the old one to go",
                lambda: [each["metadata"]["name"] for each in api.items(f"{here}/services")] == ["new"],
            )
            deployed.wait_for("n1 to go", lambda: names() == ["n2"])
            api.delete(f"{nodes}/n2")
            deployed.wait_for("its retirement", lambda: log("watcher").count('"node_retired"') == 2)
            assert names() == []
            asyncio.run(_acknowledged(server, monkeypatch, "n2"))
            deployed.wait_for("n2, which lives", lambda: names() == ["n2"])
            record = "/apis/weir.dev/v1alpha1/namespaces/weirgone/lbservices/new"
            deployed.wait_for("n2 to serve it", lambda: api.get(record)["status"]["nodes"] == ["n2"])
        finally:
            api.remove(pool)
            api.delete(f"{here}/services/new")
            with contextlib.suppress(ApiError):  # 404: it is gone; else nobody confirms any more that its address is free
                api.patch(f"{here}/services/new", {"metadata": {"finalizers": []}})
            deployed.wait_for("the new one to go", lambda: not api.items(f"{here}/services"))


def test_a_watcher_that_may_not_see_a_kind_says_so_and_is_not_ready(deployed: Cluster, tmp_path: Path) -> None:
    kubeconfig, told = deployed.kubeconfig_of_account(NAMESPACE, "ipam"), Where(own("weirdeployrbac")).run / "watcher.json"

    def reason() -> str:
        return json.loads(told.read_text()).get("reason", "") if told.exists() else ""

    with log_server(tmp_path, ["n1"], free_port()) as server, services(tmp_path, server, kubeconfig):
        unseen = "cannot see BGPAdvertisement, BGPPeer, BackendTLSPolicy"
        deployed.wait_for("a reason", lambda: unseen in reason() and "403 Forbidden" in reason())
        assert json.loads(told.read_text())["state"] == "degraded"


def test_the_order_of_clusters_changes_nothing_and_one_that_is_retired_leaves_the_other_its_names(
    deployed: Cluster, tmp_path: Path
) -> None:
    """One API server stands for two clusters."""
    kubeconfig = deployed.kubeconfig_of_account(NAMESPACE, "watcher")

    def appended(server: LogServer, *clusters: str) -> str:
        """What a watcher of these adds to the log until it has added a Namespace that is made meanwhile, but for that."""
        mark = f"weirorder{len(marks)}"
        marks.append({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": mark}})
        with services(tmp_path, server, kubeconfig, *clusters) as log:
            deployed.wait_for("all to be compared once", lambda: '"caught_up"' in log("watcher"))
            deployed.api.apply(marks[-1])
            names = [f'"{mark}"' if each == "east" else f'"{each}:{mark}"' for each in clusters]
            deployed.wait_for("the mark of each", lambda: all(name in log("watcher") for name in names))
            lines = [line for line in log("watcher").splitlines() if '"seq"' in line and '"caught_up"' not in line and mark not in line]
        return "\n".join(lines)

    marks: list[Object] = []
    with log_server(tmp_path, ["n1"], free_port()) as server:
        try:
            first = appended(server, "east", "west")
            assert '"home_named"' in first
            assert "west:weir-system" in first
            assert "east:" not in first
            assert appended(server, "west", "east") == ""
            assert appended(server, "east", "west") == ""
            gone = appended(server, "west")
            assert '"namespace_gone"' in gone
            assert "west:" not in gone
        finally:
            deployed.api.remove(*marks)
