"""Makes the kernel match the plan, writing only what differs from what the kernel holds, and reads it back.

The kernel is the only memory of what was applied: a new process finds ids in the pinned maps and goes on.  Order of writes:
what is referred to before what refers to it, and the other way round for removals, so that no packet finds a half-made entry.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from services.dataplane.core import Touched, eligible, frontend_key, frontends_of, members, set_number
from services.dataplane.layout import (
    ALGORITHMS,
    BACKEND_SHARED,
    ID,
    MODES,
    NO_BACKEND,
    TABLE_KEY,
    Backend,
    Frontend,
    FrontendKey,
    Origin,
    Vip,
    table_keys,
    table_pairs,
)
from services.dataplane.maglev import PlanError, maglev_table, round_robin_table, table_size
from weir.decider import World
from weir.events import FrontendPlanned, VipPlanned, key, key_of
from weir.model import Backend as Planned
from weir.model import Rejection, endpoint_name
from weir.pins import MapError, address_bytes, address_text

MAPS = ("frontends", "tables", "backends", "backend_hosts", "origins", "vips", "frontend_stats", "backend_stats")


class KernelMap(Protocol):
    """What is used of `weir.pins.Map`."""

    max_entries: int

    def get(self, key: bytes) -> bytes | None: ...
    def put(self, key: bytes, value: bytes) -> None: ...
    def put_many(self, pairs: Iterable[tuple[bytes, bytes]]) -> None: ...
    def delete(self, key: bytes) -> bool: ...
    def items(self) -> Iterable[tuple[bytes, bytes]]: ...
    def filled(self) -> Iterable[tuple[bytes, bytes]]: ...


class Outcome(NamedTuple):
    """What one `apply` did.  writes: entries written or deleted; announced: VIPs that are new on this node."""

    writes: int
    announced: tuple[str, ...]


class Ids:
    """Numbers 1 to `size` - 1, given round and round, so that one rests long before it is used again.  0 is never given."""

    def __init__(self, what: str, taken: Iterable[int], size: int) -> None:
        self._what, self._size = what, size
        self._taken = bytearray(b"\1") + bytearray(size - 1)  # a byte for each: a set of numbers takes forty
        self._last = 0
        for number in taken:
            self._taken[number] = 1
            self._last = max(self._last, number)
        self._count = self._taken.count(1) - 1

    def take(self) -> int:
        """Raises PlanError when all are taken."""
        if self._count >= self._size - 1:
            raise PlanError(f"{self._what}: all {self._size - 1} places are taken")
        self._last = max(self._taken.find(0, self._last + 1), 0) or self._taken.find(0)
        self._taken[self._last] = 1
        self._count += 1
        return self._last

    def give(self, number: int) -> None:
        """`number` is nobody's any more."""
        self._count -= self._taken[number]
        self._taken[number] = 0

    def __len__(self) -> int:
        return self._count


