"""What is known of a cluster's objects, where answers of writes and the watch come in any order."""

import msgspec
import pytest

from services.watcher.kinds import SERVICE
from services.watcher.kube import Kube

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
