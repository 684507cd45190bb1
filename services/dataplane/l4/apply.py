"""Make the kernel match the plan: write only what differs from what the kernel holds, and read it back.

The kernel is the only memory of what was applied: a new process finds ids in the pinned maps and continues.  Order of writes: what is
referred to before what refers to it, and the reverse for removals, so that no packet finds an incomplete entry.
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from services.dataplane.core import (
    Share,
    Touched,
    eligible,
    frontend_key,
    frontends_of,
    serves,
    shares_on,
    table_name,
    unknown_words,
)
from services.dataplane.l4.backends import Backends, Resolved, unknown_protocol
from services.dataplane.l4.conntrack import Parted
from services.dataplane.l4.frontend_entries import Owned
from services.dataplane.l4.kernel import Ids, Kernel, KernelMap
from services.dataplane.l4.layout import (
    AFFINITY_OF,
    ALGORITHMS,
    FRONTEND_AFFINITY,
    FRONTEND_LOCAL,
    FRONTEND_REJECT,
    FRONTEND_SOURCES,
    ID,
    MODES,
    Frontend,
    FrontendKey,
)
from services.dataplane.l4.maglev import PlanError, Weighted, maglev_table, round_robin_table, shares, table_size
from services.dataplane.l4.source_ranges import ranges
from services.dataplane.l4.tables import Tables
from services.dataplane.l4.vips import Slots, Vips, vip_entity, vip_planned
from weir.decider import World
from weir.events import BackendsPlanned, FrontendPlanned, VipPlanned, key, key_of
from weir.model import PROXY, Rejection, endpoint_name
from weir.model import Backend as Planned
from weir.pins import PROTOCOLS, MapError, address_text
from weir.plan import members


class Outcome(NamedTuple):
    """The result of one `apply`.   writes: entries written or deleted.   announced: new VIPs, except nodes' own addresses."""

    writes: int
    announced: tuple[str, ...]


