"""Which clients may start a flow, by frontend: the map `source_ranges` and the flag that has it asked.

Ranges are there before a frontend says that it has any, and go only after it says that it has others.
"""

from collections import defaultdict
from collections.abc import Sequence

from services.dataplane.kernel import Kernel
from services.dataplane.layout import SOURCE_RANGE_KEY, source_range_key

_ALLOWED = b"\1"


def ranges(frontend_id: int, vip: str, sources: Sequence[str]) -> set[bytes] | None:
    """Keys of `source_ranges` for the CIDRs of the VIP's family; None: everyone may.  No CIDR of its family: nobody may."""
    family = [source.rpartition("/") for source in sources if (":" in source) == (":" in vip)]
    if not sources or any(bits == "0" for _, _, bits in family):
        return None
    return {source_range_key(frontend_id, network, int(bits)) for network, _, bits in family}


class Sources:
    """The ranges in the kernel, by frontend id.  A lookup in such a map finds the next wider range: so what it has is kept here."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._held: dict[int, set[bytes]] = defaultdict(set)
        for key, _ in kernel.maps["source_ranges"].items():  # noqa: PERF102 (no dict)
            self._held[SOURCE_RANGE_KEY.unpack(key)[1]].add(key)

    def allow(self, frontend_id: int, wanted: set[bytes] | None) -> None:
        """Adds what is missing.  Raises MapError."""
        for key in sorted((wanted or set()) - self._held[frontend_id]):
            self._kernel.stuck.pop(("source_ranges", key), None)
            self._kernel.maps["source_ranges"].put(key, _ALLOWED)
            self._kernel.writes += 1
            self._held[frontend_id].add(key)

    def deny(self, frontend_id: int, wanted: set[bytes] | None) -> None:
        """Takes away what is not wanted any more."""
        for key in sorted(self._held[frontend_id] - (wanted or set())):
            self._kernel.delete("source_ranges", key)
            self._held[frontend_id].discard(key)
        if not self._held[frontend_id]:
            del self._held[frontend_id]

    def drop_strays(self, known: set[int]) -> None:
        """Ranges of frontends that are not there."""
        for frontend_id in sorted(set(self._held) - known):
            self.deny(frontend_id, None)
