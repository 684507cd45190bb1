"""What nodes acknowledge by its sequence: all that the planner plans for them."""

from collections.abc import Iterator

from services.planner.core import Planner
from services.planner.shared.indexes import ACKNOWLEDGED
from weir.events import AnnouncersPlanned, Planned, PlannedStatus, VipPlanned, Withdrawn


def entries(kind: type[Planned]) -> Iterator[type[Planned]]:
    """The classes of entries that nodes take over."""
    for each in kind.__subclasses__():
        if not issubclass(each, PlannedStatus | Withdrawn):
            yield from () if each.__name__.startswith("_") else (each,)
            yield from entries(each)


def test_an_acknowledgement_finds_every_entry_that_the_planner_plans() -> None:
    assert {*entries(Planned), VipPlanned} - {AnnouncersPlanned} == {*ACKNOWLEDGED}, "who announces a VIP is waited for by nobody"


def test_the_planner_follows_what_it_planned_in_every_kind() -> None:
    followed = {event.kind for event in Planner().subscribes}
    assert {event.kind for event in ACKNOWLEDGED} <= followed
