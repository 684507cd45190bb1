"""What is known of a cluster's objects, where answers of writes and the watch come in any order."""

import asyncio

import msgspec
import pytest

from services.watcher.core import Watcher, differences
from services.watcher.inventory import Inventory, Observation
from services.watcher.kinds.annotations import RETRY_ON
from services.watcher.kinds.reader import Document
from services.watcher.kinds.registry import KINDS, SERVICE, VIPPOOL
from services.watcher.sources.kube import Kube
from weir.decider import World

UNIT = "@kube/Service/shop/web"


def answer(uid: str, version: str, **metadata: str) -> bytes:
    found = {"namespace": "shop", "name": "web", "uid": uid, "resourceVersion": version, **metadata}
    return msgspec.json.encode({"metadata": found, "status": {"of": uid}})


@pytest.mark.parametrize(
    "late",
    [
        pytest.param(answer("first", "12"), id="of a write to the one that is gone"),
        pytest.param(answer("first", "12", deletionTimestamp="2026-11-21T14:03:00Z"), id="of the write that let it go"),
        pytest.param(answer("second", "19"), id="of an earlier write"),
    ],
)
def test_an_answer_that_comes_late_does_not_replace_what_came_after(late: bytes) -> None:
    cluster = Kube("kube", None)
    cluster.saw(SERVICE, answer("first", "10"))
    cluster.saw(SERVICE, answer("second", "20"))
    cluster.saw(SERVICE, late)
    assert (cluster.seen[UNIT].metadata.uid, cluster.seen[UNIT].metadata.resourceVersion) == ("second", "20")


def test_the_one_made_anew_under_a_name_is_the_one_that_is_known() -> None:
    cluster = Kube("kube", None)
    cluster.saw(SERVICE, answer("first", "10"))
    cluster.saw(SERVICE, answer("second", "20"))
    assert cluster.seen[UNIT].metadata.uid == "second"


def test_all_is_compared_again_once_every_kind_can_be_followed_again() -> None:
    """What the log lost meanwhile, or another replica had not told yet, may be something that does not change here."""

    async def main() -> list[tuple[bool, bool]]:
        cluster, found = Kube("kube", None), []
        for kind in KINDS:
            cluster.known(kind)
        observations = aiter(cluster)
        found.append(await anext(observations))
        cluster.unreachable(SERVICE, "refused")
        cluster.unreachable(VIPPOOL, "refused")
        cluster.reached(SERVICE)
        waiting = asyncio.ensure_future(anext(observations))
        await asyncio.sleep(0)
        assert not waiting.done()
        cluster.reached(VIPPOOL)
        found.append(await asyncio.wait_for(waiting, 5))
        return [(each.complete, each.whole) for each in found]

    assert asyncio.run(main()) == [(True, False), (False, True)]


SOURCES = "service.beta.kubernetes.io/load-balancer-source-ranges"


def test_of_annotations_those_come_in_that_are_read() -> None:
    """One that limits who may connect must not be lost on the way."""
    annotations = {
        "weir.dev/timeout": "9",
        "loxilb.io/lbmode": "onearm",
        "metallb.io/address-pool": "a",
        SOURCES: "10.0.0.0/8",
        RETRY_ON: "5xx",
    }
    raw = msgspec.json.encode({"metadata": {"namespace": "shop", "name": "web", "annotations": {**annotations, "example.com/x": "y"}}})

    async def main() -> dict[str, str]:
        cluster = Kube("kube", None)
        cluster._object(SERVICE, msgspec.Raw(raw))
        for kind in KINDS:
            cluster.known(kind)
        documents = (await anext(aiter(cluster))).units[UNIT]
        assert documents
        found: dict[str, str] = documents[0].content["metadata"]["annotations"]
        return found

    assert asyncio.run(main()) == annotations


def test_where_all_is_compared_the_log_is_told_what_did_not_change() -> None:
    said, log = Inventory(scopes=("@kube",)), World(Watcher().indexes)
    spec = {"type": "LoadBalancer", "ports": [{"port": 80}]}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": "web"}, "spec": spec}
    said.take(said.read(Observation({UNIT: (Document(UNIT, service),)}, complete=True, scope="@kube")))
    assert differences(log, said, late=frozenset({"@kube"})) == []
    units = said.take(said.read(Observation({}, whole=True, scope="@kube")))
    assert [event.kind for event in differences(log, said, units)] == ["service"]
