"""What an operator wrote: objects by unit, and how each watcher gets to see them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from services.watcher.inventory import Observation
from services.watcher.kinds.reader import Document
from tests.sim.faulty_log import Life, Log

Content = dict[str, Any]


class ClusterState:
    """scope: "@NAME" of a cluster, "" for a folder of manifests, one file for each object."""

    def __init__(self, log: Log, scope: str) -> None:
        self.log, self.scope = log, scope
        self.objects: dict[str, Content] = {}  # by unit
        self._changed: list[str] = []  # units, in order
        self._grown = asyncio.Event()

    def put(self, kind: str, name: str, content: Content) -> None:
        """name: "namespace/name", or a name alone."""
        self._change(kind, name, content)

    def delete(self, kind: str, name: str) -> None:
        self._change(kind, name, None)

    def names(self, kind: str) -> list[str]:
        """Of all objects of a kind, sorted."""
        start = self._unit(kind, "")
        return sorted(unit.removeprefix(start) for unit in self.objects if unit.startswith(start))

    def get(self, kind: str, name: str) -> Content | None:
        return self.objects.get(self._unit(kind, name))

    def whole(self) -> Observation:
        """All there is."""
        return Observation({unit: self._documents(unit) for unit in sorted(self.objects)}, complete=True, small=True, scope=self.scope)

    async def seen_by(self, life: Life) -> AsyncIterator[Observation]:
        """All there is, then each change as it then is, some late."""
        at = len(self._changed)
        yield self.whole()
        while True:
            while at == len(self._changed):
                await self._grown.wait()
            await asyncio.sleep(self.log.dice.random() * life.lag_s)
            await life.go_on()
            count = self.log.dice.randint(1, 3)
            units, at = self._changed[at : at + count], min(at + count, len(self._changed))
            yield Observation({unit: self._documents(unit) for unit in units}, small=True, scope=self.scope)

    def _change(self, kind: str, name: str, content: Content | None) -> None:
        unit = self._unit(kind, name)
        self.objects.pop(unit, None)
        if content is not None:
            self.objects[unit] = content
        self._changed.append(unit)
        self._grown.set()
        self._grown = asyncio.Event()

    def _unit(self, kind: str, name: str) -> str:
        return f"{self.scope or 'manifests'}/{kind}/{name}"

    def _documents(self, unit: str) -> tuple[Document, ...] | None:
        content = self.objects.get(unit)
        return None if content is None else (Document(unit if self.scope else f"{unit}#1", content),)
