"""Ready means: caught up with the log, and able to see and do all that the service should."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from services.watcher.kinds.registry import KINDS
from services.watcher.sources.kube import Kube
from weir.bus.identity import Identity
from weir.decider import Recorder
from weir.events import NodeSeen
from weir.service.exporter import _answer
from weir.service.runner import Runner
from weir.where import Where


class Log:
    """An empty log, and a connection to it, its state and a reader of it at once."""

    pending = position = 0

    async def __aenter__(self) -> "Log":
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def identity(self) -> Identity:
        return Identity()

    async def last(self, _: str) -> int:
        return 0

    def state(self, _: Sequence[str]) -> "Log":
        return self

    def __aiter__(self) -> "Log":
        return self

    async def __anext__(self) -> list[Any]:
        raise StopAsyncIteration

    def follow(self, *_: object) -> "Log":
        return self

    async def next(self) -> None:
        await asyncio.Event().wait()

    async def stream(self) -> dict[str, Any]:
        return {"config": {"max_age": 0}}

    async def epoch(self, _: str) -> int:
        return 0

    async def append(self, *_: object) -> int:
        return 1


async def connect(*_: str) -> Any:
    return Log()


def test_what_a_service_cannot_see_is_in_its_readiness_though_its_file_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("weir.service.report.write_file", full)
    why = [""]

    async def main() -> list[tuple[bool, bytes]]:
        runner = Runner("watcher", Recorder(), (NodeSeen,), Where("test"), connect=connect, impaired=lambda: why[0])
        found = [(runner.ready, await asked(runner))]
        running = asyncio.ensure_future(runner.run())
        async with asyncio.timeout(10):
            while not runner.following:
                await asyncio.sleep(0)
        for why[0] in ("", "cluster east: cannot see Node: 403 Forbidden", ""):
            found.append((runner.ready, await asked(runner)))
        running.cancel()
        return found

    async def asked(runner: Runner) -> bytes:
        return (await _answer(b"GET /readyz HTTP/1.1\r\n\r\n", runner, ())).split(b"\r\n")[0].partition(b" ")[2]

    away, ready = (False, b"503 Service Unavailable"), (True, b"200 OK")
    assert asyncio.run(main()) == [away, ready, away, ready]


def test_a_cluster_is_seen_once_every_kind_was_listed_and_none_is_lost() -> None:
    cluster = Kube("east", None)
    assert cluster.unseen.startswith("cluster east: cannot see BGPAdvertisement")
    node = next(kind for kind in KINDS if kind.word == "Node")
    for kind in KINDS:
        if kind is not node:
            cluster.known(kind)
    cluster.unreachable(node, '403 Forbidden: nodes is forbidden: User "weir" cannot list resource "nodes"')
    assert cluster.unseen == 'cluster east: cannot see Node: 403 Forbidden: nodes is forbidden: User "weir" cannot list resource "nodes"'
    cluster.known(node)
    cluster.reached(node)
    assert cluster.unseen == ""