class Applier:
    """The part of the node's kernel that the plan describes."""

    def __init__(self, maps: Mapping[str, KernelMap], node: str = "", slots: Slots = lambda _: ()) -> None:
        self._kernel, self._node = Kernel(maps), node
        self._refused: dict[str, str] = {}  # entity key -> the kernel's reason
        self._unfinished: set[FrontendKey] = set()  # refused frontends, tried again with every apply
        self._vips = Vips(self._kernel, slots)
        self.backends = Backends(self._kernel)
        self._parted = Parted(set(), set(), set())  # since `parted` was called
        self._left: set[tuple[FrontendKey, str]] = set()  # backends that left a frontend with a drain timeout
        self._resolved: dict[str, Resolved] = {}  # backends that this application has looked up
        self._sources = Owned(self._kernel, "source_ranges", id_at=4)
        self._affinity = Owned(self._kernel, "affinity_s", id_at=0)
        self._frontends = {FrontendKey.unpack(key): Frontend.unpack(value) for key, value in maps["frontends"].items()}
        self.tables = Tables(self._kernel, self._frontends.values())
        self._frontend_ids = Ids("frontends", (f.id for f in self._frontends.values()), maps["frontend_stats"].max_entries)

    @property
    def newest(self) -> int:
        """Return the newest sequence that the kernel's content is based on; 0 on a machine that just started."""
        return max((frontend.plan_seq for frontend in self._frontends.values()), default=0)

    @property
    def unfinished(self) -> bool:
        """True where something was refused or could not be removed: the next `apply` tries again."""
        return bool(self._refused or self._vips.refused or self._kernel.stuck or self.backends.refused)

    def apply_all(self, world: World) -> Outcome:
        """Apply the whole plan, and remove what the kernel holds beyond it."""
        begun = self._kernel.writes
        announced = [vip for part in Touched.all(world) for vip in self.apply(world, part).announced]
        self._vips.withdraw(self._vips.held() - {event.vip for event in world.of(VipPlanned)})
        planned = {frontend_key(frontend) for frontend in world.of(FrontendPlanned)}
        for stray in sorted(set(self._frontends) - planned, key=FrontendKey.pack):
            self._withdraw_frontend(stray)
        for owned in (self._sources, self._affinity):
            owned.drop_strays({frontend.id for frontend in self._frontends.values()})
        self.tables.drop_strays()
        self.backends.retire([name for name in self.backends.names() if not frontends_of(world, name)])
        return Outcome(self._kernel.writes - begun, tuple(announced))

    def apply(self, world: World, touched: Touched) -> Outcome:
        """Apply the touched part of the plan, and again what was refused before."""
        begun = self._kernel.writes
        self._try_again()
        wanted = {name: found for name in sorted(touched.endpoints | set(self.backends.refused)) if (found := frontends_of(world, name))}
        self._resolved = self.backends.admit(wanted)
        self._unfinished |= {frontend_key(each) for name in wanted.keys() - self._resolved.keys() for each in wanted[name]}
        self._part(world, touched)
        gone = []
        for where in sorted(self._known(world, touched.frontends | self._unfinished), key=FrontendKey.pack):
            if planned := _planned(world, where):
                self._put_frontend(world, where, planned)
            else:
                gone.append(where)
        announced = self._vips.put(world, touched.vips)  # the node answers for one only when everything behind it is in place
        self._vips.withdraw({vip for vip in touched.vips if not vip_planned(world, vip)})
        for where in gone:
            self._withdraw_frontend(where)
        self.backends.retire(sorted(touched.endpoints - wanted.keys()))
        for name, endpoint in touched.left:
            self._left |= {(frontend_key(each), endpoint) for each in world.find("set", name, FrontendPlanned) if each.drain_timeout_s}
        self.tables.forget(name for name in touched.sets if not world.count("set", name))
        return Outcome(self._kernel.writes - begun, announced)

    def _known(self, world: World, frontends: set[FrontendKey]) -> set[FrontendKey]:
        """Refuse frontends of a protocol that the kernel does not know, and return the others."""
        known = {where for where in frontends if where.protocol in PROTOCOLS}
        self._unfinished &= known
        for where in frontends - known:
            self._refused.pop(_entity_of(where), None)
            if _planned(world, where):
                self._refused[_entity_of(where)] = unknown_protocol(where.protocol)
        return known

    def _try_again(self) -> None:
        for name, stuck in list(self._kernel.stuck):
            if name == "backends":
                self.backends.empty(ID.unpack(stuck)[0])
            else:
                self._kernel.delete(name, stuck)

    def parted(self) -> Parted:
        """Return what concerns existing flows, since the last call."""
        found, self._parted = self._parted, Parted(set(), set(), set())
        return found

    def _part(self, world: World, touched: Touched) -> None:
        """Note which pairs part, before backends are retired, while they have their ids."""
        for name, endpoint in touched.left:
            if (number := self._id_of(endpoint)) and not serves(world, endpoint, name):
                self._parted.left.update((frontend, number) for frontend in self._numbers_of(world, name))
        for name in touched.sets:
            for chunk in world.find("set", name, BackendsPlanned):
                for backend in chunk.backends:
                    if backend.state == "draining" and (number := self._id_of(_name(backend, chunk.protocol))):
                        self._parted.leaving.update((frontend, number) for frontend in self._numbers_of(world, name))

    def _numbers_of(self, world: World, name: str) -> list[int]:
        """Return the ids of the frontends of a backend set that the kernel holds."""
        wheres = (frontend_key(each) for each in world.find("set", name, FrontendPlanned))
        return [self._frontends[where].id for where in wheres if where in self._frontends]

    def rejections(self) -> tuple[Rejection, ...]:
        """Return what the kernel refused, by entity; and what could not be removed from it, by map."""
        stuck = {_entity(name, where): reason for (name, where), reason in sorted(self._kernel.stuck.items())}
        vips = {vip_entity(vip): reason for vip, reason in self._vips.refused.items()}
        refused = self._refused | vips | stuck
        return tuple(Rejection(entity=entity, reason=reason) for entity, reason in sorted(refused.items()))

    def used(self) -> dict[str, tuple[int, int]]:
        """Return map -> entries in use, and its limit."""
        frontends = len(self._frontend_ids), self._kernel.maps["frontend_stats"].max_entries
        return {"frontends": frontends, "backends": self.backends.used()}

    def leaving(self, world: World) -> dict[tuple[int, int], int]:
        """Return the backends that drain or left a set, by frontend and backend id, and the seconds their flows have left at most."""
        if not world.count("drain limit", ""):
            return {}
        self._left = {(where, name) for where, name in self._left if self._has_left(world, where, name)}
        found = set(self._left)
        limited = [frontend_key(planned) for planned in world.find("drain limit", "", FrontendPlanned)]
        found |= {(where, name) for name in self.backends.lingering for where in limited}  # after a restart: whom they served is unknown
        for planned in (planned for word in world.words("draining") for planned in world.find("set", word, FrontendPlanned)):
            seen = (backend for part in shares_on(self._node, world, planned) for backend in part.backends)
            names = (_name(backend, planned.protocol) for backend in seen if backend.state == "draining")
            found |= {(frontend_key(planned), name) for name in names}
        pairs = ((where, name, _planned(world, where)) for where, name in found if where in self._frontends)
        ids = ((self._frontends[where].id, self.backends.id_of(name), planned) for where, name, planned in pairs)
        return {(number, each): limited.drain_timeout_s for number, each, limited in ids if each and limited and limited.drain_timeout_s}

    def _has_left(self, world: World, where: FrontendKey, name: str) -> bool:
        planned = _planned(world, where)
        return bool(planned and self.backends.id_of(name) and not any(serves(world, name, part.name) for part in planned.sets))

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
        """Write the table first, beside the old one when its size changed; then the frontend switches to it in one write."""
        backends, newest = members(world, planned)
        if unknown := unknown_words(planned, backends):
            raise PlanError(unknown)
        table = self._table(planned, shares_on(self._node, world, planned))
        set_number = self.tables.number(table_name(planned))
        old = self._frontends.get(where)
        number = old.id if old else self._frontend_ids.take()
        sources = ranges(number, planned.vip, planned.sources)
        owned = {self._sources: sources or {}, self._affinity: _keepers(number, planned.affinity_s, table)}
        value = Frontend(
            set_id=set_number,
            size=len(table),
            id=number,
            idle_timeout_s=planned.idle_timeout_s,
            algorithm=ALGORITHMS.index(planned.algorithm),
            mode=0 if planned.mode == PROXY else MODES.index(planned.mode),
            flags=_flags(planned, limited=sources is not None),
            plan_seq=newest,
        )
        try:
            self.tables.use(value.set_id, table)
            if not old:
                self._kernel.zero("frontend_stats", value.id)
            for entries, wanted in owned.items():
                entries.put(number, wanted)
            self._kernel.write("frontends", where.pack(), value.pack())
        except (MapError, PlanError):
            if not old:
                self._disown(number)
                self._frontend_ids.release(number)
            self.tables.leave(value.set_id, value.size)
            raise
        for entries, wanted in owned.items():
            entries.keep(number, wanted)
        self._frontends[where] = value
        if old:
            self.tables.leave(old.set_id, old.size)

    def _table(self, planned: FrontendPlanned, parts: Sequence[Share]) -> "array[int]":
        """Sized by all backends, so that one that goes down or drains changes slots, not the size."""
        every, taking = ([_weighted(part, planned.protocol) for part in found] for found in (parts, eligible(parts, planned.algorithm)))
        ids = {name: self._id_of(name) for part in taking for name in part.names if part.weight}
        if not ids:
            return array("I")
        if missing := next((name for name, number in ids.items() if not number), ""):
            raise PlanError(f"backend {missing}: {self.backends.refused.get(missing, 'not planned')}")
        if planned.algorithm == "rr":
            return round_robin_table(taking, ids)
        return maglev_table(shares(taking, table_size(every)), ids)

    def _id_of(self, name: str) -> int:
        """Return a backend's id, 0 where it has none; looked up once in an application."""
        if name not in self._resolved:
            self._resolved[name] = self.backends.resolve(name)
        return self._resolved[name].id

    def _withdraw_frontend(self, where: FrontendKey) -> None:
        self._unfinished.discard(where)
        self._refused.pop(_entity_of(where), None)
        old = self._frontends.pop(where, None)
        if old:
            self._parted.frontends.add(old.id)
            self._kernel.delete("frontends", where.pack())
            self._disown(old.id)
            self._frontend_ids.release(old.id)
            self.tables.leave(old.set_id, old.size)

    def _disown(self, frontend_id: int) -> None:
        self._sources.keep(frontend_id, {})
        self._affinity.keep(frontend_id, {})


