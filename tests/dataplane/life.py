"""The life of a flow, written from docs/design.md, not from the C: what becomes of a packet, and of the flow it belongs to.

It does not know which of several backends is chosen, nor which NAT port: it says which are right, and takes the one it is given.
"""

from collections import Counter
from collections.abc import Container
from dataclasses import dataclass, field

from tests.dataplane.frames import ACK, FIN, RST, SYN

Ends = tuple[str, int]  # address and port
BackKey = tuple[Ends, Ends]  # the backend's packet: from, to
OPENING_S, CLOSED_S = 30, 120


class Difference(AssertionError):
    """Program and model disagree."""


@dataclass
class Flow:
    vip: str
    backend: str
    back: BackKey
    idle_s: int
    state: str = "opening"
    fins: set[str] = field(default_factory=set)
    replied: bool = False
    unseen_s: int = 0
    left: bool = False
    cut: bool = False
    over: bool = False


@dataclass(kw_only=True)
class World:
    """members: of each VIP's frontend.   sources: with which address packets leave to a backend; None = the client's.

    turns: of a frontend that goes round robin, how many flows it had.   keeps_s: how long a client keeps its backend; 0 = not at all.
    """

    proto: str
    client: Ends
    members: dict[str, list[str]]
    idle_s: int
    sources: dict[str, str | None]
    ports: Container[int]
    exist: set[str]
    port: int = 8080
    turns: dict[str, int] = field(default_factory=dict)
    keeps_s: int = 0


