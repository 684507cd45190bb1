"""The registry of kinds: versions, strict fields, and a kind from a file to the log, with ReferenceGrant as the example."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from test_watcher_core import fact, only

from services.watcher.core import HEARS
from services.watcher.kinds.annotations import RETRIES, RETRY_ON
from services.watcher.kinds.reader import Document, read
from services.watcher.kinds.registry import GROUPS, KINDS, OBSERVED
from services.watcher.settings import Settings
from services.watcher.sources import kube
from services.watcher.sources.api import ApiError
from services.watcher.sources.kube import Kube
from weir.events import HttpRouteObserved, ReferenceGrantObserved
from weir.model import GrantFrom, GrantTo, Retry

SPEC = "spec: {from: [{group: g, kind: HTTPRoute, namespace: shop}], to: [{group: '', kind: Service}, {kind: Service, name: web}]}"


def grant(version: str, spec: str = SPEC) -> str:
    return f"{{apiVersion: gateway.networking.k8s.io/{version}, kind: ReferenceGrant, metadata: {{namespace: data, name: g}}, {spec}}}"


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_a_kind_is_read_in_each_of_its_versions(version: str) -> None:
    event = fact(grant(version))
    assert isinstance(event, ReferenceGrantObserved)
    assert event.referrers == (GrantFrom(group="g", kind="HTTPRoute", namespace="shop"),)
    assert event.targets == (GrantTo(group="", kind="Service"), GrantTo(group="", kind="Service", name="web"))
    assert event.summary() == "data/g: HTTPRoute in shop to Service, Service web  (shop.yaml#1)"


@pytest.mark.parametrize(
    ("manifest", "problem"),
    [
        (grant("v2"), "apiVersion: got 'gateway.networking.k8s.io/v2', accepted: gateway.networking.k8s.io/v1 or"),
        (grant("v1", "spec: {from: [{kind: HTTPRoute, namespace: shop}], tos: []}"), "spec.tos: got an unknown field, accepted: to"),
        (grant("v1", "spec: {from: [{group: g, kind: HTTPRoute}]}"), "spec.from[0].namespace: got nothing, accepted: text"),
        (grant("v1", "spec: {}"), "spec.to: got nothing, accepted: at least one entry"),
        (grant("v1").replace("ReferenceGrant", "ReferenceGrants"), "kind: got 'ReferenceGrants', accepted: ReferenceGrant"),
    ],
)
def test_a_manifest_is_judged_by_the_fields_of_its_kind(manifest: str, problem: str) -> None:
    assert any(str(found).startswith(problem) for found in only(manifest).problems), only(manifest).problems


def retried(annotations: str, rule: str = "{}") -> str:
    metadata = f"{{namespace: shop, name: r, annotations: {{{annotations}}}}}"
    return f"{{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {metadata}, spec: {{rules: [{rule}]}}}}"


@pytest.mark.parametrize(
    ("manifest", "retry"),
    [
        (retried(f'{RETRY_ON}: "5xx,reset, connect-failure", {RETRIES}: "3"'), Retry(codes=tuple(range(500, 512)), attempts=3)),
        (retried(f"{RETRY_ON}: 'gateway-error,retriable-4xx'"), Retry(codes=(409, 502, 503, 504))),
        (retried(f"{RETRY_ON}: reset"), Retry()),
        (retried(f"{RETRIES}: '3'"), None),
        (retried(f"{RETRY_ON}: 5xx", "{retry: {codes: [503], attempts: 2}}"), Retry(codes=(503,), attempts=2)),
    ],
)
def test_retries_are_also_asked_for_by_annotations_of_other_gateways(manifest: str, retry: Retry | None) -> None:
    event = fact(manifest)
    assert isinstance(event, HttpRouteObserved)
    assert [rule.retry for rule in event.rules] == [retry]


def test_a_word_for_retries_that_means_nothing_is_told() -> None:
    problems = [str(found) for found in only(retried(f"{RETRY_ON}: '5xx,always', {RETRIES}: many")).problems]
    places = [f"metadata.annotations[{name}]" for name in (RETRY_ON, RETRIES)]
    assert [found.partition(":")[0] for found in problems] == places, problems
    assert "got always, accepted: 5xx, gateway-error" in problems[0]


def test_the_age_of_an_object_that_may_conflict_with_others_is_recorded_from_the_api_alone() -> None:
    metadata = {"namespace": "data", "name": "g", "uid": "u", "creationTimestamp": "2026-11-30T08:00:00Z"}
    kind = next(each for each in KINDS if each.word == "TCPRoute")
    assert kind.decode
    sent = msgspec.json.encode({"metadata": metadata, "spec": {"rules": [{"backendRefs": [{"name": "web", "port": 80}]}]}})
    found = {"apiVersion": kind.api, "kind": kind.word, **kind.decode(sent)}
    for place, created in {"@kube/TCPRoute/data/g": "2026-11-30T08:00:00Z", "shop.yaml#1": ""}.items():
        root = read(Document(place, found), Settings())[0].root
        assert root
        assert root.created == created


class Server:
    """An API server that has ReferenceGrants in `served` only, and nothing else."""

    served, asked = "v1beta1", list[str]()

    def __init__(self, _: object) -> None:
        self.asked.clear()

    async def get(self, path: str, **_: object) -> bytes:
        if "referencegrants" in path and self.served not in path.split("/"):
            raise ApiError(404, "NotFound", "page not found")
        self.asked.append(path)
        items: list[object] = []
        if "referencegrants" in path:
            spec = {"from": [{"group": "g", "kind": "HTTPRoute", "namespace": "shop"}], "to": [{"kind": "Service"}]}
            items = [{"metadata": {"namespace": "data", "name": "g", "resourceVersion": "1"}, "spec": spec}]
        return msgspec.json.encode({"metadata": {"resourceVersion": "1"}, "items": items})

    async def watch(self, path: str, _: str) -> AsyncIterator[bytes]:
        self.asked.append(path)
        await asyncio.Event().wait()
        yield b""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> type[Server]:
    async def configured(_: object) -> None:
        return None

    monkeypatch.setattr(kube, "Api", Server)
    monkeypatch.setattr(kube, "configured", configured)
    return Server


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_a_cluster_is_followed_in_the_first_version_that_it_serves(
    server: type[Server], monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr(server, "served", version)

    async def main() -> object:
        cluster = Kube("kube", None)
        running = asyncio.create_task(cluster.run(None))
        observation = await asyncio.wait_for(anext(aiter(cluster)), 10)
        running.cancel()
        (document,) = observation.units["@kube/ReferenceGrant/data/g"] or ()
        return document.content["apiVersion"]  # type: ignore[index]

    assert asyncio.run(main()) == f"gateway.networking.k8s.io/{version}"
    assert f"/apis/gateway.networking.k8s.io/{version}/referencegrants" in server.asked


def test_a_kind_that_no_version_serves_has_no_objects(server: type[Server], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "served", "v3")

    async def main() -> Kube:
        cluster = Kube("kube", None)
        running = asyncio.create_task(cluster.run(None))
        assert (await asyncio.wait_for(anext(aiter(cluster)), 10)).units == {}
        running.cancel()
        return cluster

    cluster = asyncio.run(main())
    assert cluster.absent == {"ReferenceGrant"}
    assert cluster.lost == 0


def test_every_kind_is_complete() -> None:
    words = [kind.word for kind in KINDS]
    assert len(set(words)) == len(words)
    for kind in KINDS:
        assert kind.word in GROUPS[kind.group]
        assert {"apiVersion", "kind", "metadata"} <= kind.fields.keys()
        assert bool(kind.observed) == bool(kind.gone) == bool(kind.read) == bool(kind.decode)
        if kind.observed and kind.gone:
            assert kind.observed.kind == kind.gone.kind == kind.word.lower(), "`object_key` makes the kind of entity from the word"
    assert set(OBSERVED) <= set(HEARS)
