"""Which objects of a cluster are looked at, and in which order."""

import asyncio

from services.watcher.kinds.registry import KINDS, LBSERVICE, SERVICE
from services.watcher.sources.kube import Kube
from services.watcher.writer.queue import Marks, Target
from weir.decider import World
from weir.events import RecordGone
from weir.model import Root


def test_a_record_that_is_missing_is_looked_at_with_its_service() -> None:
    async def main() -> list[Target]:
        marks = Marks()
        cluster = Kube("kube", None, marks)
        cluster.saw(SERVICE, b'{"metadata": {"namespace": "shop", "name": "web", "resourceVersion": "1"}}')
        await marks.heard(World(), None, 0)
        return [await asyncio.wait_for(marks.next(), 5) for _ in range(2)]

    assert [target.kind for target in asyncio.run(main())] == ["Service", "LBService"]


def test_all_is_looked_at_once_every_kind_is_known_and_again_when_one_comes_that_was_not_installed() -> None:
    listed = list[bool]()

    class Listening(Marks):
        def listed(self, cluster: Kube) -> None:
            listed.append(cluster.complete)

    cluster = Kube("kube", None, Listening())
    for kind in KINDS:
        cluster.not_installed(kind) if kind is LBSERVICE else cluster.known(kind)
    assert listed == [True]
    cluster.known(LBSERVICE)
    assert listed == [True, True]
    cluster.known(LBSERVICE)
    assert listed == [True, True]


def test_of_what_is_due_services_come_first_and_each_once() -> None:
    async def main() -> list[Target]:
        marks = Marks()
        Kube("kube", None, marks)
        records = [Target("@kube", "LBService", "shop", name) for name in "ab"]
        services = [Target("@kube", "Service", "shop", name) for name in "ab"]
        for target in (*records, *services, *services):
            marks.mark(target, 0)
        due = asyncio.Event()
        asyncio.get_running_loop().call_later(0, due.set)  # after the others, which were due before
        await due.wait()
        found = [await marks.next() for _ in range(4)]
        assert found == [*services, *records]
        marks.mark(records[0], 0)
        return [await asyncio.wait_for(marks.next(), 5)]

    assert [target.name for target in asyncio.run(main())] == ["a"]


def test_a_record_is_looked_at_once_the_log_does_not_keep_it_any_more() -> None:
    async def main() -> Target:
        marks = Marks()
        Kube("kube", None, marks)
        marks.appending([RecordGone(root=Root(kind="LBService", namespace="shop", name="web"))])
        return await asyncio.wait_for(marks.next(), 5)

    assert asyncio.run(main()) == Target("@kube", "LBService", "shop", "web")
