"""Conditions in the words of the Gateway API."""

from collections.abc import Sequence

from services.planner.gateway.references import Fault
from services.planner.shared.programmed import bounded
from weir.decider import World
from weir.events import AppliedThrough
from weir.model import Condition


def yes(kind: str, reason: str) -> Condition:
    """One that holds."""
    return Condition(type=kind, status=True, reason=reason)


def no(kind: str, reason: str, message: str = "") -> Condition:
    """One that does not."""
    return Condition(type=kind, status=False, reason=reason, message=message)


def resolved(faults: Sequence[Fault]) -> Condition:
    """ResolvedRefs."""
    if not faults:
        return yes("ResolvedRefs", "ResolvedRefs")
    words = "; ".join(dict.fromkeys(fault.message for fault in faults[:5]))
    return no("ResolvedRefs", faults[0].reason, words)


def refused(world: World, owner: str) -> Fault | None:
    """What a node's proxy refused of a route or Ingress, in its words."""
    words = [f"{ack.node}: {each.reason}" for ack in world.of(AppliedThrough) for each in ack.rejected if each.owner == owner]
    return Fault("UnsupportedValue", bounded(words)) if words else None
