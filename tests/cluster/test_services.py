"""Services of type LoadBalancer in a real cluster: what their owners see, and what clients get."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.api import ApiError, Object
from tests.cluster.balanced import Balanced, conditions_of, is_gone, path_of, service_of
from tests.cluster.machines import Machines
from tests.cluster.test_cluster import backend, scale
from weir.demo.network import wait_until

POOL = {
    "apiVersion": "weir.dev/v1alpha1",
    "kind": "VIPPool",
    "metadata": {"name": "public"},
    "spec": {"addresses": ["203.0.113.10-203.0.113.59"]},
}


@pytest.fixture(scope="module")
def weir(site: Machines) -> Iterator[Balanced]:
    site.cluster.install_crds()
    site.cluster.api.apply(POOL)
    with Balanced(site.rig, {"kube": site.cluster}) as found:
        yield found


def balancer(space: str, name: str = "web", **spec: Any) -> Object:
    """A Service that asks for a load balancer."""
    metadata = {"namespace": space, "name": name, "annotations": spec.pop("annotations", {})}
    spec = {"type": "LoadBalancer", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def told(weir: Balanced, space: str, reason: str) -> list[Object]:
    """Kubernetes Events of that reason."""
    found = weir.cluster.api.items(f"/api/v1/namespaces/{space}/events")
    return [event for event in found if event["reason"] == reason and event["source"]["component"] == "weir"]


def test_a_deployment_answers_on_its_vip_and_its_owner_is_told_how_it_stands(weir: Balanced, site: Machines, space: str) -> None:
    site.cluster.api.apply(backend(space), balancer(space))
    pods = {pod["metadata"]["name"] for pod in site.wait_ready(3, space, app="web")}
    vip = weir.wait_vip(space)
    assert wait_until(lambda: weir.answering(vip) == pods, 30)
    found = service_of(site.cluster, space)
    assert found["status"]["loadBalancer"]["ingress"] == [{"ip": vip, "ipMode": "VIP", "ports": [{"port": 80, "protocol": "TCP"}]}]
    programmed = ("True", "Programmed")
    site.cluster.wait_for("programmed", lambda: conditions_of(service_of(site.cluster, space))["Programmed"] == programmed)
    site.cluster.wait_for("an Event", lambda: vip in told(weir, space, "Allocated")[0]["message"])
    scale(site, space, 0)
    site.cluster.wait_for("told so", lambda: conditions_of(service_of(site.cluster, space))["Serving"] == ("False", "NoEndpoints"))
    assert weir.vips(space) == [vip], "the address stays"
    scale(site, space, 2)
    site.wait_ready(2, space, app="web")
    assert wait_until(lambda: bool(weir.fetch(vip)), 30)
    site.cluster.wait_for("told so", lambda: conditions_of(service_of(site.cluster, space))["Serving"] == ("True", "Serving"))
    assert 1 <= sum(event["count"] for event in told(weir, space, "NoEndpoints")) <= 2, "at its beginning, perhaps, and scaled to nothing"
    record = site.cluster.api.get(f"/apis/weir.dev/v1alpha1/namespaces/{space}/lbservices/web")
    assert record["status"]["vips"] == [vip]


def test_a_service_in_trouble_has_a_record_too(weir: Balanced, site: Machines, space: str) -> None:
    site.cluster.api.apply(balancer(space, loadBalancerIP="198.51.100.1"))
    record = f"/apis/weir.dev/v1alpha1/namespaces/{space}/lbservices/web"
    site.cluster.wait_for("its record", lambda: not is_gone(site.cluster, record) and "status" in site.cluster.api.get(record))
    status = site.cluster.api.get(record)["status"]
    reasons = {each["type"]: each["reason"] for each in status["conditions"] if each["status"] != "True"}
    assert (status.get("vips", []), reasons["Allocated"]) == ([], "AddressOutsidePools")
    site.cluster.api.patch(path_of(space), {"spec": {"loadBalancerIP": "203.0.113.52"}})
    site.cluster.wait_for("its address", lambda: site.cluster.api.get(record)["status"].get("addresses") == "203.0.113.52")
    columns = site.cluster.kubectl("get", "lbservices", "-n", space).stdout
    assert columns.splitlines()[1].split()[1] == "203.0.113.52"


def test_a_service_that_is_no_longer_exposed_leaves_nothing(weir: Balanced, site: Machines, space: str) -> None:
    site.cluster.api.apply(balancer(space))
    vip = weir.wait_vip(space)
    assert service_of(site.cluster, space)["metadata"]["finalizers"] == ["weir.dev/vip"]
    site.cluster.api.patch(f"/api/v1/namespaces/{space}/services/web", {"spec": {"type": "ClusterIP"}})
    site.cluster.wait_for("let go", lambda: not service_of(site.cluster, space)["metadata"].get("finalizers"))
    found = service_of(site.cluster, space)
    assert found["status"] == {"loadBalancer": {}}
    assert vip not in {row["vip"] for row in weir.ask("get", "vips")}
    record = f"/apis/weir.dev/v1alpha1/namespaces/{space}/lbservices/web"
    site.cluster.wait_for("its record gone", lambda: is_gone(site.cluster, record))


def test_a_deleted_service_is_gone_once_its_address_is_free(weir: Balanced, site: Machines, space: str) -> None:
    site.cluster.api.apply(balancer(space, loadBalancerIP="203.0.113.50"))
    assert weir.wait_vip(space) == "203.0.113.50"
    site.cluster.api.delete(f"/api/v1/namespaces/{space}/services/web")
    site.cluster.wait_for("it gone", lambda: is_gone(site.cluster, path_of(space)))
    assert "203.0.113.50" not in {row["vip"] for row in weir.ask("get", "vips")}


def test_what_others_wrote_into_the_status_stays(weir: Balanced, site: Machines, space: str) -> None:
    site.cluster.api.apply(balancer(space))
    weir.wait_vip(space)
    theirs = {"type": "other.dev/Seen", "status": "True", "reason": "Here", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "status": {"conditions": [theirs]}}
    path = f"/api/v1/namespaces/{space}/services/web"
    site.cluster.api.patch(f"{path}/status", body, "apply-patch", fieldManager="other")
    site.cluster.api.apply(backend(space, 1))
    site.cluster.wait_for("served", lambda: conditions_of(service_of(site.cluster, space))["Serving"] == ("True", "Serving"))
    assert theirs in service_of(site.cluster, space)["status"]["conditions"]


def test_another_controller_of_the_same_service_is_not_answered_without_end(weir: Balanced, site: Machines, space: str) -> None:
    site.cluster.api.apply(balancer(space))
    vip = weir.wait_vip(space)
    theirs, lost = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.200"}]}}}, 0

    def contended() -> bool:
        nonlocal lost
        if vip in weir.vips(space):
            lost += 1
            site.cluster.api.patch(f"/api/v1/namespaces/{space}/services/web/status", theirs)
        return bool(told(weir, space, "Contended"))

    assert wait_until(contended, 30)
    assert 3 <= lost <= 6, "at once, and then after 0.5, 1, 2 and 4 s"
    assert wait_until(lambda: weir.vips(space) == [vip], 30), "the last word is Weir's"


def test_a_denied_service_is_told_why_once(weir: Balanced, site: Machines, space: str) -> None:
    site.cluster.api.apply(balancer(space, loadBalancerIP="198.51.100.1"))
    site.cluster.wait_for("told", lambda: told(weir, space, "AddressOutsidePools"))
    assert conditions_of(service_of(site.cluster, space))["Allocated"] == ("False", "AddressOutsidePools")
    assert weir.vips(space) == []
    weir.kill("watcher")
    weir.settled()
    (event,) = told(weir, space, "AddressOutsidePools")
    assert event["count"] == 1
    assert event["type"] == "Warning"


def test_the_use_of_a_pool_and_a_node_are_told(weir: Balanced, site: Machines, space: str) -> None:
    site.cluster.api.apply(balancer(space))
    vip = weir.wait_vip(space)
    pool = "/apis/weir.dev/v1alpha1/vippools/public"

    def held() -> int:
        return len([row for row in weir.ask("get", "vips") if (row["pool"], row["state"] == "releasing") == ("public", False)])

    site.cluster.wait_for("counted", lambda: site.cluster.api.get(pool)["status"]["used"] == held())
    assert site.cluster.api.get(pool)["status"]["total"] == "50"
    node = site.cluster.api.get("/apis/weir.dev/v1alpha1/lbnodes").get("items", [])
    assert [conditions_of(each)["Programmed"] for each in node] == [("True", "Programmed")]
    assert vip
    overlapping = {**POOL, "metadata": {"name": "second"}, "spec": {"addresses": ["203.0.113.0/24"]}}
    site.cluster.api.apply(overlapping)
    other = "/apis/weir.dev/v1alpha1/vippools/second"
    site.cluster.wait_for("refused", lambda: conditions_of(site.cluster.api.get(other))["Accepted"] == ("False", "Invalid"))
    assert "pool public has 203.0.113.10-203.0.113.59" in str(site.cluster.api.get(other)["status"]["conditions"])
    site.cluster.api.delete(other)


def test_what_is_refused_of_a_finalizer_and_of_events_hides_no_status_and_is_told_later(weir: Balanced, site: Machines, space: str) -> None:
    rules = [
        {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["events"]},
        {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["services"]},
    ]
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": space}}
    mine = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": space}}}
    words = {"failurePolicy": "Fail", "matchConstraints": {"resourceRules": rules}, "validations": [{"expression": "false"}]}
    binding = {"policyName": space, "validationActions": ["Deny"], "matchResources": mine}
    site.cluster.api.apply({**kind, "spec": words}, {**kind, "kind": "ValidatingAdmissionPolicyBinding", "spec": binding})
    try:
        site.cluster.wait_for("it in force", lambda: _is_refused(site, space))
        site.cluster.api.apply(balancer(space))
        weir.wait_vip(space)
        assert not service_of(site.cluster, space)["metadata"].get("finalizers")
        assert not told(weir, space, "Allocated")
    finally:
        for kinds in ("policies", "policybindings"):
            site.cluster.api.delete(f"/apis/admissionregistration.k8s.io/v1/validatingadmission{kinds}/{space}")
    site.cluster.wait_for("told", lambda: told(weir, space, "Allocated") and told(weir, space, "Programmed"))
    site.cluster.wait_for("its finalizer", lambda: service_of(site.cluster, space)["metadata"].get("finalizers"))


def _is_refused(site: Machines, space: str) -> bool:
    """Whether Kubernetes Events of a namespace are."""
    about = {"kind": "Namespace", "namespace": space}
    body = {"apiVersion": "v1", "kind": "Event", "metadata": {"generateName": "try-", "namespace": space}, "involvedObject": about}
    try:
        site.cluster.api.post(f"/api/v1/namespaces/{space}/events?dryRun=All", body)
    except ApiError as error:
        return error.code == 422
    return False


def test_an_address_that_a_service_lost_is_not_in_its_record_and_others_get_it(weir: Balanced, site: Machines, space: str) -> None:
    """It asks for one that another holds; an address that no pool has would not take it its own."""
    site.cluster.api.apply(balancer(space, loadBalancerIP="203.0.113.51"), balancer(space, "holder", loadBalancerIP="203.0.113.52"))
    assert weir.wait_vip(space) == "203.0.113.51"
    assert weir.wait_vip(space, "holder") == "203.0.113.52"
    record = f"/apis/weir.dev/v1alpha1/namespaces/{space}/lbservices/web"
    site.cluster.wait_for("its record", lambda: site.cluster.api.get(record)["status"]["vips"] == ["203.0.113.51"])
    site.cluster.api.patch(path_of(space), {"spec": {"loadBalancerIP": "203.0.113.52"}})

    def reported() -> bool:
        site.cluster.api.patch(record, {"metadata": {"labels": {"seen": str(time.monotonic_ns())}}})  # a record may change meanwhile
        return conditions_of(service_of(site.cluster, space))["Allocated"] == ("False", "AddressHeld")

    site.cluster.wait_for("the condition", reported)
    site.cluster.wait_for("its record empty", lambda: not site.cluster.api.get(record)["status"].get("vips"))
    weir.kill("watcher")
    weir.settled()
    site.cluster.api.apply(balancer(space, "other", loadBalancerIP="203.0.113.51"))
    assert weir.wait_vip(space, "other") == "203.0.113.51"


@pytest.mark.parametrize("node", ["n1", "n3"])
def test_pods_behind_a_routed_and_behind_an_overlay_network_answer(weir: Balanced, site: Machines, space: str, node: str) -> None:
    deployment = backend(space, 2)
    deployment["spec"]["template"]["spec"]["nodeSelector"] = {"kubernetes.io/hostname": node}
    site.cluster.api.apply(deployment, balancer(space))
    pods = {pod["metadata"]["name"] for pod in site.wait_ready(2, space, app="web")}
    vip = weir.wait_vip(space)
    assert wait_until(lambda: weir.answering(vip) == pods, 30)
