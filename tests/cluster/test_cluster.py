"""The cluster of the tests itself: what a Deployment, a Job and a Service without a load balancer need of it is as in a real one."""

from typing import Any

import pytest

from tests.cluster.api import Object
from tests.cluster.machines import Machines, condition
from tests.cluster.rig import LB

UPPER = {"net_bind_service": 10, "net_admin": 12, "bpf": 39}


def backend(space: str, replicas: int = 3, **more: Any) -> Object:
    """A Deployment of servers that answer with their pod's name.  more: of the container."""
    server = {"name": "web", "image": "weir/backend:1", "ports": [{"containerPort": 8080, "name": "http"}], **more}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [server], "terminationGracePeriodSeconds": 5}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": space, "name": "web"}, "spec": spec}


def service(space: str) -> Object:
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": space, "name": "web"}, "spec": spec}


def pod(space: str, name: str, script: str = "sleep infinity", container: Object | None = None, **spec: Any) -> Object:
    """One that runs a shell script."""
    only = {"name": "main", "image": "pause", "command": ["sh", "-euc", script], **(container or {})}
    spec = {"containers": [only], "terminationGracePeriodSeconds": 1, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": space, "name": name, "labels": {"app": name}}, "spec": spec}


def endpoints(site: Machines, space: str) -> list[Object]:
    slices = site.cluster.api.items(f"/apis/discovery.k8s.io/v1/namespaces/{space}/endpointslices")
    return [one for found in slices for one in found["endpoints"] or ()]


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


def test_pods_of_a_deployment_are_the_endpoints_of_its_service(site: Machines, space: str) -> None:
    site.cluster.api.apply(backend(space), service(space))
    pods = site.wait_ready(3, space, app="web")
    assert len({found["spec"]["nodeName"] for found in pods}) > 1
    answering = {"ready": True, "serving": True, "terminating": False}
    wanted = {found["status"]["podIP"]: answering for found in pods}
    site.cluster.wait_for("endpoints", lambda: {one["addresses"][0]: one["conditions"] for one in endpoints(site, space)} == wanted)


def test_pods_answer_over_the_routed_and_the_overlay_network(site: Machines, space: str) -> None:
    site.cluster.api.apply(backend(space, 4))
    for found in site.wait_ready(4, space, app="web"):
        for one in found["status"]["podIPs"]:
            assert fetch(site, LB, one["ip"]).startswith(found["metadata"]["name"])


def test_only_nodes_reach_the_pods_of_an_overlay_node(site: Machines, space: str) -> None:
    deployment = backend(space, 2)
    deployment["spec"]["template"]["spec"]["nodeSelector"] = {"network": "overlay"}
    site.cluster.api.apply(deployment)
    for found in site.wait_ready(2, space, app="web"):
        assert site.rig.nodes[found["spec"]["nodeName"]] == "overlay"
        assert fetch(site, "client", found["status"]["podIP"]) == ""
        assert fetch(site, "n1", found["status"]["podIP"]).startswith(found["metadata"]["name"])


def test_deployment_scales_to_nothing_and_back(site: Machines, space: str) -> None:
    site.cluster.api.apply(backend(space), service(space))
    site.wait_ready(3, space, app="web")
    scale(site, space, 0)
    site.cluster.wait_for("no pod left", lambda: not site.pods(space) and not endpoints(site, space))
    scale(site, space, 2)
    site.wait_ready(2, space, app="web")


def test_a_pod_that_goes_serves_on_through_its_hook(site: Machines, space: str) -> None:
    deployment = backend(space, 1, lifecycle={"preStop": {"sleep": {"seconds": 10}}})
    deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 15
    site.cluster.api.apply(deployment, service(space))
    (found,) = site.wait_ready(1, space, app="web")
    scale(site, space, 0)
    going = {"ready": False, "serving": True, "terminating": True}
    site.cluster.wait_for("it is terminating", lambda: [one["conditions"] for one in endpoints(site, space)] == [going])
    assert fetch(site, LB, found["status"]["podIP"]).startswith(found["metadata"]["name"])
    site.cluster.wait_for("it is gone", lambda: not site.pods(space))
    assert fetch(site, LB, found["status"]["podIP"]) == ""


def test_a_rolling_update_replaces_every_pod(site: Machines, space: str) -> None:
    site.cluster.api.apply(backend(space))
    before = {found["metadata"]["name"] for found in site.wait_ready(3, space, app="web")}
    site.cluster.api.apply(backend(space, image="weir/backend:2"))
    path = f"/apis/apps/v1/namespaces/{space}/deployments/web/status"
    site.cluster.wait_for("all updated", lambda: site.cluster.api.get(path)["status"].get("updatedReplicas") == 3)
    site.cluster.wait_for("the old gone", lambda: not before & {found["metadata"]["name"] for found in site.pods(space)})
    site.wait_ready(3, space, app="web")


def test_pod_sees_what_it_mounts_and_is_told(site: Machines, space: str) -> None:
    site.cluster.api.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": space, "name": "said"}, "data": {"a": "A", "b": "B"}},
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"namespace": space, "name": "hidden"},
            "stringData": {"key": "S", "other": "T"},
        },
    )
    mounts = [{"name": name, "mountPath": f"/etc/{name}", "readOnly": name != "scratch"} for name in ("said", "hidden", "scratch")]
    env = [
        {"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "AT", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "ITEM", "valueFrom": {"configMapKeyRef": {"name": "said", "key": "b"}}},
        {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "key"}}},
        {"name": "WHOLE", "value": "$(ME)-$(ITEM)-$$(ME)"},
    ]
    volumes = [
        {"name": "said", "configMap": {"name": "said"}},
        {"name": "hidden", "secret": {"secretName": "hidden", "items": [{"key": "key", "path": "deep/name"}]}},
        {"name": "scratch", "emptyDir": {}},
    ]
    first = {"name": "first", "image": "pause", "command": ["sh", "-c", "echo begun >/etc/scratch/x"], "volumeMounts": mounts}
    script = """
        cat /etc/said/a /etc/said/b /etc/hidden/deep/name /etc/scratch/x; ls /etc/hidden; echo "$SECRET $WHOLE $1"
        [ "$(hostname)" = sees ] && ip -4 address show dev eth0 | grep -q "$AT" && ! touch /etc/said/c 2>/dev/null && echo all
        T=/var/run/secrets/kubernetes.io/serviceaccount
        at=https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT/api
        curl --silent --cacert $T/ca.crt -H "Authorization: Bearer $(cat $T/token)" $at | grep -o APIVersions
    """
    only = {"command": ["sh", "-euc"], "args": [script, "sh", "$(ITEM)!"], "env": env, "volumeMounts": mounts}
    site.cluster.api.apply(pod(space, "sees", container=only, volumes=volumes, initContainers=[first], restartPolicy="Never"))
    said = output(site, space, "sees")
    assert said.replace("\n", " ").split() == ["ABSbegun", "deep", "S", "sees-B-$(ME)", "B!", "all", "APIVersions"]


