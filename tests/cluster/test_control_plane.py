"""The control plane of the tests' cluster by itself: who may what, its faults, what is installed in it, and a second one beside it."""

import json

import pytest

from tests.cluster.api import ApiError
from tests.cluster.cluster import Cluster
from tests.own import own


def test_users_and_accounts_may_what_they_may(cluster: Cluster) -> None:
    token = cluster.account_token("default", "default")
    with pytest.raises(ApiError, match="default:default") as refused:
        cluster.api_of(token).get("/api/v1/secrets")
    assert refused.value.code == 403
    found = json.loads(cluster.kubectl("get", "namespaces", "-o", "json").stdout)
    assert "default" in {one["metadata"]["name"] for one in found["items"]}


def test_a_frozen_api_server_says_nothing_and_goes_on_where_it_was(cluster: Cluster) -> None:
    version = cluster.api.get("/api/v1/configmaps")["metadata"]["resourceVersion"]
    cluster.freeze_apiserver()
    try:
        with pytest.raises(TimeoutError):
            cluster.api_as("admin", timeout_s=0.2).get("/api/v1/namespaces")
    finally:
        cluster.thaw_apiserver()
    cluster.api.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "after"}})
    assert any(event["object"]["metadata"]["name"] == "after" for event in cluster.api.watch("/api/v1/configmaps", version))


def test_gateway_api_and_weirs_own_kinds_are_served(cluster: Cluster) -> None:
    cluster.install_gateway_api()
    cluster.install_crds()
    kinds = {known["kind"] for known in cluster.api.get("/apis/gateway.networking.k8s.io/v1")["resources"]}
    assert {"Gateway", "HTTPRoute"} <= kinds
    assert {"VIPPool", "LBNode", "LBService"} <= {known["kind"] for known in cluster.api.get("/apis/weir.dev/v1alpha1")["resources"]}


def test_two_clusters_of_different_names_know_nothing_of_each_other(cluster: Cluster) -> None:
    with Cluster(own("weirother")) as other:
        other.api.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs"}})
        with pytest.raises(ApiError, match="not found"):
            cluster.api.get("/api/v1/namespaces/default/configmaps/theirs")
        folder = other.folder
    assert not folder.exists()
