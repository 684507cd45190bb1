"""What must always hold (docs/design.md), checked with each event that is stored, from the log and the kernels alone."""

from bisect import bisect_right
from collections import defaultdict

from services.dataplane.l4.layout import FrontendKey
from tests.sim.faulty_log import Append
from tests.sim.installation import Installation
from weir.bus.reader import Entry
from weir.events import (
    AnyEvent,
    AppliedThrough,
    BackendsPlanned,
    FrontendPlanned,
    FrontendWithdrawn,
    NodeLeft,
    NodeRetired,
    NodeSeen,
    NodeSilent,
    ServiceObserved,
    StatusPlanned,
    VipAllocated,
    VipFreed,
    VipPlanned,
    VipWithdrawn,
    author_of,
    key,
    key_of,
    object_key,
)
from weir.model import endpoint_name

Port = tuple[int, str]


class Promises:
    """kernels: whether what nodes hold is checked, too; not behind a log that was restored, which does not know all they were told."""

    def __init__(self, here: Installation) -> None:
        self._here, self.kernels = here, True
        self._past: defaultdict[str, list[tuple[int, AnyEvent]]] = defaultdict(list)  # by entity
        self._of_service: defaultdict[str, dict[str, int]] = defaultdict(dict)  # Service -> what is planned for it, and since when
        here.log.observers.append(self._stored)

    def cut(self, length: int) -> None:
        """The log is an older copy of itself."""
        self.kernels = False
        self._past.clear()
        self._of_service.clear()
        for entry in self._here.log.entries[:length]:
            self._record(entry)

    def _stored(self, entries: list[Entry], append: Append) -> None:
        before = {entry.key: self._at(entry.key) for entry in entries}
        for entry in entries:
            self._on(entry.fact.event, before[entry.key][1], append)
            self._record(entry)
        for entry in entries:
            if isinstance(event := self._at(entry.key)[1], VipAllocated):
                self._one_holder_for_each_port(event, append.known)

    def _record(self, entry: Entry) -> None:
        seq, event = entry.fact[:2]
        self._past[entry.key].append((seq, event))
        match event:
            case FrontendPlanned(root=root) | BackendsPlanned(root=root):
                for planned in self._of_service.values():
                    planned.pop(entry.key, None)
                self._of_service[root.owner][entry.key] = seq
            case _ if event.kind in (FrontendPlanned.kind, BackendsPlanned.kind):
                for planned in self._of_service.values():
                    planned.pop(entry.key, None)

    def _on(self, event: AnyEvent, before: AnyEvent | None, append: Append) -> None:
        known = append.known
        match event:
            case VipFreed(vip=vip):
                self._freed(vip, known)
            case VipAllocated(vip=vip) if before is None or before.gone:
                self._nobody_serves(vip, known, f"given to {event.holders}")
            case VipPlanned(vip=vip):
                assert isinstance(self._vip(vip, known), VipAllocated), self._words(f"{vip} is planned and allocated to nobody")
            case FrontendPlanned():
                self._frontend(event, before, known)
            case StatusPlanned() if any(each.type == "Programmed" and each.status for each in event.conditions):
                self._acknowledged(event, known)
            case AppliedThrough() if self._here.agents.get(event.node) and self._here.agents[event.node].life is append.life:
                self._held(event)

    # ── addresses ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _one_holder_for_each_port(self, vip: VipAllocated, known: int) -> None:
        """Promise 4, nothing is decided twice: of the Services that hold one address no two have one port."""
        holders: dict[Port, str] = {}
        for service in vip.holders:
            for port in self.ports(service, known):
                assert port not in holders, self._words(f"{vip.vip}:{port} belongs to {holders[port]} and {service}")
                holders[port] = service

    def _freed(self, vip: str, known: int) -> None:
        """Promise 4: an address is free only when no node that counts forwards for it, and nobody plans to."""
        planned = self._at(key("planner", "planvip", "", vip))[1]
        assert isinstance(planned, VipWithdrawn), self._words(f"{vip} is freed and still planned")
        assert not self._frontends_of(vip), self._words(f"{vip} is freed, and {self._frontends_of(vip)} are planned")
        self._nobody_serves(vip, known, "freed")

    def _nobody_serves(self, vip: str, known: int, what: str) -> None:
        """Promise 4: no address has a holder while some node that counts still forwards it for another."""
        serving = [node for node in self._counted(known) if node in self._here.machines and self._here.machines[node].serves(vip)]
        assert not (serving and self.kernels), self._words(f"{vip} is {what} while {serving} forward for it")

    # ── the plan ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _frontend(self, event: FrontendPlanned, before: AnyEvent | None, known: int) -> None:
        """Promise 4: what is planned at an address is its holder's, and takes no port from another holder."""
        where = f"{event.vip}:{event.port}/{event.protocol}"
        vip = self._vip(event.vip, known)
        assert isinstance(vip, VipAllocated), self._words(f"{where} is planned at an address that nobody holds")
        assert event.owner in vip.holders, self._words(f"{where} is planned for {event.owner} at an address of {vip.holders}")
        if isinstance(before, FrontendPlanned) and before.owner != event.owner and before.owner in vip.holders:
            mine = (event.port, event.protocol) in self.ports(before.owner, known)
            assert not mine, self._words(f"{where} goes from {before.owner}, which still holds it, to {event.owner}")

    def _acknowledged(self, status: StatusPlanned, known: int) -> None:
        """Promise 3, status is true: Programmed only when each node that counts and is heard holds the plan of the Service."""
        vips = {key("planner", "planvip", "", vip) for vip in status.vips}
        planned = self._of_service[status.root.owner] | {vip: self._at(vip)[0] for vip in vips}
        wanted = {endpoint_name(vip, *port) for vip in status.vips for port in self.ports(status.owner, known)}
        lacking = sorted(where for where in wanted if key("planner", "frontend", "", where) not in planned)
        assert not lacking, self._words(f"{status.owner} is programmed without {lacking}")
        newest = max(planned.values(), default=0)
        heard = [node for node in self._counted(known) if not self._is(NodeSilent(lbnode=node), known)]
        assert heard, self._words(f"{status.owner} is programmed and no node is heard")
        for node in heard:
            applied = self._at(key_of(AppliedThrough(node=node, seq=0)), known)[1]
            assert isinstance(applied, AppliedThrough), self._words(f"{status.owner} is programmed, {node} acknowledged nothing")
            assert applied.seq >= newest, self._words(f"{status.owner} is programmed; {node} holds {applied.seq} of {newest}")
            refused = planned.keys() & {rejection.entity for rejection in applied.rejected}
            assert not refused, self._words(f"{status.owner} is programmed; {node} refuses {refused}")

    def _held(self, applied: AppliedThrough) -> None:
        """Promise 3: what a node acknowledges is in its kernel, and what it acknowledges as withdrawn is not."""
        here, refused = self._here.machines[applied.node], {rejection.entity for rejection in applied.rejected}
        vips, frontends = here.vips(), {_entity_of(where) for where in here.frontends()}
        for where, past in self._past.items() if self.kernels else ():
            seq, event = past[-1]
            if seq > applied.seq or where in refused:
                continue
            match event:
                case VipPlanned(vip=vip) | VipWithdrawn(vip=vip):
                    assert (vip in vips) == isinstance(event, VipPlanned), self._words(f"{applied} and {vip}: {sorted(vips)}")
                case FrontendPlanned() | FrontendWithdrawn():
                    holds = where in frontends
                    assert holds == isinstance(event, FrontendPlanned), self._words(f"{applied} and {where}: {sorted(frontends)}")

    # ── the log, as it was ─────────────────────────────────────────────────────────────────────────────────────────

    def ports(self, service: str, known: int) -> set[Port]:
        """What an exposed Service serves."""
        observed = self._at(object_key(service), known)[1]
        exposed = isinstance(observed, ServiceObserved) and observed.exposed
        return {(port.port, port.protocol) for port in observed.ports} if exposed else set()  # type: ignore[union-attr]

    def _vip(self, vip: str, known: int) -> AnyEvent | None:
        return self._at(key("ipam", "vip", "", vip), known)[1]

    def _frontends_of(self, vip: str) -> list[str]:
        last = ((where, past[-1][1]) for where, past in self._past.items())
        return [where for where, event in last if isinstance(event, FrontendPlanned) and event.vip == vip]

    def _counted(self, known: int) -> list[str]:
        """LB nodes, as who had read up to `known` had to count them (weir/lbnodes.py)."""
        seen = {author_of(event): event for past in self._past.values() if isinstance(event := past[-1][1], NodeSeen)}
        return sorted(event.node for event in seen.values() if self._counts(event, known))

    def _counts(self, seen: NodeSeen, known: int) -> bool:
        retired = (self._at(key_of(event(lbnode=seen.node)), known)[0] for event in (NodeRetired, NodeLeft))
        return self._at(key_of(seen), known)[0] > max(retired)

    def _is(self, event: AnyEvent, known: int) -> bool:
        last = self._at(key_of(event), known)[1]
        return last is not None and not last.gone

    def _at(self, where: str, known: int = 2**62) -> tuple[int, AnyEvent | None]:
        """An entity's last event up to `known`, and its sequence."""
        past = self._past.get(where, [])
        index = bisect_right(past, known, key=lambda each: each[0])
        return past[index - 1] if index else (0, None)

    def _words(self, text: str) -> str:
        return f"{text} (at {len(self._here.log.entries)})"


def _entity_of(where: FrontendKey) -> str:
    """The planned entity of a frontend in the kernel."""
    return key("planner", "frontend", "", endpoint_name(where.vip, where.port, where.protocol))