def test_pod_waits_for_what_it_mounts(site: Machines, space: str) -> None:
    volumes = [{"name": "late", "secret": {"secretName": "late"}}]
    only = {"volumeMounts": [{"name": "late", "mountPath": "/etc/late"}]}
    site.cluster.api.apply(pod(space, "waits", "cat /etc/late/key", only, volumes=volumes, restartPolicy="Never"))
    path = f"/api/v1/namespaces/{space}/pods/waits"

    def waiting() -> bool:
        state = site.cluster.api.get(path)["status"]["containerStatuses"][0]["state"]["waiting"]
        return "late not found" in state["message"]

    site.cluster.wait_for("it waits", waiting)
    site.cluster.api.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": space, "name": "late"}, "stringData": {"key": "now"}}
    )
    assert output(site, space, "waits") == "now"


def test_readiness_is_what_the_probe_says(site: Machines, space: str) -> None:
    probe = {"exec": {"command": ["test", "-e", "/var/told/ready"]}, "periodSeconds": 1, "failureThreshold": 1}
    only = {"readinessProbe": probe, "volumeMounts": [{"name": "told", "mountPath": "/var/told"}]}
    deployment = backend(space, 1, **only)
    deployment["spec"]["template"]["spec"]["volumes"] = [{"name": "told", "emptyDir": {}}]
    site.cluster.api.apply(deployment, service(space))
    site.cluster.wait_for("an endpoint", lambda: [one["conditions"]["ready"] for one in endpoints(site, space)] == [False])
    (found,) = site.pods(space)
    told = site.volume(found, "told") / "ready"
    told.touch()
    site.cluster.wait_for("it is ready", lambda: [one["conditions"]["ready"] for one in endpoints(site, space)] == [True])
    told.unlink()
    site.cluster.wait_for("it is not", lambda: [one["conditions"]["ready"] for one in endpoints(site, space)] == [False])


