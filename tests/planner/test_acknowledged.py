"""What nodes acknowledge by its sequence: all that the planner plans for them."""

from collections.abc import Iterator

from services.planner.core import Planner
from services.planner.shared.indexes import ACKNOWLEDGED
from weir.events import AnnouncersPlanned, BgpRoutePlanned, BgpSessionPlanned, Planned, PlannedStatus, VipPlanned, Withdrawn


def entries(kind: type[Planned]) -> Iterator[type[Planned]]:
    """The classes of entries that nodes take over."""
    for each in kind.__subclasses__():
        if not issubclass(each, PlannedStatus | Withdrawn):
            yield from () if each.__name__.startswith("_") else (each,)
            yield from entries(each)


WAITED_FOR_BY_NOBODY = {AnnouncersPlanned, BgpRoutePlanned, BgpSessionPlanned}  # who announces a VIP, and where


def test_an_acknowledgement_finds_every_entry_that_the_planner_plans() -> None:
    assert {*entries(Planned), VipPlanned} - WAITED_FOR_BY_NOBODY == {*ACKNOWLEDGED}


def test_the_planner_follows_what_it_planned_in_every_kind() -> None:
    followed = {event.kind for event in Planner().subscribes}
    assert {event.kind for event in ACKNOWLEDGED} <= followed
