"""The plan at a moment: every planned entity, and the frontends with their backends."""

import hashlib
from collections.abc import Mapping

from weir.decider import World
from weir.events import ENCODE, AnyEvent, BackendsPlanned, FrontendPlanned, StatusPlanned, VipAllocated, VipDenied, VipPlanned
from weir.model import Backend, endpoint_name, shown
from weir.plan import members
from weir.view.value import View

PLANNED = (VipPlanned, FrontendPlanned, BackendsPlanned, StatusPlanned)


class FrontendView(View, frozen=True):
    """One frontend.  backends: addresses with ports, and the state of those that are not active: "10.0.0.1:8080(down)"."""

    frontend: str
    service: str
    sel: str
    mode: str
    backends: tuple[str, ...]


class PlanView(View, frozen=True):
    """The whole plan.  digest: equal for equal plans.   entities: planned events by key.   denied: why Services have no address."""

    sequence: int
    digest: str
    entities: Mapping[str, AnyEvent]
    frontends: tuple[FrontendView, ...]
    denied: tuple[str, ...]
    vips: int


def plan(world: World, sequence: int) -> PlanView:
    """Return the plan that `world` holds at `sequence`.  The world needs the indexes of weir.plan."""
    entities = {key: fact.event for key, fact in sorted(world.facts.items()) if isinstance(fact.event, PLANNED)}
    return PlanView(
        sequence=sequence,
        digest=hashlib.sha256(b"\n".join(ENCODE(event) for event in entities.values())).hexdigest()[:16],
        entities=entities,
        frontends=tuple(_frontend(world, event) for event in entities.values() if isinstance(event, FrontendPlanned)),
        denied=tuple(f"{shown(event.owner)} has no {event.family} address: {event.message}" for event in world.of(VipDenied)),
        vips=len(world.of(VipAllocated)),
    )


def _frontend(world: World, frontend: FrontendPlanned) -> FrontendView:
    backends, _ = members(world, frontend)
    return FrontendView(
        frontend=endpoint_name(frontend.vip, frontend.port, frontend.protocol),
        service=shown(frontend.owner),
        sel=frontend.algorithm,
        mode=frontend.mode,
        backends=tuple(sorted(_backend(backend, frontend.protocol) for backend in backends)),
    )


def _backend(backend: Backend, protocol: str) -> str:
    name = endpoint_name(backend.address, backend.port, protocol).partition("/")[0]
    return name if backend.state == "active" else f"{name}({backend.state})"
