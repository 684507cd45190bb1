"""The last plan on disk: bpffs is memory, so after a reboot without NATS a node forwards from this file."""

from pathlib import Path

import msgspec

from services.dataplane.core import INDEXES, planned
from weir.decider import Fact, World
from weir.events import AnyEvent
from weir.where import write_file


class PlanFile(msgspec.Struct, frozen=True):
    """position: sequence up to which the log was heard; facts: sequence and event of every planned entity."""

    position: int
    facts: list[tuple[int, AnyEvent]]

    @classmethod
    def of(cls, world: World, position: int) -> "PlanFile":
        """The plan as it stands in `world`."""
        return cls(position, [(world.seq(event), event) for event in planned(world)])

    @classmethod
    def read(cls, path: Path) -> "PlanFile | None":
        """None where there is none.  Raises msgspec.MsgspecError for a file that is not one."""
        return msgspec.json.decode(path.read_bytes(), type=cls) if path.exists() else None

    def write(self, path: Path) -> None:
        """In one step, and through a power loss."""
        write_file(path, msgspec.json.encode(self), sync=True)

    def world(self) -> World:
        """The plan, folded."""
        world = World(INDEXES)
        for seq, event in self.facts:
            world.evolve(Fact(seq, event))
        return world
