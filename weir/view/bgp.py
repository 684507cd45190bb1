"""Sessions of LB nodes with routers, as the nodes report them."""

from typing import Final

from weir.decider import World
from weir.events import AppliedThrough, BgpSessionPlanned, BgpSessionsObserved, key_of
from weir.lbnodes import heard
from weir.model import SessionState
from weir.view.value import View

DOWN: Final = "Down"
_NOT_YET = SessionState(peer="", reason="nothing is reported of it yet")


class SessionView(View, frozen=True):
    """One session.  state: Established, Down, or Unknown where nothing is heard of the node.   bfd: up, down; "" where not asked for."""

    node: str
    peer: str
    address: str
    asn: int
    state: str
    bfd: str
    message: str


def sessions(world: World) -> list[SessionView]:
    """Return every session that is planned, by node and peer."""
    reported = {(event.node, state.peer): state for event in world.of(BgpSessionsObserved) for state in event.sessions}
    refused = {(event.node, each.entity): each.reason for event in world.of(AppliedThrough) for each in event.rejected}
    responding = {*heard(world)}
    found = []
    for planned in world.of(BgpSessionPlanned):
        for node in planned.nodes:
            state = reported.get((node, planned.peer), _NOT_YET)
            up = "Established" if state.established else DOWN
            found.append(
                SessionView(
                    node=node,
                    peer=planned.peer,
                    address=planned.session.address or planned.session.interface,
                    asn=planned.session.peer_asn,
                    state=up if node in responding else "Unknown",
                    bfd=state.bfd,
                    message=refused.get((node, key_of(planned))) or state.reason,
                )
            )
    return sorted(found, key=lambda each: (each.node, each.peer))
