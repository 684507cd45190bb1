"""The condition `Programmed`: true only from what nodes report to hold, never from what is planned."""

from collections.abc import Container, Iterable, Mapping, Sequence

from services.planner.shared.difference import leaves, same
from weir.decider import PENDING, World
from weir.events import AnyEvent, AppliedThrough, BackendsPlanned, VipAllocated, VipPlanned, key_of
from weir.lbnodes import counted, heard, how_to_end, is_silent
from weir.model import MORE_REJECTED, Condition, Rejection
from weir.words import few


def programmed(world: World, owner: str, planned: Iterable[AnyEvent], obstacle: Condition | None = None) -> Condition:
    """True once every node that is heard has confirmed what is planned for `owner`.  Where none is heard, nobody knows.

    planned: its entries, the chunks that they refer to, and its VIPs.   obstacle: why it cannot be programmed whatever nodes hold.
    It does not name the nodes: each that joins or leaves would rewrite the status of every owner.
    """
    nodes, listening = [seen.node for seen in counted(world)], heard(world)
    if not nodes:
        return Condition(type="Programmed", status=False, reason="NoNode", message="no node forwards yet")
    entries = {key_of(event): event for event in planned}
    through = {event.node: event for event in world.of(AppliedThrough)}
    ours = {MORE_REJECTED, *entries}  # it may be among those
    refused = {node: found for node in nodes if node in through and (found := _refused(through[node], ours, owner))}
    if refusals := [f"{node}: {r.reason}" for node in listening for r in refused.get(node, ())]:
        return Condition(type="Programmed", status=False, reason="Rejected", message=bounded(refusals))
    if obstacle:
        return obstacle
    if not entries:
        return Condition(type="Programmed", status=False, reason="NotAllocated")
    head, newest = _heads(world, owner, entries)
    holding = [node for node in nodes if node not in refused and node in through and through[node].seq >= head]
    if behind := [node for node in listening or nodes if node not in holding]:
        return Condition(type="Programmed", status=False, reason="Pending", message=_waiting_for(world, behind))
    if any(through[node].seq < newest for node in listening):  # unnamed: a message that each node shortens is an event for each
        return Condition(type="Programmed", status=False, reason="Pending", message="waiting for nodes to confirm its newest backends")
    if not listening:
        words = f"nothing is heard of {few(nodes)}, whose kernel may still forward; {how_to_end(nodes[0])}"
        return Condition(type="Programmed", status=False, reason="NodeSilent", message=words, unknown=True)
    return Condition(type="Programmed", status=True, reason="Programmed")


def _refused(ack: AppliedThrough, ours: Container[str], owner: str) -> list[Rejection]:
    """What a node refuses of `ours`.  Of an entity that holds parts of several objects, only what is this owner's fault."""
    return [each for each in ack.rejected if each.entity in ours and each.owner in ("", owner)]


def refusals_of(world: World, entity: str) -> list[str]:
    """What nodes that are heard refuse of one entity, in their words."""
    through = {event.node: event for event in world.of(AppliedThrough)}
    return [f"{node}: {r.reason}" for node in heard(world) if node in through for r in through[node].rejected if r.entity == entity]


def vip_planned(vip: VipAllocated) -> VipPlanned:
    """What nodes are to do for the VIP."""
    return VipPlanned(vip=vip.vip, shared_with_node=vip.shared_with_node, root=vip.root)


def bounded(words: Iterable[str]) -> str:
    """A condition is read by people, and bounded."""
    return few((word if len(word) <= 300 else f"{word[:299]}…" for word in words), apart="; ")


def _waiting_for(world: World, nodes: Sequence[str]) -> str:
    silent = [node for node in nodes if is_silent(world, node)]
    words = f"waiting for {few(nodes)} to confirm"
    return f"{words}; nothing is heard of {few(silent)}, {how_to_end(silent[0])}" if silent else words


def _heads(world: World, owner: str, entries: Mapping[str, AnyEvent]) -> tuple[int, int]:
    """The sequences at which the log holds the newest VIP or frontend, and the newest of all `entries`.

    What differs is still to be planned, and has none yet.  Nor has what stays beside something that is to be withdrawn: the planner
    plans it once more behind that (`services.planner.shared.difference`), since a withdrawal leaves nothing to wait for.
    """
    if leaves(world, owner, entries):
        return PENDING, PENDING
    held = {where: world.facts.get(where) for where in entries}
    seqs = {where: fact.seq if fact and same(entries[where], fact.event) else PENDING for where, fact in held.items()}
    return max(seq for where, seq in seqs.items() if not isinstance(entries[where], BackendsPlanned)), max(seqs.values())
