"""The backends in the kernel: their ids, where their replies belong, and how one leaves.

Nothing of them is kept here but what the maps do not say: at 100,000 backends memory would be the price.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from services.dataplane.kernel import Ids, Kernel
from services.dataplane.layout import BACKEND_SHARED, ID, NO_BACKEND, Backend, FrontendKey, Origin
from services.dataplane.maglev import PlanError
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
        origin = self._kernel.get("origins", _backend(name).key())
        return int.from_bytes(origin[:4], "little") if origin else 0

    def frontends_of(self, name: str) -> tuple[FrontendKey, ...]:
        """The frontends that its replies may belong to."""
        origin = self._kernel.get("origins", _backend(name).key())
        return Origin.unpack(origin).candidates if origin else ()

    def names(self) -> Iterator[str]:
        """Every backend in the kernel."""
        for _, value in self._kernel.maps["backends"].filled():
            if backend := Backend.unpack(value):
                yield endpoint_name(backend.address, backend.port, backend.protocol)

    def used(self) -> tuple[int, int]:
        """Places in use, and how many there are."""
        return len(self._ids), self._kernel.maps["backends"].max_entries

    def admit(self, name: str, frontends: Sequence[FrontendKey]) -> bool:
        """Gives a backend its id, and tells where its replies belong.  False: it is refused."""
        try:
            self._write(_backend(name, BACKEND_SHARED if len(frontends) > 1 else 0), self.id_of(name), frontends)
        except (MapError, PlanError) as error:
            self.refused[name] = str(error)
            return False
        self.refused.pop(name, None)
        self.lingering.discard(name)
        return True

    def _write(self, backend: Backend, known: int, frontends: Sequence[FrontendKey]) -> None:
        host = address_bytes(backend.address)
        beside = not known and self._kernel.get("backend_hosts", host) is not None
        number = known or self._ids.take()
        try:
            if not known:
                self._kernel.zero("backend_stats", number)
            self._kernel.write("backend_hosts", host, b"\1")
            self._kernel.write("backends", ID.pack(number), backend.pack())
            self._kernel.write("origins", backend.key(), Origin(number, tuple(frontends)).pack())
        except (MapError, PlanError):
            if not known:
                self._kernel.delete("origins", backend.key())
                self.empty(number)
                if not beside:
                    self._kernel.delete("backend_hosts", host)
            raise
        if beside:
            self._more[host] += 1

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
        halves = [
            where for where, origin in kernel.maps["origins"].items() if (kernel.get("backends", origin[:4]) or b"")[:19] != where[:19]
        ]
        for where in halves:
            kernel.delete("origins", where)
        for number, value in kernel.maps["backends"].filled():
            origin = kernel.get("origins", value[:19] + b"\0")
            if origin and origin[:4] == number:
                hosts[value[:16]] += 1
            else:
                self.empty(ID.unpack(number)[0])
        for host in [host for host, _ in kernel.maps["backend_hosts"].items() if host not in hosts]:
            kernel.delete("backend_hosts", host)
        self._more = Counter({host: count - 1 for host, count in hosts.items() if count > 1})

    def _forget(self, name: str) -> None:
        self.lingering.discard(name)
        backend, number = _backend(name), self.id_of(name)
        host = address_bytes(backend.address)
        self._kernel.delete("origins", backend.key())
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
def _backend(name: str, flags: int = 0) -> Backend:
    address, _, rest = name.rpartition(":")
    port, _, protocol = rest.partition("/")
    return Backend(address.strip("[]"), int(port), protocol, flags)
