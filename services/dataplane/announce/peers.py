"""The LB nodes that may announce the same VIPs as this one, by slot in `lb_nodes`; kept in `peers.json` for the hello process.

The agent alone writes the file, from the plan.  It survives reboots beside the plan, so that hellos need no log.
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from pathlib import Path

import msgspec
import structlog
from msgspec.structs import replace

from services.dataplane.announce.order import SELF
from services.dataplane.l4.layout import LB_NODES
from weir.where import Where, write_file

log = structlog.get_logger()


class PeersFile(msgspec.Struct, frozen=True):
    """group: eight bytes that all nodes of one log share, as hex.   slots: node -> slot, without this one.

    orders: the newest event of the log by which this node knows who announces what.
    """

    node: str
    group: str = ""
    slots: dict[str, int] = {}
    orders: int = 0

    @classmethod
    def read(cls, path: Path) -> "PeersFile | None":
        """Read the file; None where there is none, or none that can be read."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except (OSError, msgspec.MsgspecError):
            return None

    def of(self, nodes: Sequence[str]) -> tuple[int, ...]:
        """Return the slots of those of `nodes` that have one, in their order."""
        known = {**self.slots, self.node: SELF}
        return tuple(known[node] for node in nodes if node in known)


def peers_path(where: Where) -> Path:
    """Where the file is."""
    return where.state / "peers.json"


def group_of(log_id: str) -> str:
    """The group of the nodes of one log, as `PeersFile` has it.  It tells nobody the log's id."""
    return blake2b(f"hello {log_id}".encode(), digest_size=8).hexdigest()


class Peers:
    """Slots, each taken by one node as long as this process lives.   added: called with each new slot, before anything refers to it."""

    def __init__(self, path: Path, node: str, added: Callable[[int], None] = lambda _: None) -> None:
        self._path, self._added = path, added
        held = PeersFile.read(path)
        self._file = held if held and held.node == node else PeersFile(node=node)

    @property
    def names(self) -> dict[int, str]:
        """Slot -> node, this one too."""
        return {SELF: self._file.node, **{slot: node for node, slot in self._file.slots.items()}}

    def of(self, nodes: Sequence[str]) -> tuple[int, ...]:
        """Return the slots of `nodes`, in their order; a new one gets the next free slot, and none where all are taken."""
        slots = dict(self._file.slots)
        for node in nodes:
            if node not in slots and node != self._file.node:
                if free := next((slot for slot in range(1, LB_NODES) if slot not in slots.values()), 0):
                    self._added(free)
                    slots[node] = free
                else:
                    log.error("too_many_lb_nodes", node=node, most=LB_NODES)
        self._save(replace(self._file, slots=slots))
        return self._file.of(nodes)

    def keep(self, nodes: Iterable[str]) -> None:
        """Free the slots of all nodes but these: nothing in the kernel refers to them any more."""
        kept = set(nodes)
        self._save(replace(self._file, slots={node: slot for node, slot in self._file.slots.items() if node in kept}))

    def belong(self, log_id: str) -> bytes:
        """The nodes of this log are the group; return its bytes."""
        self._save(replace(self._file, group=group_of(log_id)))
        return bytes.fromhex(self._file.group)

    def learn(self, orders: int) -> None:
        """Note the newest event that says who announces what."""
        self._save(replace(self._file, orders=orders))

    def _save(self, file: PeersFile) -> None:
        if file != self._file or not self._path.exists():
            write_file(self._path, msgspec.json.encode(file), sync=file.slots != self._file.slots)
            self._file = file
