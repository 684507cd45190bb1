"""How the kernel differs from a plan: the plan is applied to a copy of the maps, and what that writes is the difference."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from services.dataplane.l4.apply import Applier
from services.dataplane.l4.kernel import MAPS, KernelMap
from services.dataplane.l4.vips import Slots
from weir.decider import World


class Copy:
    """A map's content in memory, with the interface of a map.   changes: keys whose value has changed since."""

    def __init__(self, original: KernelMap) -> None:
        self.max_entries = original.max_entries
        self.changes: list[bytes] = []
        self._content = dict(original.items())

    def get(self, key: bytes) -> bytes | None:
        """Return the value, None when there is none."""
        return self._content.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        """Write one entry; the same value again is no change."""
        if self._content.get(key) != value:
            self._content[key] = value
            self.changes.append(key)

    def put_many(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        """Write all entries."""
        for key, value in pairs:
            self.put(key, value)

    def delete(self, key: bytes) -> bool:
        """Remove one entry; return whether there was one."""
        found = self._content.pop(key, None) is not None
        if found:
            self.changes.append(key)
        return found

    def items(self) -> Iterable[tuple[bytes, bytes]]:
        """Return all entries."""
        return list(self._content.items())

    def filled(self) -> Iterable[tuple[bytes, bytes]]:
        """Return the entries that are not all zeros."""
        return [(key, value) for key, value in self._content.items() if any(value)]

    def used(self) -> int:
        """Return how many entries are in use; an array has all its entries, those not in use are zero."""
        is_array = len(self._content) == self.max_entries
        return sum(map(any, self._content.values())) if is_array else len(self._content)


class Compared(NamedTuple):
    """Entries of one map: how many it holds, how many the plan has, and how many differ."""

    held: int
    planned: int
    differ: int


def compare(maps: Mapping[str, KernelMap], world: World, node: str, slots: Slots) -> tuple[dict[str, Compared], int]:
    """Compare each map with the plan in `world`; return that, and how many entities of the plan would be refused.

    Backends that left the plan, and whose flows may still live, are no difference.
    """
    copies = {name: Copy(maps[name]) for name in MAPS}
    held = {name: copy.used() for name, copy in copies.items()}
    applier = Applier(copies, node, slots)
    applier.apply_all(world)
    found = {name: Compared(held[name], copy.used(), len(copy.changes)) for name, copy in copies.items()}
    return found, len(applier.rejections())


def drift(maps: Mapping[str, KernelMap], world: World, node: str, slots: Slots = lambda _: ()) -> dict[str, int]:
    """Return map -> entries in which the kernel and the plan in `world` differ; empty when they agree."""
    found, refused = compare(maps, world, node, slots)
    differing = {name: each.differ for name, each in found.items() if each.differ}
    return differing | {"refused": refused} if refused else differing
