"""What clusters of the tests have of their own: the networks of the rig, names, claims, and a runtime that confines as it is asked to.

Kubernetes itself is real, and not tested here.
"""

import os
from typing import Any

import pytest

from tests.cluster.api import Object
from tests.cluster.image_build import TOOLS
from tests.cluster.machines import Machines
from tests.cluster.rig import LB

CAPABILITIES = {"net_bind_service": 10, "net_admin": 12, "bpf": 39}
NEW_USER = {"x86_64": 272, "aarch64": 97}  # unshare()


def backend(space: str, replicas: int = 3, **more: Any) -> Object:
    """A Deployment of servers that answer with their pod's name.  more: of the container."""
    server: Object = {"name": "web", "image": "weir/backend:1", "ports": [{"containerPort": 8080, "name": "http"}]}
    server |= {"readinessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 1}, **more}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [server], "terminationGracePeriodSeconds": 5}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": space, "name": "web"}, "spec": spec}


def service(space: str) -> Object:
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": space, "name": "web"}, "spec": spec}


def pod(space: str, name: str, script: str = "sleep infinity", container: Object | None = None, **spec: Any) -> Object:
    """One that runs a shell script."""
    only = {"name": "main", "image": TOOLS, "command": ["sh", "-euc", script], **(container or {})}
    spec = {"containers": [only], "terminationGracePeriodSeconds": 1, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": space, "name": name, "labels": {"app": name}}, "spec": spec}


def scale(site: Machines, space: str, replicas: int) -> None:
    site.cluster.api.patch(f"/apis/apps/v1/namespaces/{space}/deployments/web", {"spec": {"replicas": replicas}})


def output(site: Machines, space: str, name: str) -> str:
    """All that a pod says until it ends."""
    path = f"/api/v1/namespaces/{space}/pods/{name}"
    site.cluster.wait_for(f"pod {name} through", lambda: site.cluster.api.get(path)["status"]["phase"] in ("Succeeded", "Failed"))
    return str(site.cluster.api.get(f"{path}/log"))


def fetch(site: Machines, place: str, address: str) -> str:
    host = f"[{address}]" if ":" in address else address
    done = site.rig.run(place, "curl", "--silent", "--show-error", "--max-time", "2", f"http://{host}:8080/", check=False)
    return done.stdout


def answers(site: Machines, place: str, address: str, name: str = "") -> None:
    """Waits until what listens there answers; the kubelet's Ready is about one address of a pod, and not about all ways to it."""
    site.cluster.wait_for(f"{address} answers", lambda: (told := fetch(site, place, address)) != "" and told.startswith(name))


def test_pods_answer_over_the_routed_and_the_overlay_network(site: Machines, space: str) -> None:
    site.cluster.api.apply(backend(space, 4))
    for found in site.wait_ready(4, space, app="web"):
        for one in found["status"]["podIPs"]:
            answers(site, LB, one["ip"], found["metadata"]["name"])


def test_only_nodes_reach_the_pods_of_an_overlay_node(site: Machines, space: str) -> None:
    deployment = backend(space, 2)
    deployment["spec"]["template"]["spec"]["nodeSelector"] = {"network": "overlay"}
    site.cluster.api.apply(deployment)
    for found in site.wait_ready(2, space, app="web"):
        assert site.rig.nodes[found["spec"]["nodeName"]] == "overlay"
        assert fetch(site, "client", found["status"]["podIP"]) == ""
        answers(site, "n1", found["status"]["podIP"], found["metadata"]["name"])


def test_a_daemonset_runs_on_the_nodes_it_selects_and_with_their_addresses(site: Machines, space: str) -> None:
    template = {"metadata": {"labels": {"app": "agent"}}, "spec": {**backend(space)["spec"]["template"]["spec"], "hostNetwork": True}}
    template["spec"]["nodeSelector"] = {"weir.dev/lb": "true"}
    spec = {"selector": {"matchLabels": {"app": "agent"}}, "template": template}
    site.cluster.api.apply({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"namespace": space, "name": "agent"}, "spec": spec})
    (found,) = site.wait_ready(1, space, app="agent")
    assert (found["spec"]["nodeName"], found["status"]["podIP"]) == (LB, site.rig.node_addresses(LB)[0])
    answers(site, "n1", found["status"]["podIP"])


