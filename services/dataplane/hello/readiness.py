"""Why this node should not announce VIPs, though it is alive.  Pure."""

from collections.abc import Mapping
from typing import NamedTuple

STARVED_S = 10.0  # an agent that was not heard for longer keeps no plan up to date


class Agent(NamedTuple):
    """The agent's last heartbeat.  caught_up: it has followed the log to its end since this node last stood still.

    follows: it does so now.
    """

    age_s: float
    stopped: bool
    caught_up: bool
    follows: bool = True


class Link(NamedTuple):
    """An interface.  quiet: it has received nothing at all for as long as others take to find a silent node dead."""

    running: bool
    quiet: bool


class Place(NamedTuple):
    """Where this node stands among others.

    listening: it has just begun to.   alive: it hears others.   unheard: one that is ready does not hear it.
    behind: it was cut off, and others may have taken over since by orders that it has not read.
    guest: others have taken over, and there is no order yet by which they do.
    """

    listening: bool = False
    alive: bool = False
    unheard: bool = False
    behind: bool = False
    guest: bool = False


def hindrance(agent: Agent, links: Mapping[str, Link], place: Place) -> str:
    """Return why this node may not announce VIPs; "" where it may."""
    down = [name for name, link in sorted(links.items()) if not link.running]
    cut = [name for name, link in sorted(links.items()) if link.quiet]
    reasons = {
        "it has just begun to listen for others": place.listening,
        "its agent has not read the log to the end yet": not agent.caught_up,
        "its agent is stopped": agent.stopped,
        f"its agent was not heard for {STARVED_S:.0f} s": agent.age_s > STARVED_S,
        f"no carrier on {', '.join(down)}": down,
        # Alone it cannot tell its own fault from an idle network, unless it is cut off everywhere.
        f"nothing arrives on {', '.join(cut)}": cut and (place.alive or len(cut) == len(links)),
        "others are ready and do not hear it": place.unheard,
        "it was cut off, and has not read who announces since": place.behind,
        "others have taken over from it, and the log does not know of it yet": place.guest,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")