def _planned(world: World, where: FrontendKey) -> FrontendPlanned | None:
    found = world.get(_entity_of(where))
    return found if isinstance(found, FrontendPlanned) else None


def _entity_of(where: FrontendKey) -> str:
    return key("planner", "frontend", "", endpoint_name(where.vip, where.port, where.protocol))


def _name(backend: Planned, protocol: str) -> str:
    return endpoint_name(backend.address, backend.port, protocol)


def _weighted(part: Share, protocol: str) -> Weighted:
    return Weighted(part.weight, [_name(backend, protocol) for backend in part.backends])


def _flags(planned: FrontendPlanned, *, limited: bool) -> int:
    wanted = {
        FRONTEND_LOCAL: planned.mode == PROXY,
        FRONTEND_SOURCES: limited,
        FRONTEND_REJECT: planned.no_backend == "reject",
        FRONTEND_AFFINITY: planned.affinity_s,
    }
    return sum(flag for flag, is_wanted in wanted.items() if is_wanted)


def _keepers(frontend_id: int, affinity_s: int, table: Iterable[int]) -> dict[bytes, bytes]:
    """Return the entries of `affinity_s` for the backends in a table."""
    return {AFFINITY_OF.pack(frontend_id, number): ID.pack(affinity_s) for number in set(table)} if affinity_s else {}


def _entity(name: str, where: bytes) -> str:
    """Return the entity of an entry that could not be removed: a VIP that a node still answers or forwards for must not be reassigned."""
    if name == "vips":
        return vip_entity(address_text(where))
    if name == "frontends":
        return _entity_of(FrontendKey.unpack(where))
    return f"map {name}"