class Model:
    def __init__(self, world: World) -> None:
        self.world = world
        self.flows: dict[str, Flow] = {}
        self.up = set(world.exist)
        self.exist = set(world.exist)
        self.members = {vip: list(members) for vip, members in world.members.items()}
        self.cells: Counter[tuple[str, str]] = Counter()
        self.turns = dict(world.turns)
        self.kept: dict[str, tuple[str, int]] = {}  # by VIP: the client's backend, and for how long it began no flow

    # ── what is not a packet ──

    def wait(self, seconds: int) -> int:
        """How long it takes: no flow stands on the edge of its time, where a slow machine would decide."""
        left = [self.timeout_s(flow) - flow.unseen_s for flow in self.flows.values()]
        left += [self.world.keeps_s - began_s for _, began_s in self.kept.values()]
        if any(0 <= each - seconds <= 5 for each in left):
            return self.wait(seconds + 6)
        for flow in self.flows.values():
            flow.unseen_s += seconds
        self.kept = {vip: (backend, began_s + seconds) for vip, (backend, began_s) in self.kept.items()}
        return seconds

    def part(self, vip: str, backend: str, *, leaving: bool) -> None:
        """The backend is out, or begins to leave."""
        if backend in self.members[vip]:
            self.members[vip].remove(backend)
        flow = self.flows.get(vip)
        if not flow or flow.over or flow.cut or flow.backend != backend:
            return
        flow.left |= self.world.proto == "TCP"
        flow.cut |= self.world.proto != "TCP" and not leaving

    def cut(self, vip: str, backend: str) -> None:
        flow = self.flows.get(vip)
        if flow and flow.backend == backend:
            flow.cut = True

    # ── packets ──

    def timeout_s(self, flow: Flow) -> int:
        tcp = self.world.proto == "TCP"
        most = {"opening": OPENING_S, "closed": CLOSED_S}.get(flow.state, flow.idle_s) if tcp else flow.idle_s
        return min(most, flow.idle_s)

    def alive(self, flow: Flow) -> bool:
        return not flow.over and not flow.cut and flow.unseen_s <= self.timeout_s(flow)

    def sent(self, vip: str, flags: int) -> str | None:
        """Why the packet of the client begins a flow; None if it belongs to one.  Counts its cell."""
        flow, event, tcp = self.flows.get(vip), _event(flags, "in"), self.world.proto == "TCP"
        if not flow or not self.alive(flow):
            if flow and not flow.over:
                self.cells[flow.state, "cut" if flow.cut else "expired"] += 1
            self.cells["none", event] += 1
            return "none"
        syn, lost = tcp and event == "SYN", flow.backend not in self.exist & self.up
        self.cells[flow.state, event + (", left" if syn and flow.left else ", lost" if lost else "")] += 1
        if syn and (flow.state in ("closed", "reset") or flow.left):
            return "begins again"
        return "moves" if (syn or not tcp) and lost else None

    def choices(self, vip: str) -> set[str]:
        members = self.exist & set(self.members[vip])
        kept, began_s = self.kept.get(vip, ("", 0))
        if kept in members & self.up and began_s <= self.world.keeps_s:
            return {kept}
        if self.turns and members:
            return {self._next(self.members[vip], self.turns[vip])}
        return members & self.up or members

    def _next(self, members: list[str], turn: int) -> str:
        """Past those that are down; all down: as if all were up."""
        order = [members[(turn + step) % len(members)] for step in range(len(members))]
        return next((backend for backend in order if backend in self.up), order[0])

    def begin(self, vip: str, back: BackKey, flags: int, why: str) -> None:
        """The packet left so that the backend would answer with `back`.  Raises Difference."""
        backend, flow, choices = back[0][0], self.flows.get(vip), self.choices(vip)
        if self.world.keeps_s:
            self.kept[vip] = (backend, 0)
        if why == "moves" and flow and flow.backend == backend and backend in choices:
            self.goes_on(vip, back, flags)
            return
        if backend not in choices:
            raise Difference(f"{backend} chosen of {choices}")
        if self.turns:
            self.turns[vip] += 1
        self._check_source(vip, back)
        for other in self.flows.values():
            if other.back == back:
                other.over = True
        self.flows[vip] = Flow(vip, backend, back, self.world.idle_s)
        self._track(self.flows[vip], "in", flags)

    def _check_source(self, vip: str, back: BackKey) -> None:
        world, (address, port) = self.world, back[1]
        taken = {flow.back for name, flow in self.flows.items() if name != vip and self.alive(flow)}
        source = world.sources[vip]
        if address != (source or world.client[0]) or back[0][1] != world.port or back in taken:
            raise Difference(f"leaves with {back}, taken: {taken}")
        own = (back[0], world.client)
        if source is None and own not in taken and port != world.client[1]:
            raise Difference(f"port {port} though its own is free")
        if (source or own in taken) and port not in world.ports:
            raise Difference(f"port {port} is none of the mode")

    def goes_on(self, vip: str, back: BackKey, flags: int) -> None:
        flow = self.flows[vip]
        if flow.back != back:
            raise Difference(f"leaves by {back}, expected {flow.back}")
        self._track(flow, "in", flags)

    def answered(self, back: BackKey, flags: int) -> str | None:
        """The VIP whose flow a packet of a backend belongs to; None: it is not ours."""
        event = _event(flags, "out")
        for flow in self.flows.values():
            if flow.back != back or flow.over:
                continue
            if event == "SYN+ACK out" and flow.state in ("closed", "reset"):
                self.cells[flow.state, event] += 1
                flow.over = True
                return None
            if not self.alive(flow):
                self.cells[flow.state, "cut, out" if flow.cut else "expired, out"] += 1
                return None
            self.cells[flow.state, event] += 1
            self._track(flow, "out", flags)
            return flow.vip
        self.cells["none", event] += 1
        return None

    def _track(self, flow: Flow, side: str, flags: int) -> None:
        flow.unseen_s = 0
        if self.world.proto != "TCP":
            flags = ACK
        if flags & RST:
            if flow.state != "closed":
                flow.state, flow.replied = "reset", False
        elif flags & FIN:
            self._fin(flow, side)
        elif flow.state in ("opening", "reset"):
            if side == "in" and flow.replied and not flags & SYN:
                flow.state = "established"
            flow.replied |= side == "out"

    def _fin(self, flow: Flow, side: str) -> None:
        if side in flow.fins:
            return
        flow.fins.add(side)
        if len(flow.fins) == 2:
            flow.state = "closed"
        elif flow.state == "established":
            flow.state = "half_closed"


def _event(flags: int, side: str) -> str:
    """The column of the table."""
    if flags & RST:
        return f"RST {side}"
    if flags & FIN:
        return f"FIN {side}"
    if side == "in":
        return "SYN" if flags & SYN else "in"
    return "SYN+ACK out" if flags & SYN and flags & ACK else "out"