def test_a_container_that_ends_is_started_again(site: Machines, space: str) -> None:
    only = {"volumeMounts": [{"name": "kept", "mountPath": "/kept"}]}
    script = "[ -e /kept/once ] && exec sleep infinity; touch /kept/once; exit 3"
    site.cluster.api.apply(pod(space, "again", script, only, volumes=[{"name": "kept", "emptyDir": {}}]))
    path = f"/api/v1/namespaces/{space}/pods/again"
    site.cluster.wait_for("its second life", lambda: site.cluster.api.get(path)["status"]["containerStatuses"][0]["restartCount"] == 1)
    site.wait_ready(1, space, app="again")


def test_a_job_is_complete_when_its_pod_is(site: Machines, space: str) -> None:
    template = {"spec": pod(space, "job", "echo done")["spec"] | {"restartPolicy": "Never"}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"namespace": space, "name": "job"}, "spec": {"template": template}}
    site.cluster.api.apply(job)
    path = f"/apis/batch/v1/namespaces/{space}/jobs/job"
    site.cluster.wait_for("the Job complete", lambda: condition(site.cluster.api.get(path), "Complete"))


def test_a_daemonset_runs_on_the_nodes_it_selects_and_with_their_addresses(site: Machines, space: str) -> None:
    template = {"metadata": {"labels": {"app": "agent"}}, "spec": {**backend(space)["spec"]["template"]["spec"], "hostNetwork": True}}
    template["spec"]["nodeSelector"] = {"weir.dev/lb": "true"}
    spec = {"selector": {"matchLabels": {"app": "agent"}}, "template": template}
    site.cluster.api.apply({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"namespace": space, "name": "agent"}, "spec": spec})
    (found,) = site.wait_ready(1, space, app="agent")
    assert (found["spec"]["nodeName"], found["status"]["podIP"]) == (LB, site.rig.node_addresses(LB)[0])
    assert fetch(site, "n1", found["status"]["podIP"]) != ""


@pytest.mark.parametrize(
    ("secured", "expected"),
    [
        ({"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "BPF"]}}, {"net_admin", "bpf"}),
        ({"capabilities": {"drop": ["ALL"]}}, set()),
        ({"runAsUser": 65532, "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}}, set()),
        ({}, {"net_bind_service"}),
        ({"privileged": True}, set(UPPER)),
    ],
    ids=["two", "none", "not root", "usual", "privileged"],
)
def test_a_container_has_just_the_capabilities_it_is_given(site: Machines, space: str, secured: Object, expected: set[str]) -> None:
    only = {"securityContext": {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": "privileged" in secured, **secured}}
    script = "id -u; grep CapEff /proc/self/status | cut -f 2; touch /etc/x 2>/dev/null || echo refused"
    site.cluster.api.apply(pod(space, "bound", script, only, restartPolicy="Never"))
    user, effective, root = output(site, space, "bound").split()
    assert user == str(secured.get("runAsUser", 0))
    assert {name for name, bit in UPPER.items() if int(effective, 16) >> bit & 1} == expected
    assert root == "refused"


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
    count = f'until [ "{asked}" = web-1 ]; do :; done; cat /data/lives'
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


def test_an_unknown_image_is_said_and_not_run(site: Machines, space: str) -> None:
    only = {"image": "example.com/nothing:1", "command": None}
    site.cluster.api.apply(pod(space, "none", container=only))
    path = f"/api/v1/namespaces/{space}/pods/none"

    def reason() -> str:
        return str(site.cluster.api.get(path)["status"]["containerStatuses"][0]["state"]["waiting"]["reason"])

    site.cluster.wait_for("the reason", lambda: reason() == "ErrImagePull")


def test_pods_outlive_the_api_server_and_new_ones_follow(site: Machines, space: str) -> None:
    site.cluster.api.apply(backend(space, 1))
    (found,) = site.wait_ready(1, space, app="web")
    site.cluster.kill_apiserver()
    assert fetch(site, LB, found["status"]["podIP"]) != ""
    site.cluster.start_apiserver()
    scale(site, space, 2)
    site.wait_ready(2, space, app="web")
