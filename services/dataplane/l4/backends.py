"""The backends in the kernel: their ids, and how one is removed.

Nothing that the maps hold is kept here: at 100,000 backends that would cost too much memory.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from services.dataplane.l4.kernel import Ids, Kernel
from services.dataplane.l4.layout import ID, NO_BACKEND, Backend
from services.dataplane.l4.maglev import PlanError
from weir.model import endpoint_name
from weir.pins import PROTOCOLS, MapError, backend_key


class Resolved(NamedTuple):
    """A backend as the maps know it.   key: in `backend_ids`; its first 16 bytes are the host, its first 19 the value in `backends`."""

    name: str
    key: bytes
    id: int  # 0: the kernel has no such backend

    @property
    def host(self) -> bytes:
        return self.key[:16]

    @property
    def value(self) -> bytes:
        return self.key[:19] + b"\0"  # no flags


def unknown_protocol(protocol: str) -> str:
    """Return why an entry of `protocol` cannot be written."""
    return f"protocol {protocol!a}: expected one of {', '.join(PROTOCOLS)}"


class Backends:
    """lingering: out of the plan, but their TCP flows may still live.   refused: has no place, and why.  Both by name."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.lingering: set[str] = set()
        self.refused: dict[str, str] = {}
        self._more = Counter[bytes]()  # hosts of several backends, and how many beyond the first
        taken = [ID.unpack(where)[0] for where, _ in kernel.maps["backends"].filled()]
        self._ids = Ids("backends", taken, kernel.maps["backends"].max_entries)
        self._drop_strays()

    def resolve(self, name: str) -> Resolved:
        """Look up one backend.  One of a protocol that the kernel does not know has no key and no id."""
        address, _, rest = name.rpartition(":")
        port, _, protocol = rest.partition("/")
        if protocol not in PROTOCOLS:
            return Resolved(name, b"", 0)
        key = backend_key(address.strip("[]"), int(port), protocol)
        held = self._kernel.get("backend_ids", key)
        return Resolved(name, key, ID.unpack(held)[0] if held else 0)

    def id_of(self, name: str) -> int:
        """Return its id, 0 where the kernel has no such backend."""
        return self.resolve(name).id

    def names(self) -> Iterator[str]:
        """Yield every backend in the kernel."""
        for _, value in self._kernel.maps["backends"].filled():
            if backend := Backend.unpack(value):
                yield endpoint_name(backend.address, backend.port, backend.protocol)

    def used(self) -> tuple[int, int]:
        """Return the places in use, and how many there are."""
        return len(self._ids), self._kernel.maps["backends"].max_entries

    def admit(self, names: Collection[str]) -> dict[str, Resolved]:
        """Give backends their ids, and return them; a backend without one is `refused`.

        New backends are written together; if that fails, one by one.
        """
        found = [self.resolve(name) for name in names]
        self.refused |= {each.name: unknown_protocol(each.name.rpartition("/")[2]) for each in found if not each.key}
        singly = [each for each in found if each.id]
        try:
            admitted = self._place([each for each in found if each.key and not each.id])
        except (MapError, PlanError):
            admitted, singly = {}, [each for each in found if each.key]
        for each in singly:
            try:
                admitted |= self._renew(each) if each.id else self._place([each])
            except (MapError, PlanError) as error:
                self.refused[each.name] = str(error)
        for name in admitted:
            self.refused.pop(name, None)
            self.lingering.discard(name)
        return admitted

    def _renew(self, backend: Resolved) -> dict[str, Resolved]:
        """Write again a backend that has its place.  Raises MapError, PlanError."""
        self._kernel.write("backend_hosts", backend.host, b"\1")
        self._kernel.write("backends", ID.pack(backend.id), backend.value)
        self._kernel.write("backend_ids", backend.key, ID.pack(backend.id))
        return {backend.name: backend}

    def _place(self, fresh: Sequence[Resolved]) -> dict[str, Resolved]:
        """Write new backends, all or none.  Raises MapError, PlanError."""
        kernel, placed = self._kernel, list[Resolved]()
        hosts = Counter(each.host for each in fresh)
        shared = {host for host in hosts if kernel.get("backend_hosts", host) is not None}
        try:
            for each in fresh:
                placed.append(each._replace(id=self._ids.take()))
                kernel.zero("backend_stats", placed[-1].id)
            kernel.write_many("backend_hosts", [(host, b"\1") for host in hosts if host not in shared], new=True)
            kernel.write_many("backends", [(ID.pack(each.id), each.value) for each in placed], new=True)
            kernel.write_many("backend_ids", [(each.key, ID.pack(each.id)) for each in placed], new=True)
        except (MapError, PlanError):
            for each in fresh:
                kernel.delete("backend_ids", each.key)
            for each in placed:
                self.empty(each.id)
            for host in hosts.keys() - shared:
                kernel.delete("backend_hosts", host)
            raise
        for host, count in hosts.items():
            if more := count - (host not in shared):
                self._more[host] += more
        return {each.name: each for each in placed}

    def retire(self, names: Iterable[str]) -> None:
        """Take backends out of the plan: those of TCP keep the return path of their flows until none is left."""
        for name in names:
            self.refused.pop(name, None)
            each = self.resolve(name)
            if each.id and name.endswith("/TCP"):
                self.lingering.add(name)
            elif each.id:
                self._remove(each)

    def release(self, names: set[str], alive: set[int]) -> int:
        """Remove those of `names` that linger and have no flow left; `alive`: backend ids of live flows.  Return how many."""
        lingering = [self.resolve(name) for name in sorted(self.lingering & names)]
        done = [each for each in lingering if each.id not in alive]
        for each in done:
            self._remove(each)
        return len(done)

    def _drop_strays(self) -> None:
        """Remove what an interrupted process left: halves of backends, places and hosts without one.  Count those that share a host."""
        kernel, hosts = self._kernel, Counter[bytes]()
        known = {host for host, _ in kernel.maps["backend_hosts"].items()}  # the last entry that is deleted when one is removed
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

    def _remove(self, backend: Resolved) -> None:
        self.lingering.discard(backend.name)
        self._kernel.delete("backend_ids", backend.key)
        self.empty(backend.id)
        more = self._more.pop(backend.host, 0)
        if not more:
            self._kernel.delete("backend_hosts", backend.host)
        elif more > 1:
            self._more[backend.host] = more - 1

    def empty(self, number: int) -> None:
        """Clear a place; one that cannot be cleared stays taken."""
        if self._kernel.clear("backends", number, NO_BACKEND):
            self._ids.release(number)
