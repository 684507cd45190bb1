"""The plan: what the kernel, the proxy and the routing daemon of every node should hold, and how it belongs together."""

from collections.abc import Iterable, Mapping
from typing import Final

from weir.decider import Index, World
from weir.events import (
    AnnouncersPlanned,
    AnyEvent,
    BackendsPlanned,
    BgpRoutePlanned,
    BgpSessionPlanned,
    FrontendPlanned,
    ListenerPlanned,
    UpstreamPlanned,
    VipPlanned,
    VirtualHostPlanned,
)
from weir.model import Backend

L4_PLAN: Final = (VipPlanned, AnnouncersPlanned, FrontendPlanned, BackendsPlanned)
L7_PLAN: Final = (ListenerPlanned, VirtualHostPlanned, UpstreamPlanned)
BGP_PLAN: Final = (BgpSessionPlanned, BgpRoutePlanned)
PLAN: Final = (*L4_PLAN, *L7_PLAN, *BGP_PLAN)
PLAN_KINDS: Final = frozenset(event.kind for event in PLAN)


def sets_of(event: AnyEvent) -> Iterable[str]:
    """Index: the backend sets that a frontend uses, or that a chunk belongs to."""
    match event:
        case FrontendPlanned(sets=sets):
            return (part.name for part in sets)
        case BackendsPlanned(set=name):
            return (name,)
    return ()


INDEXES: Final[Mapping[str, Index]] = {"set": sets_of}  # what `members` needs


def members(world: World, frontend: FrontendPlanned) -> tuple[list[Backend], int]:
    """Return the backends of a frontend's sets, all chunks, sorted; and the sequence of the newest event among them and the frontend."""
    found = ((part, chunk) for part in frontend.sets for chunk in world.find("set", part.name, BackendsPlanned))
    chunks = [chunk for part, chunk in found if chunk.chunks == part.chunks]
    backends = sorted((backend for chunk in chunks for backend in chunk.backends), key=lambda backend: (backend.address, backend.port))
    return backends, max([world.seq(frontend), *(world.seq(chunk) for chunk in chunks)])
