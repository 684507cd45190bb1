"""What a service logs about the events it appends: a line for each, and one in all for many."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import structlog

from weir.decider import Decided
from weir.events import AnyEvent, EndpointDown, EndpointUp, ManifestRejected, VipDenied, tag_of
from weir.words import few

MOST_LINES: Final = 50  # of one batch: at a start with many Services a line costs as much as the decision
TROUBLE: Final = (ManifestRejected, VipDenied, EndpointDown)  # logged as warnings
PASSING: Final = "NoNode"  # reason of a VipDenied at every first start, until the agent has reported

log = structlog.get_logger()


def log_appended(author: str, part: Sequence[Decided], first: int) -> None:
    """Log the events that were appended from sequence `first` on; of many, a summary and the warnings."""
    numbered = list(enumerate(part, first))
    if len(part) > MOST_LINES:
        log.info("appended", service=author, seq=first, events=Counter(tag_of(type(item.event)) for item in part))
        numbered = [(seq, item) for seq, item in numbered if _is_trouble(item.event)][:MOST_LINES]
    for seq, item in numbered:
        entity = "/".join(filter(None, item.event.entity()))
        level = log.warning if _is_trouble(item.event) else log.info
        level(tag_of(type(item.event)), service=author, seq=seq, cause=item.cause, entity=entity, **_reason(item.event))


def _reason(event: AnyEvent) -> dict[str, str]:
    """Return the reason of an event that has one: the journal must show it while the log cannot be read."""
    match event:
        case ManifestRejected(problems=problems):
            return {"reason": few(map(str, problems), apart="; ")}
        case VipDenied(message=message):
            return {"reason": message}
        case EndpointDown(reason=reason) | EndpointUp(reason=reason):
            return {"reason": reason}
    return {}


def _is_trouble(event: AnyEvent) -> bool:
    return isinstance(event, TROUBLE) and not (isinstance(event, VipDenied) and event.reason == PASSING)
