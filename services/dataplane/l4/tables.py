"""The lookup tables in the kernel.  A table belongs to a backend set; it is removed with the last frontend that uses it."""

from array import array
from collections import Counter
from collections.abc import Iterable

from services.dataplane.core import set_number
from services.dataplane.l4.kernel import Kernel
from services.dataplane.l4.layout import TABLE_KEY, Frontend, table_keys, table_pairs
from services.dataplane.l4.maglev import PlanError


class Tables:
    """Usage counts of the tables.   frontends: those that the kernel holds."""

    def __init__(self, kernel: Kernel, frontends: Iterable[Frontend]) -> None:
        self._kernel = kernel
        self._users = Counter((frontend.set_id, frontend.size) for frontend in frontends)
        self._names: dict[int, str] = {}  # set number -> name of the set that has it

    def __len__(self) -> int:
        return len(self._users)

    def number(self, name: str) -> int:
        """Return the number of a table by its name.  Raises PlanError where it belongs to another: 64 bits of a hash may collide."""
        number = set_number(name)
        owner = self._names.setdefault(number, name)
        if owner != name:
            raise PlanError(f"backend set {name}: its number {number:#x} belongs to {owner}; rename the Service or its port")
        return number

    def use(self, number: int, table: "array[int]") -> None:
        """Write the table for one more frontend, which uses it until `leave`, even if this raises MapError or PlanError."""
        self._users[number, len(table)] += 1
        self._kernel.write_many("tables", list(table_pairs(number, table)), new=self._users[number, len(table)] == 1)

    def leave(self, number: int, size: int) -> None:
        """Count one user less; the last one removes the table."""
        self._users[number, size] -= 1
        if self._users[number, size]:
            return
        del self._users[number, size]
        for slot in table_keys(number, size):
            self._kernel.delete("tables", slot)

    def forget(self, names: Iterable[str]) -> None:
        """Free the numbers of sets that left the plan."""
        for name in names:
            number = set_number(name)
            if self._names.get(number) == name:
                del self._names[number]

    def drop_strays(self) -> None:
        """Remove the tables that no frontend uses."""
        for slot in [slot for slot, _ in self._kernel.maps["tables"].items() if TABLE_KEY.unpack(slot)[:2] not in self._users]:
            self._kernel.delete("tables", slot)
