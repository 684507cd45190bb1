"""Entries that belong to a frontend, by its id: the clients it admits, the backends that its clients keep.

They are written before the frontend's flags refer to them, and removed only after the frontend refers to others.
"""

from collections import defaultdict
from collections.abc import Mapping

from services.dataplane.l4.kernel import Kernel


class Owned:
    """One map of such entries.  Its content is kept here, since a lookup in `source_ranges` finds the next wider range.

    id_at: where in a key the frontend's id begins.
    """

    def __init__(self, kernel: Kernel, name: str, id_at: int) -> None:
        self._kernel, self._name = kernel, name
        self._held: dict[int, dict[bytes, bytes]] = defaultdict(dict)
        for key, value in kernel.maps[name].items():
            self._held[int.from_bytes(key[id_at : id_at + 4], "little")][key] = value

    def put(self, frontend_id: int, wanted: Mapping[bytes, bytes]) -> None:
        """Write what is missing or differs.  Raises MapError."""
        held = self._held[frontend_id]
        for key, value in sorted(wanted.items() - held.items()):
            self._kernel.stuck.pop((self._name, key), None)
            self._kernel.maps[self._name].put(key, value)
            self._kernel.writes += 1
            held[key] = value

    def keep(self, frontend_id: int, wanted: Mapping[bytes, bytes]) -> None:
        """Remove what is no longer wanted."""
        held = self._held[frontend_id]
        for key in sorted(held.keys() - wanted.keys()):
            self._kernel.delete(self._name, key)
            del held[key]
        if not held:
            del self._held[frontend_id]

    def drop_strays(self, known: set[int]) -> None:
        """Remove the entries of unknown frontends."""
        for frontend_id in sorted(set(self._held) - known):
            self.keep(frontend_id, {})
