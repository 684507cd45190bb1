"""From the maps of one layout to those of the next: a new release takes over without losing a flow.

Entries are copied while the old programs forward on, again and again until hardly any are new; then the links turn, and what
came in between follows.  What the new programs wrote themselves is never written over.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from services.dataplane.layout import ID, KINDS, LAYOUT, MapSpec
from weir.pins import Map, MapError

Convert = Callable[[bytes], bytes]

CONVERTERS: Mapping[int, Mapping[str, Convert]] = {
    1: {"conntrack": lambda value: value[:112]},  # 2: the 16 bytes in reserve are gone, the table is no LRU
}
"""Layout -> map -> its value as the next layout has it.  Maps not named here are the same in both."""

_NOT_CARRIED = frozenset({"next_hops", "scratch", "flow_keys", "flow_blocks", "programs_tc", "programs_xdp", "conntrack"})
_FEW = 100  # flows that are new since the last pass: they follow when the links have turned
_KIND = 36  # where a flow's value tells forward from reverse


def older(pins: Path) -> Path | None:
    """The pins of an older layout that can be carried over; None where there are none."""
    known = [pins / f"v{layout}" for layout in CONVERTERS if layout < LAYOUT]
    return next((directory for directory in reversed(known) if directory.is_dir()), None)


class Migration:
    """The pins of an older layout, carried over to descriptors of new maps by name."""

    def __init__(self, directory: Path, specs: tuple[MapSpec, ...], maps: Mapping[str, int]) -> None:
        self._old, self._specs, self._maps = directory, specs, maps
        self._layout = int(directory.name.removeprefix("v"))
        self._seen: set[bytes] = set()
        self._noted = 0

    def begin(self) -> str:
        """Everything but the flows, and then the flows until hardly any are new."""
        for spec in self._specs:
            if spec.name not in _NOT_CARRIED and (self._old / spec.name).exists():
                self._map(spec.name).put_many(self._entries(spec.name))
        new = self.follow()
        while new > _FEW and (more := self.follow()) < new:  # else flows begin as fast as they are read: the rest comes after the turn
            new = more
        return f"{self._old.name}: {len(self._seen)} flows carried over"

    def follow(self) -> int:
        """The flows that came since; returns how many."""
        flows, keys, new = self._map("conntrack"), self._map("flow_keys"), 0
        for key, value in self._entries("conntrack"):
            if key in self._seen:
                continue
            self._seen.add(key)
            new += 1
            with suppress(MapError):  # full: then the new table is the smaller one
                if flows.put_new(key, value) and KINDS[value[_KIND]] == "forward":
                    self._noted += 1  # from the end: the programs begin at the front
                    keys.put(ID.pack(keys.max_entries - 1 - self._noted % keys.max_entries), key)
        return new

    def _map(self, name: str) -> Map:
        return Map(self._maps[name], name)

    def _entries(self, name: str) -> Iterator[tuple[bytes, bytes]]:
        steps = [CONVERTERS[layout][name] for layout in range(self._layout, LAYOUT) if name in CONVERTERS[layout]]
        with Map.open(self._old / name) as old:
            for key, value in old.items():
                for step in steps:
                    value = step(value)
                yield key, value