class Applier:
    """The node's kernel, as far as the plan reaches."""

    def __init__(self, maps: Mapping[str, KernelMap]) -> None:
        self._maps = maps
        self._writes = 0
        self._refused: dict[str, str] = {}  # entity key -> the kernel's words
        self._unfinished: set[FrontendKey] = set()  # refused frontends, tried again with every apply
        self._unfinished_vips: set[str] = set()
        self._undeleted: dict[tuple[str, bytes], str] = {}  # entries that should be gone, and why they are not
        self._unadmitted: dict[str, str] = {}  # backends that found no place, and why
        self.lingering: set[str] = set()  # backends out of the plan whose TCP flows may still live
        held = ((ID.unpack(key)[0], Backend.unpack(value)) for key, value in maps["backends"].filled())
        self._backends = {_name(backend): number for number, backend in held if backend}
        self._frontends = {FrontendKey.unpack(key): Frontend.unpack(value) for key, value in maps["frontends"].items()}
        self._hosts = Counter(_parts(name)[0] for name in self._backends)
        self._tables = Counter((frontend.set_id, frontend.size) for frontend in self._frontends.values())
        self._backend_ids = Ids("backends", self._backends.values(), maps["backends"].max_entries)
        self._frontend_ids = Ids("frontends", (f.id for f in self._frontends.values()), maps["frontend_stats"].max_entries)

    @property
    def newest(self) -> int:
        """The newest sequence that what the kernel holds rests on; 0 on a machine that just started."""
        return max((frontend.plan_seq for frontend in self._frontends.values()), default=0)

    def apply_all(self, world: World) -> Outcome:
        """The whole plan; what the kernel holds beyond it goes."""
        done = self.apply(world, Touched.all(world))
        self._writes = done.writes
        self._withdraw_vips({address_text(vip) for vip, _ in self._maps["vips"].items()} - {event.vip for event in world.of(VipPlanned)})
        planned = {frontend_key(frontend) for frontend in world.of(FrontendPlanned)}
        for stray in sorted(set(self._frontends) - planned, key=FrontendKey.pack):
            self._withdraw_frontend(stray)
        for slot, _ in list(self._maps["tables"].items()):
            if not self._tables[TABLE_KEY.unpack(slot)[:2]]:
                self._delete("tables", slot)
        self._retire(world, sorted(self._backends))
        self._drop_strays()
        return Outcome(self._writes, done.announced)

    def _drop_strays(self) -> None:
        """What an earlier life wrote for backends that never came to be."""
        origins = {Backend(*_parts(name)).key() for name in self._backends}
        for where, _ in list(self._maps["origins"].items()):
            if where not in origins:
                self._delete("origins", where)
        for where, value in list(self._maps["backends"].filled()):
            backend = Backend.unpack(value)
            if backend and self._backends.get(_name(backend)) != ID.unpack(where)[0]:
                self._empty(ID.unpack(where)[0])
        for where, _ in list(self._maps["backend_hosts"].items()):
            if not self._hosts[address_text(where)]:
                self._delete("backend_hosts", where)

    def apply(self, world: World, touched: Touched) -> Outcome:
        """The touched part of the plan, and once more what was refused before."""
        self._writes = 0
        for name, stuck in list(self._undeleted):
            if name == "backends":
                self._empty(ID.unpack(stuck)[0])
            else:
                self._delete(name, stuck)
        for name in sorted(touched.endpoints | set(self._unadmitted)):
            if frontends := frontends_of(world, name):
                self._admit(name, frontends)
        gone = []
        for where in sorted(touched.frontends | self._unfinished, key=FrontendKey.pack):
            planned = world.get(key("planner", "frontend", "", endpoint_name(where.vip, where.port, where.protocol)))
            if isinstance(planned, FrontendPlanned):
                self._put_frontend(world, where, planned)
            else:
                gone.append(where)
        announced = self._put_vips(world, touched.vips)
        self._withdraw_vips({vip for vip in touched.vips if not isinstance(world.get(key("planner", "planvip", "", vip)), VipPlanned)})
        for where in gone:
            self._withdraw_frontend(where)
        self._retire(world, sorted(touched.endpoints))
        return Outcome(self._writes, announced)

    def rejections(self) -> tuple[Rejection, ...]:
        """What the kernel refused and does not hold, by entity; and what it will not let go of, by map."""
        stuck = {_entity(name, where): reason for (name, where), reason in sorted(self._undeleted.items())}
        refused = self._refused | stuck
        return tuple(Rejection(entity=entity, reason=reason) for entity, reason in sorted(refused.items()))

    def used(self) -> dict[str, tuple[int, int]]:
        """Map -> entries in use, and how many it takes."""
        frontends, backends = self._maps["frontend_stats"].max_entries, self._maps["backends"].max_entries
        return {"frontends": (len(self._frontend_ids), frontends), "backends": (len(self._backend_ids), backends)}

    def release(self, alive: set[int]) -> int:
        """Forgets lingering backends of which no flow is left; `alive`: backend ids of live flows.  Returns how many."""
        done = [name for name in sorted(self.lingering) if self._backends[name] not in alive]
        for name in done:
            self._forget(name)
        return len(done)

    # ── frontends ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _put_frontend(self, world: World, where: FrontendKey, planned: FrontendPlanned) -> None:
        try:
            self._write_frontend(world, where, planned)
        except (MapError, PlanError) as error:
            self._refused[key_of(planned)] = str(error)
            self._unfinished.add(where)
        else:
            self._refused.pop(key_of(planned), None)
            self._unfinished.discard(where)

    def _write_frontend(self, world: World, where: FrontendKey, planned: FrontendPlanned) -> None:
        """The table first, beside the old one when its size changed; then the frontend turns to it in one write."""
        backends, newest = members(world, planned)
        table = self._table(planned, eligible(backends), len(backends))
        old = self._frontends.get(where)
        value = Frontend(
            set_id=set_number(planned.backends),
            size=len(table),
            id=old.id if old else self._frontend_ids.take(),
            idle_timeout_s=planned.idle_timeout_s,
            algorithm=ALGORITHMS.index(planned.algorithm),
            mode=MODES.index(planned.mode),
            plan_seq=newest,
        )
        self._tables[value.set_id, value.size] += 1
        try:
            if not old:
                self._zero("frontend_stats", value.id)
            self._write_table(value.set_id, table)
            self._write("frontends", where.pack(), value.pack())
        except (MapError, PlanError):
            if not old:
                self._frontend_ids.give(value.id)
            self._unuse_table(value)
            raise
        self._frontends[where] = value
        if old:
            self._unuse_table(old)

    def _write_table(self, set_id: int, table: "array[int]") -> None:
        """What differs, in one call: a table is up to 15,000 chunks."""
        held = self._maps["tables"]
        pairs = list(table_pairs(set_id, table))
        for slot, _ in pairs if self._undeleted else ():
            self._undeleted.pop(("tables", slot), None)
        changed = [(slot, chunk) for slot, chunk in pairs if held.get(slot) != chunk]
        held.put_many(changed)
        self._writes += len(changed)
        if any(held.get(slot) != chunk for slot, chunk in changed):
            raise PlanError("map tables holds another value than was written")

    def _table(self, planned: FrontendPlanned, backends: Sequence[Planned], members: int) -> "array[int]":
        """Sized by all members, so that one that goes down or drains changes slots, not the size."""
        if not backends:
            return array("I")
        names = [endpoint_name(backend.address, backend.port, planned.protocol) for backend in backends]
        missing = next((name for name in names if name not in self._backends), None)
        if missing:
            raise PlanError(f"backend {missing}: {self._unadmitted.get(missing, 'not planned')}")
        ids = [self._backends[name] for name in names]
        if planned.algorithm == "rr":
            return round_robin_table(names, ids)
        return maglev_table(names, ids, table_size(members))

    def _withdraw_frontend(self, where: FrontendKey) -> None:
        self._unfinished.discard(where)
        self._refused.pop(key("planner", "frontend", "", endpoint_name(where.vip, where.port, where.protocol)), None)
        old = self._frontends.pop(where, None)
        if old:
            self._delete("frontends", where.pack())
            self._frontend_ids.give(old.id)
            self._unuse_table(old)

    def _unuse_table(self, old: Frontend) -> None:
        """Removes a table when no frontend refers to it any more."""
        self._tables[old.set_id, old.size] -= 1
        if not self._tables[old.set_id, old.size]:
            for slot in table_keys(old.set_id, old.size):
                self._delete("tables", slot)

    # ── VIPs ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _put_vips(self, world: World, vips: Iterable[str]) -> tuple[str, ...]:
        """VIPs last: the node answers for one only when everything behind it is there.  Returns those that are new here."""
        new = []
        for vip in sorted({*vips, *self._unfinished_vips}):
            planned = world.get(key("planner", "planvip", "", vip))
            if not isinstance(planned, VipPlanned):
                continue
            self._undeleted.pop(("vips", address_bytes(vip)), None)
            held = self._maps["vips"].get(address_bytes(vip))
            try:
                if not held:
                    self._write("vips", address_bytes(vip), Vip().pack())
                    new.append(vip)
            except (MapError, PlanError) as error:
                self._refused[key_of(planned)] = str(error)
                self._unfinished_vips.add(vip)
            else:
                self._refused.pop(key_of(planned), None)
                self._unfinished_vips.discard(vip)
        return tuple(new)

    def _withdraw_vips(self, vips: Iterable[str]) -> None:
        for vip in sorted(vips):
            self._delete("vips", address_bytes(vip))
            self._unfinished_vips.discard(vip)
            self._refused.pop(key("planner", "planvip", "", vip), None)

    # ── backends ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _admit(self, name: str, frontends: Sequence[FrontendPlanned]) -> None:
        """Gives a backend its id, and tells where its replies belong."""
        try:
            self._write_backend(name, frontends)
        except (MapError, PlanError) as error:
            self._unadmitted[name] = str(error)
            self._unfinished |= {frontend_key(frontend) for frontend in frontends}
        else:
            self._unadmitted.pop(name, None)
            self.lingering.discard(name)

    def _write_backend(self, name: str, frontends: Sequence[FrontendPlanned]) -> None:
        address, port, protocol = _parts(name)
        backend = Backend(address, port, protocol, BACKEND_SHARED if len(frontends) > 1 else 0)
        known = self._backends.get(name)
        number = known or self._backend_ids.take()
        try:
            if not known:
                self._zero("backend_stats", number)
            self._write("backend_hosts", address_bytes(address), b"\1")
            self._write("origins", backend.key(), Origin(number, tuple(frontend_key(frontend) for frontend in frontends)).pack())
            self._write("backends", ID.pack(number), backend.pack())
        except (MapError, PlanError):
            if not known:
                self._backend_ids.give(number)
                self._delete("origins", backend.key())
                self._drop_host(address)
            raise
        if not known:
            self._backends[name] = number
            self._hosts[address] += 1

    def _retire(self, world: World, names: Iterable[str]) -> None:
        """Backends out of the plan: those of TCP keep the way back of their flows until none is left."""
        for name in names:
            if frontends_of(world, name):
                continue
            self._unadmitted.pop(name, None)
            if name in self._backends and name.endswith("/TCP"):
                self.lingering.add(name)
            elif name in self._backends:
                self._forget(name)

    def _forget(self, name: str) -> None:
        self.lingering.discard(name)
        address, port, protocol = _parts(name)
        number = self._backends.pop(name)
        self._delete("origins", Backend(address, port, protocol).key())
        self._empty(number)
        self._hosts[address] -= 1
        self._drop_host(address)

    def _empty(self, number: int) -> None:
        """Clears a place of the array `backends`, which knows no removal; a place that will not clear stays taken."""
        try:
            self._write("backends", ID.pack(number), NO_BACKEND)
        except (MapError, PlanError) as error:
            self._undeleted["backends", ID.pack(number)] = str(error)
        else:
            self._backend_ids.give(number)

    def _drop_host(self, address: str) -> None:
        if not self._hosts[address]:
            self._delete("backend_hosts", address_bytes(address))

    # ── the kernel ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _write(self, name: str, key: bytes, value: bytes) -> None:
        self._undeleted.pop((name, key), None)
        if self._maps[name].get(key) == value:
            return
        self._maps[name].put(key, value)
        self._writes += 1
        if self._maps[name].get(key) != value:
            raise PlanError(f"map {name} holds another value than was written")

    def _delete(self, name: str, key: bytes) -> None:
        """Removes an entry; one that will not go is tried again with every apply."""
        try:
            self._writes += self._maps[name].delete(key)
        except MapError as error:
            self._undeleted[name, key] = str(error)
        else:
            self._undeleted.pop((name, key), None)

    def _zero(self, name: str, number: int) -> None:
        """A new owner of an id starts its counters at nothing."""
        old = self._maps[name].get(ID.pack(number))
        if old and any(old):
            self._maps[name].put(ID.pack(number), bytes(len(old)))


def _entity(name: str, where: bytes) -> str:
    """What an entry that will not go belongs to: a VIP that a node still answers for must not be given on."""
    return key("planner", "planvip", "", address_text(where)) if name == "vips" else f"map {name}"


def _name(backend: Backend) -> str:
    return endpoint_name(backend.address, backend.port, backend.protocol)


def _parts(name: str) -> tuple[str, int, str]:
    """Address, port and protocol of an endpoint's name."""
    address, _, rest = name.rpartition(":")
    port, _, protocol = rest.partition("/")
    return address.strip("[]"), int(port), protocol
