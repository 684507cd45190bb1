"""What the kernel is to do: backends and how they are chosen."""

from typing import Literal

from weir.model.value import Value

Mode = Literal["default", "onearm", "fullnat"]
Algorithm = Literal["maglev", "rr"]
BackendState = Literal["active", "draining", "down"]
NoBackend = Literal["drop", "reject"]
MORE_REJECTED = "more"  # the entity of a rejection that stands for all beyond those that fit into one event


class Backend(Value, frozen=True, kw_only=True, omit_defaults=True):
    """One address + port that serves a frontend.  Only active backends get new flows; all down counts as all up.

    Each LB node acts on the verdicts of its own probes: see `seen_from`.
    """

    address: str
    port: int
    state: BackendState = "active"
    node: str = ""  # where it runs; told only where a frontend is `local`
    down_on: tuple[str, ...] = ()  # LB nodes whose probes find it dead; `state` is down where all that are heard do


def seen_from(node: str, backend: Backend) -> BackendState:
    """The state of a backend on an LB node, which acts on its own verdict and not on another's."""
    if backend.state == "draining":
        return "draining"
    return "down" if node in backend.down_on else "active"


class Rejection(Value, frozen=True, kw_only=True, omit_defaults=True):
    """A planned entity that a node could not apply, in the words of the kernel."""

    entity: str
    reason: str
