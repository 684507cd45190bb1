"""The backends in the kernel: their ids, and how one leaves.

Nothing of them is kept here but what the maps do not say: at 100,000 backends memory would be the price.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache

from services.dataplane.l4.kernel import Ids, Kernel
from services.dataplane.l4.layout import ID, NO_BACKEND, Backend
from services.dataplane.l4.maglev import PlanError
from weir.model import endpoint_name
from weir.pins import MapError, address_bytes


class Backends:
    """lingering: out of the plan, but their TCP flows may still live.   refused: found no place, and why.  Both by name."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.lingering: set[str] = set()
        self.refused: dict[str, str] = {}
        self._more = Counter[bytes]()  # hosts of several backends, and how many beyond the first
        taken = [ID.unpack(where)[0] for where, _ in kernel.maps["backends"].filled()]
        self._ids = Ids("backends", taken, kernel.maps["backends"].max_entries)
        self._drop_strays()

    def id_of(self, name: str) -> int:
        """Its id, 0 where the kernel has no such backend."""
        number = self._kernel.get("backend_ids", _backend(name).key())
        return int.from_bytes(number, "little") if number else 0

    def names(self) -> Iterator[str]:
        """Every backend in the kernel."""
        for _, value in self._kernel.maps["backends"].filled():
            if backend := Backend.unpack(value):
                yield endpoint_name(backend.address, backend.port, backend.protocol)

    def used(self) -> tuple[int, int]:
        """Places in use, and how many there are."""
        return len(self._ids), self._kernel.maps["backends"].max_entries

    def admit(self, names: Collection[str]) -> dict[str, int]:
        """Give backends their ids.  Returns them; a backend without one is `refused`.

        New backends are written together; if that fails, one by one.
        """
        known = {name: number for name in names if (number := self.id_of(name))}
        fresh = [name for name in names if name not in known]
        parts = [[name] for name in known]
        try:
            ids = self._place(fresh)
        except (MapError, PlanError):
            ids, parts = {}, [[name] for name in names]
        for (name,) in parts:
            try:
                ids |= self._renew(name, known[name]) if name in known else self._place([name])
            except (MapError, PlanError) as error:
                self.refused[name] = str(error)
        for name in ids:
            self.refused.pop(name, None)
            self.lingering.discard(name)
        return ids

    def _renew(self, name: str, number: int) -> dict[str, int]:
        """Of a backend that has its place.  Raises MapError, PlanError."""
        backend = _backend(name)
        self._kernel.write("backend_hosts", address_bytes(backend.address), b"\1")
        self._kernel.write("backends", ID.pack(number), backend.pack())
        self._kernel.write("backend_ids", backend.key(), ID.pack(number))
        return {name: number}

    def _place(self, names: Sequence[str]) -> dict[str, int]:
        """New ones, all or none.  Raises MapError, PlanError."""
        kernel, numbers = self._kernel, list[int]()
        backends = [_backend(name) for name in names]
        keys = [backend.key() for backend in backends]
        hosts = Counter(key[:16] for key in keys)
        shared = {host for host in hosts if kernel.get("backend_hosts", host) is not None}
        try:
            for _ in names:
                numbers.append(self._ids.take())
                kernel.zero("backend_stats", numbers[-1])
            kernel.write_many("backend_hosts", [(host, b"\1") for host in hosts if host not in shared], new=True)
            kernel.write_many("backends", [(ID.pack(n), each.pack()) for n, each in zip(numbers, backends, strict=True)], new=True)
            kernel.write_many("backend_ids", [(key, ID.pack(n)) for key, n in zip(keys, numbers, strict=True)], new=True)
        except (MapError, PlanError):
            for key in keys:
                kernel.delete("backend_ids", key)
            for number in numbers:
                self.empty(number)
            for host in hosts.keys() - shared:
                kernel.delete("backend_hosts", host)
            raise
        for host, count in hosts.items():
            if more := count - (host not in shared):
                self._more[host] += more
        return dict(zip(names, numbers, strict=True))

    def retire(self, names: Iterable[str]) -> None:
        """Out of the plan: those of TCP keep the way back of their flows until none is left."""
        for name in names:
            self.refused.pop(name, None)
            if not self.id_of(name):
                continue
            if name.endswith("/TCP"):
                self.lingering.add(name)
            else:
                self._forget(name)

    def release(self, names: set[str], alive: set[int]) -> int:
        """Forgets those of `names` that linger and have no flow left; `alive`: backend ids of live flows.  Returns how many."""
        done = [name for name in sorted(self.lingering & names) if self.id_of(name) not in alive]
        for name in done:
            self._forget(name)
        return len(done)

    def _drop_strays(self) -> None:
        """What an interrupted life left: halves of backends, places and hosts of none.  And counts those that share a host."""
        kernel, hosts = self._kernel, Counter[bytes]()
        known = {host for host, _ in kernel.maps["backend_hosts"].items()}  # the last that goes when one is forgotten
        halves = [
            where for where, number in kernel.maps["backend_ids"].items() if (kernel.get("backends", number) or b"")[:19] != where[:19]
        ]
        for where in halves:
            kernel.delete("backend_ids", where)
        for number, value in kernel.maps["backends"].filled():
            held = kernel.get("backend_ids", value[:19] + b"\0")
            if held == number and value[:16] in known:
                hosts[value[:16]] += 1
                continue
            if held == number:
                kernel.delete("backend_ids", value[:19] + b"\0")
            self.empty(ID.unpack(number)[0])
        for host in known - hosts.keys():
            kernel.delete("backend_hosts", host)
        self._more = Counter({host: count - 1 for host, count in hosts.items() if count > 1})

    def _forget(self, name: str) -> None:
        self.lingering.discard(name)
        backend, number = _backend(name), self.id_of(name)
        host = address_bytes(backend.address)
        self._kernel.delete("backend_ids", backend.key())
        self.empty(number)
        more = self._more.pop(host, 0)
        if not more:
            self._kernel.delete("backend_hosts", host)
        elif more > 1:
            self._more[host] = more - 1

    def empty(self, number: int) -> None:
        """A place that will not clear stays taken."""
        if self._kernel.clear("backends", number, NO_BACKEND):
            self._ids.give(number)


@lru_cache(maxsize=64)  # one is asked for several times in a row
def _backend(name: str) -> Backend:
    address, _, rest = name.rpartition(":")
    port, _, protocol = rest.partition("/")
    return Backend(address.strip("[]"), int(port), protocol)
