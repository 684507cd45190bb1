"""Writes to the kernel's maps: only what differs, read back; removals that failed are remembered.  And the ids of its entries."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from services.dataplane.l4.layout import ID
from services.dataplane.l4.maglev import PlanError
from weir.pins import MapError

MAPS = (
    "frontends",
    "tables",
    "backends",
    "backend_hosts",
    "backend_ids",
    "vips",
    "source_ranges",
    "affinity_s",
    "frontend_stats",
    "backend_stats",
)


class KernelMap(Protocol):
    """The part of `weir.pins.Map` that is used."""

    max_entries: int

    def get(self, key: bytes) -> bytes | None: ...
    def put(self, key: bytes, value: bytes) -> None: ...
    def put_many(self, pairs: Iterable[tuple[bytes, bytes]]) -> None: ...
    def delete(self, key: bytes) -> bool: ...
    def items(self) -> Iterable[tuple[bytes, bytes]]: ...
    def filled(self) -> Iterable[tuple[bytes, bytes]]: ...


class Kernel:
    """The maps of the plan.   writes: entries written or deleted.   stuck: entries that could not be removed, and why."""

    def __init__(self, maps: Mapping[str, KernelMap]) -> None:
        self.maps = maps
        self.writes = 0
        self.stuck: dict[tuple[str, bytes], str] = {}

    def get(self, name: str, key: bytes) -> bytes | None:
        """Return the value of `key`; None for an entry whose removal failed."""
        return None if (name, key) in self.stuck else self.maps[name].get(key)

    def write(self, name: str, key: bytes, value: bytes) -> None:
        """Write one entry.  Raises MapError, or PlanError where the map then holds another value."""
        self.stuck.pop((name, key), None)
        if self.maps[name].get(key) == value:
            return
        self.maps[name].put(key, value)
        self.writes += 1
        if self.maps[name].get(key) != value:
            raise PlanError(f"map {name} holds another value than was written")

    def write_many(self, name: str, pairs: Sequence[tuple[bytes, bytes]], *, new: bool) -> None:
        """Write with as few calls as possible: a table is up to 15,000 entries.   new: none of the keys is expected in the map."""
        held = self.maps[name]
        for key, _ in pairs if self.stuck else ():
            self.stuck.pop((name, key), None)
        changed = pairs if new else [(key, value) for key, value in pairs if held.get(key) != value]
        held.put_many(changed)
        self.writes += len(changed)
        if any(held.get(key) != value for key, value in changed):
            raise PlanError(f"map {name} holds another value than was written")

    def delete(self, name: str, key: bytes) -> None:
        """Remove an entry; one that cannot be removed is `stuck`."""
        try:
            self.writes += self.maps[name].delete(key)
        except MapError as error:
            self.stuck[name, key] = str(error)
        else:
            self.stuck.pop((name, key), None)

    def clear(self, name: str, number: int, empty: bytes) -> bool:
        """Clear an entry of an array, which has no removal; return whether it is clear."""
        key = ID.pack(number)
        try:
            self.write(name, key, empty)
        except (MapError, PlanError) as error:
            self.stuck[name, key] = str(error)
        return (name, key) not in self.stuck

    def zero(self, name: str, number: int) -> None:
        """Reset the counters of an id for its new owner."""
        old = self.maps[name].get(ID.pack(number))
        if old and any(old):
            self.maps[name].put(ID.pack(number), bytes(len(old)))


class Ids:
    """Numbers 1 to `size` - 1, handed out in turn, so that one is unused for long before it is used again.  0 is never used."""

    def __init__(self, what: str, taken: Iterable[int], size: int) -> None:
        self._what, self._size = what, size
        self._taken = bytearray(b"\1") + bytearray(size - 1)  # one byte each; a set of ints would take forty
        self._last = 0
        for number in taken:
            self._taken[number] = 1
            self._last = max(self._last, number)
        self._count = self._taken.count(1) - 1

    def take(self) -> int:
        """Take a free number.  Raises PlanError when all are taken."""
        if self._count >= self._size - 1:
            raise PlanError(f"{self._what}: all {self._size - 1} places are taken")
        self._last = max(self._taken.find(0, self._last + 1), 0) or self._taken.find(0)
        self._taken[self._last] = 1
        self._count += 1
        return self._last

    def release(self, number: int) -> None:
        """Release `number`."""
        self._count -= self._taken[number]
        self._taken[number] = 0

    def __len__(self) -> int:
        return self._count
