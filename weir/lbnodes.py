"""Which LB nodes count.

An LB node counts from the moment it reports itself until it is retired: its Node or LBNode was deleted, or an operator removed it.
One that is alive all the same reports itself again, and counts again.  A silent node still counts where an address that it may
forward for would be reassigned; nothing else waits for it.
"""

from collections.abc import Iterable

from weir.decider import World
from weir.events import EndpointDown, NodeAddressesObserved, NodeLeft, NodeRetired, NodeSeen, NodeSilent, VipAllocated, key, key_of
from weir.model import (
    shown,
)
from weir.words import few

RETIRED = (NodeRetired, NodeLeft)
ABOUT_NODES = (NodeSeen, NodeAddressesObserved, NodeSilent, *RETIRED)  # what a world must hold for the functions below


def counted(world: World) -> list[NodeSeen]:
    """Return the LB nodes that count, by name."""
    nodes = world.of(NodeSeen)
    if not any(world.of(kind) for kind in RETIRED):  # asked for each Service that is planned
        return nodes
    return [seen for seen in nodes if counts(world, seen)]


def counts(world: World, seen: NodeSeen) -> bool:
    """Whether the node reported itself, and that after it was last retired."""
    return world.seq(seen) > retired_at(world, seen.node)


def retired_at(world: World, node: str) -> int:
    """Return the sequence at which the node was last retired; 0 for never."""
    return max(world.seq(NodeRetired(lbnode=node)), world.seq(NodeLeft(lbnode=node)))


def addresses_of(world: World, node: str) -> NodeAddressesObserved:
    """Return the addresses that the node reported; none before its first report."""
    none = NodeAddressesObserved(node=node)
    reported = world.get(key_of(none))
    return reported if isinstance(reported, NodeAddressesObserved) else none


def conflicts(world: World, node: str) -> list[str]:
    """Describe VIPs that are addresses of the node or of its gateways, and not shared with it."""
    found = addresses_of(world, node)
    held = {address: world.get(key("ipam", "vip", "", address)) for address in dict.fromkeys((*found.addresses, *found.gateways))}
    return [
        f"{address}, {'its own address' if address in found.addresses else 'its default gateway'}, is also the VIP of {_holders(vip)}"
        for address, vip in held.items()
        if isinstance(vip, VipAllocated) and not vip.shared_with_node
    ]


def _holders(vip: VipAllocated) -> str:
    return few(map(shown, vip.holders))


def is_silent(world: World, node: str) -> bool:
    """Whether the node is not responding."""
    return world.get(key(NodeSilent.author, NodeSilent.kind, "", node)) is not None


def heard(world: World) -> list[str]:
    """Return the names of the nodes that count and are not silent."""
    silent = {event.lbnode for event in world.of(NodeSilent)}
    return [seen.node for seen in counted(world) if seen.node not in silent]


def is_down(world: World, verdicts: Iterable[EndpointDown]) -> bool:
    """Whether every node that responds finds a backend dead, by the `verdicts` about it."""
    down_on = {event.node for event in verdicts}
    return bool(down_on) and {*heard(world)} <= down_on


def how_to_end(node: str) -> str:
    """Tell an operator what to do where a node that is waited for does not come back."""
    return f"if it is gone: kubectl delete lbnode {node}, or weir leave --node {node}"
