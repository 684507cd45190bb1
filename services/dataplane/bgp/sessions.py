"""How the sessions of this node stand, from what bgpd prints of its neighbors."""

from collections.abc import Iterable
from typing import Final

import msgspec

from services.dataplane.bgp.render import at
from weir.events import BgpSessionPlanned
from weir.model import SessionState

_ESTABLISHED: Final = "Established"


class _Bfd(msgspec.Struct):
    status: str = ""


class _Neighbor(msgspec.Struct, rename="camel"):
    bgp_state: str = ""
    last_reset_due_to: str = ""
    last_notification_reason: str = ""
    peer_bfd_info: _Bfd | None = None


_decode = msgspec.json.Decoder(dict[str, _Neighbor]).decode


def sessions(planned: Iterable[BgpSessionPlanned], neighbors: str) -> tuple[SessionState, ...]:
    """In the order given.   neighbors: as `show bgp neighbors json` prints it.  Raises msgspec.MsgspecError."""
    found = _decode(neighbors or "{}")
    return tuple(_state(each, found.get(at(each.session), _Neighbor())) for each in planned)


def _state(planned: BgpSessionPlanned, neighbor: _Neighbor) -> SessionState:
    established = neighbor.bgp_state == _ESTABLISHED
    why = neighbor.last_notification_reason or neighbor.last_reset_due_to
    bfd = neighbor.peer_bfd_info.status.lower() if planned.session.bfd and neighbor.peer_bfd_info else ""
    return SessionState(peer=planned.peer, established=established, reason="" if established else why, bfd=bfd)
