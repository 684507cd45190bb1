"""Conditions in a status, and comparing a status with the one that is there: what every kind that Weir writes needs.

Only transitions are written: no sequence and no clock of the log goes into the API.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from services.watcher.writer.status import Json
from weir.decider import World
from weir.events import PlannedStatus, StatusPlanned, VipAllocated, status_key
from weir.lbnodes import counted, is_silent
from weir.model import Condition

MOST_WORDS: Final = 1000  # characters of a Kubernetes Event's note


def condition_of(condition: Condition, domain: str, before: Mapping[str, Any], now: str) -> Json:
    """meta/v1 Condition; the time is that of the last change of `status`, as in the API."""
    word = status_word(condition)
    stood: Mapping[str, Any] = next((each for each in before.get("conditions") or () if each.get("type") == domain + condition.type), {})
    since = stood.get("lastTransitionTime", now) if stood.get("status") == word else now
    written = {"type": domain + condition.type, "status": word, "reason": condition.reason, "message": condition.message}
    return {**written, "lastTransitionTime": since}


def status_word(condition: Condition) -> str:
    return "True" if condition.status else "Unknown" if condition.unknown else "False"


def is_programmed(planned: StatusPlanned) -> bool:
    """Whether nodes have confirmed all of it."""
    return any(condition.type == "Programmed" and condition.status for condition in planned.conditions)


def planned_status(world: World, owner: str) -> PlannedStatus | None:
    """The status that the planner planned for an owner of any kind."""
    planned = world.get(status_key(owner))
    return planned if isinstance(planned, PlannedStatus) else None


def planned_for(world: World, owner: str) -> StatusPlanned | None:
    """The status that the planner planned for a Service."""
    planned = planned_status(world, owner)
    return planned if isinstance(planned, StatusPlanned) else None


def is_held(world: World, service: str) -> bool:
    """Whether the Service has an address, or had one that a node may still forward for.  It does not wait for a node that is silent.

    world: with the index "holder" of the watcher.
    """
    if world.find("holder", service, VipAllocated):
        return True
    releasing = world.count("holder", service) > 0
    return releasing and not any(is_silent(world, seen.node) for seen in counted(world))


def same(wanted: Json, stands: Mapping[str, Any]) -> bool:
    """Whether writing `wanted` would change nothing; times of conditions follow from the rest."""
    return _timeless(wanted) == _timeless(stands)


def digest(status: Mapping[str, Any]) -> int:
    """Hash what `same` compares; valid within this process."""
    return hash(msgspec.json.encode(_timeless(status), order="sorted"))


def _timeless(status: Mapping[str, Any]) -> Json:
    conditions = sorted((_known(each) for each in status.get("conditions") or ()), key=lambda each: str(each["type"]))
    rest = {name: value for name, value in status.items() if name != "conditions" and value not in ([], "", {}, None, {"ingress": []})}
    return {**rest, "conditions": [{**each, "lastTransitionTime": ""} for each in conditions]}


def _known(condition: Mapping[str, Any]) -> Json:
    return {name: condition.get(name, "") for name in ("type", "status", "reason", "message", "lastTransitionTime", "observedGeneration")}
