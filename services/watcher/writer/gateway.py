"""Status of the Gateway API's objects, as the planner planned it.

Entries that other controllers wrote into the same lists stay.  Every condition names the generation that it is about.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from services.watcher.settings import CLASSES
from services.watcher.writer.conditions import condition_of, planned_status
from services.watcher.writer.status import Json, Mark, Marking, Status, View, Wanted, of_owner
from weir.decider import World
from weir.events import (
    AnyEvent,
    ClassStatusPlanned,
    Event,
    GatewayClassObserved,
    GatewayStatusPlanned,
    PlannedStatus,
    RouteStatusPlanned,
    StatusWithdrawn,
)
from weir.model import Condition, ParentRef


def status_of(kind: str) -> Status:
    """The status hook of one kind of the Gateway API."""
    hooks = {"GatewayClass": _class, "Gateway": _gateway, "ListenerSet": _gateway, "BackendTLSPolicy": _policy}
    marks: dict[type[Event], Marking] = {
        each: _marked(kind) for each in (ClassStatusPlanned, GatewayStatusPlanned, RouteStatusPlanned, StatusWithdrawn)
    }
    return Status(wanted=hooks.get(kind, _route)(kind), marks=marks)


def _marked(kind: str) -> Marking:
    def marked(_: World, event: PlannedStatus | StatusWithdrawn, __: AnyEvent | None) -> Iterable[Mark]:
        return of_owner(event.owner, kind)

    return marked


def _wanted(view: View, kind: str, status: Json, *, settling: bool = False) -> Wanted | None:
    """None where the object is not there, or already says so."""
    stands = {name: view.before.get(name) for name in status}
    return Wanted(status=status if view.seen(kind) and status != stands else None, settling=settling)


def _conditions(found: Iterable[Condition], before: Mapping[str, Any], now: str, generation: int) -> list[Json]:
    return [condition_of(each, "", before, now) | {"observedGeneration": generation} for each in found]


def _class(kind: str):  # type: ignore[no-untyped-def]
    def wanted(view: View) -> Wanted | None:
        planned = planned_status(view.world, view.owner(kind))
        if not isinstance(planned, ClassStatusPlanned):
            return None
        conditions = _conditions(planned.conditions, view.before, view.now, planned.root.generation)
        return _wanted(view, kind, {"conditions": conditions, "supportedFeatures": [{"name": name} for name in planned.features]})

    return wanted


def _gateway(kind: str):  # type: ignore[no-untyped-def]
    def wanted(view: View) -> Wanted | None:
        planned = planned_status(view.world, view.owner(kind))
        if not isinstance(planned, GatewayStatusPlanned):
            return None
        generation = planned.root.generation
        before = {each.get("name"): each for each in view.before.get("listeners") or ()}
        listeners = [
            {
                "name": each.name,
                "attachedRoutes": each.attached,
                "supportedKinds": [{"group": kind.group, "kind": kind.kind} for kind in each.kinds],
                "conditions": _conditions(each.conditions, before.get(each.name, {}), view.now, generation),
            }
            for each in planned.listeners
        ]
        status: Json = {"conditions": _conditions(planned.conditions, view.before, view.now, generation), "listeners": listeners}
        if kind == "Gateway":
            status["addresses"] = [{"type": "IPAddress", "value": vip} for vip in planned.addresses]
            status["attachedListenerSets"] = planned.listener_sets
        return _wanted(view, kind, status, settling=planned.is_pending())

    return wanted


def _route(kind: str):  # type: ignore[no-untyped-def]
    def wanted(view: View) -> Wanted | None:
        return _by_parent(view, kind, "parents", "parentRef")

    return wanted


def _policy(kind: str):  # type: ignore[no-untyped-def]
    def wanted(view: View) -> Wanted | None:
        return _by_parent(view, kind, "ancestors", "ancestorRef")

    return wanted


def _by_parent(view: View, kind: str, entries: str, reference: str) -> Wanted | None:
    """Without a plan our entries go: no parent is ours any more."""
    planned = planned_status(view.world, view.owner(kind))
    before = list(view.before.get(entries) or ())
    controllers = {*CLASSES, *(each.controller for each in view.world.of(GatewayClassObserved) if each.ours)}
    ours = {_key(each.get(reference) or {}): each for each in before if each.get("controllerName") in controllers}
    others = [each for each in before if each.get("controllerName") not in controllers]
    if not isinstance(planned, RouteStatusPlanned):
        return _wanted(view, kind, {entries: others}) if ours else None
    made = []
    for each in planned.parents:
        named = _named(each.parent)
        conditions = _conditions(each.conditions, ours.get(_key(named), {}), view.now, planned.root.generation)
        made.append({reference: named, "controllerName": each.controller, "conditions": conditions})
    return _wanted(view, kind, {entries: [*others, *made]})


def _key(reference: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(reference.get(name) for name in ("group", "kind", "namespace", "name", "sectionName", "port"))


def _named(parent: ParentRef) -> Json:
    """The reference as it was written."""
    found: Json = {"group": parent.group, "kind": parent.kind, "name": parent.name}
    if parent.explicit_namespace:
        found["namespace"] = parent.namespace
    if parent.section:
        found["sectionName"] = parent.section
    if parent.port:
        found["port"] = parent.port
    return found
