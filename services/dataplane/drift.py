"""How the kernel differs from a plan: the plan applied to a copy of the maps; what that writes is what the kernel lacks."""

from collections.abc import Iterable, Mapping

from services.dataplane.apply import MAPS, Applier, KernelMap
from weir.decider import World


class Copy:
    """A map's content in memory, with the interface of a map; `changes` are the keys written or deleted since."""

    def __init__(self, original: KernelMap) -> None:
        self.max_entries = original.max_entries
        self.changes: list[bytes] = []
        self._content = dict(original.items())

    def get(self, key: bytes) -> bytes | None:
        """The value, None when there is none."""
        return self._content.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        """Writes one entry."""
        self._content[key] = value
        self.changes.append(key)

    def put_many(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        """Writes every entry."""
        for key, value in pairs:
            self.put(key, value)

    def delete(self, key: bytes) -> bool:
        """Removes one entry; whether there was one."""
        found = self._content.pop(key, None) is not None
        if found:
            self.changes.append(key)
        return found

    def items(self) -> Iterable[tuple[bytes, bytes]]:
        """All entries."""
        return list(self._content.items())


def drift(maps: Mapping[str, KernelMap], world: World) -> dict[str, int]:
    """Map -> entries in which the kernel and the plan in `world` differ; empty when they agree.

    Backends out of the plan whose flows may still live are no difference.
    """
    copies = {name: Copy(maps[name]) for name in MAPS}
    applier = Applier(copies)
    applier.apply_all(world)
    found = {name: len(copy.changes) for name, copy in copies.items() if copy.changes}
    return found | {"refused": len(applier.rejections())} if applier.rejections() else found
