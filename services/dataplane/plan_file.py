"""The last plan on disk: bpffs is memory, so after a reboot without NATS a node forwards from it.

`plan.json` holds the whole plan as of a position.  What changed since is appended to `plan.changes`, a line for each fact, so that
one change among 10,000 Services costs one line.  A line torn by a power loss is the last one, and the log still has its event.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from services.dataplane.core import INDEXES, planned
from weir.bus.identity import Identity
from weir.decider import Change, Fact, World
from weir.events import AnyEvent, VipWithdrawn
from weir.plan import PLAN_KINDS
from weir.where import sync_folder, write_file

_MORE_LINES = 1000  # changes appended beyond the size of the plan before it is written whole again
_LINE = msgspec.json.Decoder(tuple[int, AnyEvent])


class PlanFile(msgspec.Struct, frozen=True):
    """position: sequence of `log` up to which it was read; facts: sequence and event of every planned entity."""

    position: int
    facts: list[tuple[int, AnyEvent]]
    log: Identity = Identity()

    @classmethod
    def of(cls, world: World, position: int) -> "PlanFile":
        """Make the file of the plan in `world`."""
        return cls(position, [(world.seq(event), event) for event in planned(world)])

    @classmethod
    def read(cls, path: Path) -> "PlanFile | None":
        """Read the plan; None where there is no file.  Raises msgspec.MsgspecError for a file that is not one."""
        if not path.exists():
            return None
        whole = msgspec.json.decode(path.read_bytes(), type=cls)
        since = _changes_since(whole.position, _changes(path))
        return cls(max([whole.position, *(seq for seq, _ in since)]), [*whole.facts, *since], whole.log)

    @classmethod
    def place_of(cls, path: Path) -> tuple[int, Identity]:
        """Return the sequence and the log that the plan at `path` is of; 0 where there is no file.  Raises msgspec.MsgspecError."""
        if not path.exists():
            return 0, Identity()
        head = msgspec.json.decode(path.read_bytes(), type=_Head)
        return max([head.position, *(seq for seq, _ in _changes_since(head.position, _changes(path)))]), head.log

    def write(self, path: Path) -> None:
        """Write in one step, safe against a power loss."""
        write_file(path, msgspec.json.encode(self), sync=True)
        _changes(path).unlink(missing_ok=True)  # left behind by a kill, they belong to another position

    def world(self) -> World:
        """Return the plan, folded."""
        world = World(INDEXES)
        for seq, event in self.facts:
            world.evolve(Fact(seq, event))
        return world


class _Head(msgspec.Struct):
    """The part that is read when the kernel holds the plan already."""

    position: int
    log: Identity = Identity()


class AppliedPlan:
    """The plan that was applied here, by entity, and how it is kept on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.position, self.log = 0, Identity()
        self.facts: dict[str, Fact] = {}
        self._unsaved: list[Fact] = []
        self._lines = 0
        self._whole = True
        self._on_disk = 0  # the position of the plan on disk
        self._withdrawn: list[int] = []  # sequences of withdrawals of VIPs, those not on disk among them

    @property
    def unsaved_withdrawal(self) -> int:
        """Return the sequence of the first VIP that is withdrawn here and would come back after a reboot; 0 for none."""
        return min((seq for seq in self._withdrawn if seq > self._on_disk), default=0)

    def restore(self, *, whole: bool) -> World | None:
        """Read the plan on disk, None where there is none.  Raises msgspec.MsgspecError or OSError where it cannot be read.

        whole: False reads only its position, and returns None.
        """
        if not whole:
            self.position, self.log = PlanFile.place_of(self._path)
            self._on_disk = self.position
            return None
        saved = PlanFile.read(self._path)
        if not saved:
            return None
        world = saved.world()
        self.replace(world, saved.position, saved.log)
        self._on_disk = saved.position
        return world

    def replace(self, world: World, position: int, log: Identity) -> None:
        """Record that the whole plan of `world` is applied, from `log`."""
        self.facts = {key: fact for key, fact in world.facts.items() if fact.event.kind in PLAN_KINDS}  # the world's own: memory
        self._on_disk = self._on_disk if log == self.log else 0
        self.position, self.log, self._whole, self._unsaved = position, log, True, []
        self._withdrawn = [fact.seq for fact in self.facts.values() if isinstance(fact.event, VipWithdrawn)]

    def hear(self, changes: Iterable[Change], position: int) -> None:
        """Record that `changes` are applied, too."""
        self._withdrawn = [seq for seq in self._withdrawn if seq > self._on_disk]
        for change in changes:
            if isinstance(change.fact.event, VipWithdrawn):
                self._withdrawn.append(change.fact.seq)
            if change.fact.event.kind in PLAN_KINDS:
                self._unsaved.append(change.fact)
                if change.fact.event.gone:
                    self.facts.pop(change.key, None)
                else:
                    self.facts[change.key] = change.fact
        self.position = position

    def saving(self) -> Callable[[], None]:
        """Return a function that writes to disk what is not there yet; it may run in a thread.  It raises OSError; then call `unsaved`."""
        unsaved, self._unsaved = self._unsaved, []
        self._lines += len(unsaved)
        write = self._writing(unsaved)
        position = self.position

        def save() -> None:
            write()
            self._on_disk = position

        return save

    def _writing(self, unsaved: list[Fact]) -> Callable[[], None]:
        if self._whole or self._lines > len(self.facts) + _MORE_LINES:
            self._whole, self._lines = False, 0
            whole = PlanFile(self.position, [fact[:2] for fact in self.facts.values()], self.log)
            self._base = whole.position
            return lambda: whole.write(self._path)
        return lambda: _append(_changes(self._path), self._base, unsaved)

    def unsaved(self) -> None:
        """The write failed: next time everything is written.  No withdrawal waits for that, or nothing would be reassigned."""
        self._whole = True
        self._on_disk = self.position


def _changes(path: Path) -> Path:
    return path.with_suffix(".changes")


def _append(path: Path, base: int, facts: Iterable[Fact]) -> None:
    """Append changes; the first line of the file names the whole plan that they are based on."""
    head = [] if (appended := path.exists()) else [msgspec.json.encode(base)]
    lines = [*head, *(msgspec.json.encode(fact[:2]) for fact in facts)]
    with path.open("ab") as file:
        file.write(b"".join(line + b"\n" for line in lines))
        file.flush()
        os.fsync(file.fileno())
    if not appended:
        sync_folder(path.parent)


def _changes_since(position: int, path: Path) -> list[tuple[int, AnyEvent]]:
    """Return the changes appended to the plan of `position`; none where they are based on another."""
    if not path.exists():
        return []
    head, *lines = path.read_bytes().split(b"\n")[:-1] or [b""]  # after the last line break there is nothing, or a torn line
    return [_LINE.decode(line) for line in lines] if head == msgspec.json.encode(position) else []
