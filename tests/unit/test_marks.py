"""Which objects of a cluster are looked at, and in which order."""

import asyncio

from services.watcher.kube import Kube
from services.watcher.marks import Marks, Target


def test_of_what_is_due_services_come_first_and_each_once() -> None:
    async def main() -> list[Target]:
        marks = Marks([Kube("kube", None)])
        records = [Target("@kube", "LBService", "shop", name) for name in "ab"]
        services = [Target("@kube", "Service", "shop", name) for name in "ab"]
        for target in (*records, *services, *services):
            marks.mark(target, 0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        found = [await marks.next() for _ in range(4)]
        assert found == [*services, *records]
        marks.mark(records[0], 0)
        return [await asyncio.wait_for(marks.next(), 5)]

    assert [target.name for target in asyncio.run(main())] == ["a"]
