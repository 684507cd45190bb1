"""LB nodes: what each has applied, what it refused, and whether it responds."""

from collections import Counter

from weir.decider import World
from weir.events import AppliedThrough, EndpointDown
from weir.lbnodes import counted, is_silent
from weir.view.value import View


class NodeView(View, frozen=True):
    """One LB node.  applied: sequence up to which the plan is in its kernel.   problems: what of the plan it refused, and why."""

    name: str
    hook: str
    interfaces: tuple[str, ...]
    applied: int
    rejected: int
    backends_down: int
    heard: bool
    problems: tuple[str, ...]


def nodes(world: World) -> list[NodeView]:
    """Return every LB node, by name."""
    applied = {event.node: event for event in world.of(AppliedThrough)}
    down = Counter(event.node for event in world.of(EndpointDown))
    found = []
    for seen in counted(world):
        state = applied.get(seen.node) or AppliedThrough(node=seen.node, seq=0)
        found.append(
            NodeView(
                name=seen.node,
                hook=seen.attached,
                interfaces=seen.interfaces,
                applied=state.seq,
                rejected=len(state.rejected),
                backends_down=down[seen.node],
                heard=not is_silent(world, seen.node),
                problems=tuple(f"{refused.entity}: {refused.reason}" for refused in state.rejected),
            )
        )
    return found
