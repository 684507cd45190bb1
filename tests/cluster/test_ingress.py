"""Ingresses in a real cluster: the address in their status, warnings, and what belongs to other controllers."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.api import Object
from tests.cluster.balanced import Balanced
from tests.cluster.machines import Machines
from tests.cluster.test_cluster import backend
from tests.cluster.test_services import POOL, told
from weir.demo.network import wait_until

API = "networking.k8s.io/v1"
VIP = "203.0.113.10"


def ingress_class(name: str, controller: str) -> Object:
    return {"apiVersion": API, "kind": "IngressClass", "metadata": {"name": name}, "spec": {"controller": controller}}


def ingress(space: str, class_name: str = "weir", **spec: Any) -> Object:
    whole = {"ingressClassName": class_name, "defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}, **spec}
    return {"apiVersion": API, "kind": "Ingress", "metadata": {"namespace": space, "name": "web"}, "spec": whole}


def path_of(space: str) -> str:
    return f"/apis/{API}/namespaces/{space}/ingresses/web"


@pytest.fixture(scope="module")
def weir(site: Machines) -> Iterator[Balanced]:
    site.cluster.install_crds()
    site.cluster.api.apply(POOL, ingress_class("weir", "weir.dev/weir"), ingress_class("other", "example.com/other"))
    with Balanced(site.rig, {"kube": site.cluster}) as found:
        yield found


def addresses(site: Machines, space: str) -> list[Object]:
    return site.cluster.api.get(path_of(space))["status"].get("loadBalancer", {}).get("ingress", [])


def service(space: str) -> Object:
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": space, "name": "web"}, "spec": spec}


def test_an_ingress_is_served_and_its_status_has_the_address_of_its_class(weir: Balanced, site: Machines, space: str) -> None:
    site.cluster.api.apply(backend(space), service(space), ingress(space))
    pods = {pod["metadata"]["name"] for pod in site.wait_ready(3, space, app="web")}
    site.cluster.wait_for("its address", lambda: addresses(site, space) == [{"ip": VIP}])
    assert wait_until(lambda: weir.answering(VIP) == pods, 30), weir.answering(VIP)
    assert site.cluster.kubectl("get", "ingress", "-n", space).stdout.splitlines()[1].split()[3] == VIP
    weir.kill("watcher")
    weir.settled()
    assert addresses(site, space) == [{"ip": VIP}]


def test_what_is_wrong_is_told_by_events_and_the_rest_is_served(weir: Balanced, site: Machines, space: str) -> None:
    paths = [
        {"path": "/files", "pathType": "Prefix", "backend": {"resource": {"apiGroup": "example.com", "kind": "Bucket", "name": "files"}}}
    ]
    tls = [{"hosts": ["shop.example.com"], "secretName": "missing"}]
    site.cluster.api.apply(service(space), ingress(space, rules=[{"http": {"paths": paths}}], tls=tls))
    site.cluster.wait_for("its address", lambda: addresses(site, space) == [{"ip": VIP}])
    site.cluster.wait_for("told", lambda: told(weir, space, "InvalidKind"))
    (event,) = told(weir, space, "InvalidKind")
    assert (event["type"], event["involvedObject"]["kind"]) == ("Warning", "Ingress")
    assert event["message"] == f"Bucket files: only Services can be backends; Secret {space}/missing not found"


def test_an_ingress_of_another_class_is_left_alone(weir: Balanced, site: Machines, space: str) -> None:
    theirs = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.200"}]}}}
    site.cluster.api.apply(service(space), ingress(space, "other"))
    site.cluster.api.patch(f"{path_of(space)}/status", theirs)
    weir.settled()
    assert addresses(site, space) == [{"ip": "192.0.2.200"}]
    site.cluster.api.patch(path_of(space), {"spec": {"ingressClassName": "weir"}})
    site.cluster.wait_for("its address", lambda: addresses(site, space) == [{"ip": VIP}])
    site.cluster.api.patch(path_of(space), {"spec": {"ingressClassName": "other"}})
    site.cluster.wait_for("no address", lambda: addresses(site, space) == [])
