"""What the kernel is to do: backends and how they are chosen."""

from typing import Final

from weir.model.objects import Root
from weir.model.value import Value

Mode = str
MODES: Final = ("default", "onearm", "fullnat")
PROXY: Final = "proxy"  # the mode of a proxy's frontends: packets go up this machine's own stack
Algorithm = str
ALGORITHMS: Final = ("maglev", "rr")
BackendState = str
BACKEND_STATES: Final = ("active", "draining", "down")
NoBackend = str  # what a client gets while no backend serves
NO_BACKENDS: Final = ("drop", "reject")
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


class BackendSet(Value, frozen=True, kw_only=True, omit_defaults=True):
    """A share of a frontend's new flows: `weight` parts of the sum over all its sets."""

    name: str  # as `set_name` gives it
    chunks: int  # how many `backends_planned` make the set
    weight: int = 1  # 0: no new flows


def set_name(service: Root, port: int, protocol: str, family: str) -> str:
    """ "shop/web:80/TCP:IPv4": the backend set of a Service's port in one family."""
    return f"{service.path}:{port}/{protocol}:{family}"


def service_of(name: str) -> str:
    """The Service whose endpoints a set of this name holds, as an owner."""
    return f"Service/{name.rsplit(':', 2)[0]}"


class Rejection(Value, frozen=True, kw_only=True, omit_defaults=True):
    """A planned entity that a node could not apply, in the words of the kernel or of Envoy."""

    entity: str
    reason: str
    owner: str = ""  # the object at fault, where the entity holds parts of several: "HTTPRoute/shop/web"