@pytest.mark.parametrize(
    ("secured", "capabilities", "seccomp"),
    [
        ({"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "BPF"]}}, {"net_admin", "bpf"}, 0),
        ({"capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}}, set(), 2),
        ({"runAsUser": 65532, "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}}, set(), 0),
        ({}, {"net_bind_service"}, 0),
        ({"privileged": True}, set(CAPABILITIES), 0),
    ],
    ids=["two", "none", "not root", "usual", "privileged"],
)
def test_a_container_is_confined_as_its_context_says(
    site: Machines, space: str, secured: Object, capabilities: set[str], seccomp: int
) -> None:
    only = {"securityContext": {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": "privileged" in secured, **secured}}
    call = f"perl -e 'print syscall({NEW_USER[os.uname().machine]}, 0x10000000)'"  # takes no capability: what refuses it is the filter
    status = "sed -n 's/^\\(CapEff\\|NoNewPrivs\\|Seccomp\\):\\t//p' /proc/self/status"
    script = f"id -u; {status}; touch /etc/x 2>/dev/null || echo refused; {call}"
    site.cluster.api.apply(pod(space, "bound", script, only, restartPolicy="Never"))
    user, effective, no_new, filtered, root, new_user = output(site, space, "bound").split()
    assert user == str(secured.get("runAsUser", 0))
    assert {name for name, bit in CAPABILITIES.items() if int(effective, 16) >> bit & 1} == capabilities
    assert (no_new, int(filtered), root) == ("0" if "privileged" in secured else "1", seccomp, "refused")
    assert new_user == ("-1" if seccomp else "0")


def test_a_stateful_set_keeps_names_and_data(site: Machines, space: str) -> None:
    mount = {"name": "data", "mountPath": "/data"}
    only = backend(space, command=["sh", "-euc", "hostname >>/data/lives; exec python -m tests.cluster.echo"], volumeMounts=[mount])
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    spec = {
        **only["spec"],
        "replicas": 2,
        "serviceName": "web",
        "podManagementPolicy": "Parallel",
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim}],
    }
    headless = service(space)
    headless["spec"]["clusterIP"] = "None"
    site.cluster.api.apply(headless, {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": only["metadata"], "spec": spec})
    site.wait_ready(2, space, app="web")
    site.cluster.api.delete(f"/api/v1/namespaces/{space}/pods/web-1")
    asked = "$(curl --silent --max-time 1 http://web-1.web:8080/ | cut -d ' ' -f 1)"
    count = f'until [ "{asked}" = web-1 ]; do sleep 0.1; done; cat /data/lives'
    asking = pod(space, "asks", count, {"volumeMounts": [mount]}, restartPolicy="Never")
    asking["spec"]["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": "data-web-1"}}]
    site.cluster.wait_for("it is gone", lambda: all("deletionTimestamp" not in one["metadata"] for one in site.pods(space)))
    site.wait_ready(2, space, app="web")
    site.cluster.api.apply(asking)
    assert output(site, space, "asks").split() == ["web-1", "web-1"]


def test_pods_reach_a_service_by_its_name(site: Machines, space: str) -> None:
    site.cluster.api.apply(backend(space), service(space))
    site.wait_ready(3, space, app="web")
    script = f"curl --silent --retry 5 --retry-all-errors --max-time 2 http://web.{space}.svc/x"
    site.cluster.api.apply(pod(space, "asks", script, restartPolicy="Never"))
    assert output(site, space, "asks").startswith("web-")


def test_pods_outlive_the_api_server_and_new_ones_follow(site: Machines, space: str) -> None:
    site.cluster.api.apply(backend(space, 1))
    (found,) = site.wait_ready(1, space, app="web")
    site.cluster.kill_apiserver()
    answers(site, LB, found["status"]["podIP"])
    site.cluster.start_apiserver()
    scale(site, space, 2)
    site.wait_ready(2, space, app="web")
