"""Transitions of probed backends.  Author: health-NODE."""

from typing import ClassVar

from weir.events.base import Event
from weir.model import Protocol, endpoint_name


class _OfEndpoint(Event, frozen=True, kw_only=True):
    """An event about one backend, as probed from `node`."""

    author: ClassVar[str] = "health"
    kind: ClassVar[str] = "endpoint"
    node: str
    address: str
    port: int
    protocol: Protocol
    reason: str

    def entity(self) -> tuple[str, str]:
        return "", endpoint_name(self.address, self.port, self.protocol)


class EndpointDown(_OfEndpoint, frozen=True, kw_only=True, tag="endpoint_down"):
    """The backend failed `failures` probes in a row."""

    failures: int
    held_s: int = 0  # it flaps: down for at least so long, whatever its probes say


class EndpointUp(_OfEndpoint, frozen=True, kw_only=True, tag="endpoint_up"):
    """The backend answers again.  Up is what a backend is taken for, so nothing of it is kept."""

    gone: ClassVar[bool] = True
