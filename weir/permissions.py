"""Who may say what to the log's server: a NATS user for each service, and for each node of those that run on every one.

This is the one place that says so: `weir credentials` writes the server's configuration from it, docs/permissions.md is made from
it, and tests/e2e/test_permissions.py tries to get past it.
"""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from weir.bus import LEASES, STATE, STREAM
from weir.events import token

CENTRAL: Final = ("watcher", "ipam", "planner")
OF_NODES: Final = ("dataplane", "health")
OPERATOR, BOOTSTRAP = "operator", "bootstrap"
CLUSTER: Final = "local"
_API: Final = "$JS.API."


class User(NamedTuple):
    """Subjects, of which none that is not named is allowed."""

    service: str
    node: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]

    @property
    def name(self) -> str:
        """As in subjects; of a service the author of its facts."""
        return _name(self.service, self.node)

    @property
    def file(self) -> str:
        """Where its seed is kept."""
        return f"{self.service}-{self.node}.seed" if self.node else f"{self.service}.seed"


def users(nodes: Iterable[str]) -> Iterator[User]:
    """Every user of an installation with these nodes."""
    for service in CENTRAL:
        yield user(service)
    for node in nodes:
        for service in OF_NODES:
            yield user(service, node)
    yield user(OPERATOR)
    yield user(BOOTSTRAP)


def user(service: str, node: str = "") -> User:
    """The user that a service, on this node where it runs on each, shows itself to be."""
    name = _name(service, node)
    return User(service, node, tuple(_publish(service, name)), (f"_INBOX.{name}.>",))


def _name(service: str, node: str) -> str:
    return f"{service}-{token(node)}" if node else service


def _publish(service: str, author: str) -> Iterator[str]:
    if service == BOOTSTRAP:
        for stream in (STREAM, STATE, f"KV_{LEASES}"):
            yield f"{_API}STREAM.CREATE.{stream}"
            yield f"{_API}STREAM.INFO.{stream}"
        yield f"{_API}STREAM.UPDATE.{STREAM}"  # weir log limit
        return
    if service != OPERATOR:
        yield f"weir.{CLUSTER}.{author}.>"
    if service in CENTRAL:
        yield f"$KV.{LEASES}.{author}"
        yield f"{_API}STREAM.MSG.GET.KV_{LEASES}"
    yield f"{_API}STREAM.MSG.GET.{STREAM}"
    for stream in (STREAM, STATE):
        # A reader is named by 64 random bits, and nobody may list names: none is taken away by another user.
        for verb in ("CREATE", "MSG.NEXT", "DELETE"):
            yield f"{_API}CONSUMER.{verb}.{stream}.*"
        if service in (OPERATOR, "planner"):  # the planner counts for all what the log holds
            yield f"{_API}STREAM.INFO.{stream}"
    if service == OPERATOR:
        yield f"{_API}CONSUMER.INFO.{STREAM}.*"
        for stream in (STREAM, STATE):
            yield f"{_API}STREAM.SNAPSHOT.{stream}"
        yield "$JS.SNAPSHOT.ACK.>"
