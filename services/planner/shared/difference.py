"""The plan of one owner as a difference from what the log says is planned for it.

Backend sets belong to nobody: a chunk is planned while some planned entry refers to its set, whoever owns that entry.  So what an
owner no longer needs is withdrawn only where no entry of another owner refers to it.
"""

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from weir.decider import World
from weir.events import AnyEvent, BackendsPlanned, Event, Planned, PlannedStatus, StatusPlanned, key_of
from weir.model import service_of


def differences(world: World, owner: str, plan: Iterable[AnyEvent]) -> list[AnyEvent]:
    """The events that lead from what is planned for `owner` to `plan`.

    New chunks come before the entries that refer to them, and chunks of a set with another number of chunks are withdrawn behind them.
    What forwards no more is withdrawn before the entries, which are planned once more then: who confirms them confirms that, too.
    """
    wanted = {key_of(event): event for event in plan}
    early, late = _withdrawals(leftover(world, owner, wanted), wanted)
    again = any(not isinstance(event, PlannedStatus) for event in (*early, *late))
    changed = [event for where, event in sorted(wanted.items()) if (again and _is_entry(event)) or not same(event, world.get(where))]
    chunks = [event for event in changed if isinstance(event, BackendsPlanned)]
    entries = [event for event in changed if not isinstance(event, BackendsPlanned)]
    return [*chunks, *map(_withdrawal, early), *entries, *map(_withdrawal, late)]


def _withdrawal(event: Planned) -> AnyEvent:
    return event.withdrawal()  # type: ignore[return-value]  # each of its subclasses is one of AnyEvent


def leftover(world: World, owner: str, wanted: Mapping[str, AnyEvent]) -> list[Planned]:
    """What is planned for `owner`, not `wanted` any more, and needed by no other, by entity key."""
    planned = world.listed("planned", owner)
    left = {where: event for where, event in planned.items() if where not in wanted and isinstance(event, Planned)}
    for name in _sets_of_others(owner, planned.values()):
        chunks = world.listed("planned", service_of(name)).items()
        left |= {
            where: event for where, event in chunks if isinstance(event, BackendsPlanned) and event.set == name and where not in wanted
        }
    sets = _referred(wanted.values()) if left else set()
    return [event for _, event in sorted(left.items()) if not isinstance(event, BackendsPlanned) or not _kept(world, owner, event, sets)]


def _withdrawals(left: list[Planned], wanted: Mapping[str, AnyEvent]) -> tuple[list[Planned], list[Planned]]:
    """What is withdrawn before what is planned, and behind it: chunks of sets that no entry refers to any more."""
    if not left:
        return [], []
    sets = _referred(wanted.values())
    late: list[Planned] = [event for event in left if isinstance(event, BackendsPlanned) and (event.set, event.chunks) not in sets]
    return [event for event in left if event not in late], late


def _sets_of_others(owner: str, planned: Iterable[AnyEvent]) -> set[str]:
    """The backend sets of Services other than `owner` that its entries refer to."""
    own = f"{owner.removeprefix('Service/')}:"
    entries = (event for event in planned if isinstance(event, Planned))
    return {part.name for event in entries for part in event.refers_to() if not part.name.startswith(own)}


def _kept(world: World, owner: str, chunk: BackendsPlanned, wanted: set[tuple[str, int]]) -> bool:
    """Whether an entry of another owner still refers to the chunk's set.  Of a set that `owner` wants, too, the chunk is empty now."""
    cut, service = (chunk.set, chunk.chunks), service_of(chunk.set)
    if cut in wanted:
        return False
    entries = [*world.find("planned", service, Planned), *world.find("users", service, Planned)]
    return cut in _referred(entry for entry in entries if entry.planned_for() != owner)


def _referred(events: Iterable[Event]) -> set[tuple[str, int]]:
    """The sets that events refer to: name and number of chunks."""
    return {(part.name, part.chunks) for event in events if isinstance(event, Planned) for part in event.refers_to()}


def _is_entry(event: AnyEvent) -> bool:
    return isinstance(event, Planned) and not isinstance(event, BackendsPlanned | PlannedStatus)


def leaves(world: World, owner: str, wanted: Mapping[str, AnyEvent]) -> bool:
    """Whether something that nodes hold for `owner` is to be withdrawn."""
    return any(not isinstance(event, PlannedStatus) for event in leftover(world, owner, wanted))


def same(wanted: AnyEvent, planned: AnyEvent | None) -> bool:
    """True where both say the same; a root that only grew older does not count, or every edit would rewrite the whole plan.

    It counts for a status of the Gateway API, which names the generation that it is about (observedGeneration).
    """
    if wanted == planned:
        return True
    if type(wanted) is not type(planned):
        return False
    names_it = isinstance(wanted, PlannedStatus) and not isinstance(wanted, StatusPlanned)
    if names_it and wanted.root.generation != planned.root.generation:  # type: ignore[union-attr]
        return False
    return replace(planned, root=wanted.root) == wanted  # type: ignore[union-attr]
