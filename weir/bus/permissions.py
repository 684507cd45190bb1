"""NATS permissions: a user for each service, and for each node one of the services that run on every node.

The streams are in an account of their own.  In theirs, a user who asked for an answer at a subject of the log would have the server
write it there, over another author's events; from the account beside it, answers do not come back in.  This is the one place that
defines permissions: `weir credentials` writes the server's configuration from it, docs/permissions.md is made from it, and
tests/e2e/test_permissions.py tries to get past it.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from weir.bus.access import API, API_FROM_OUTSIDE, BOOTSTRAP
from weir.bus.snapshots import SNAPSHOTS
from weir.bus.subjects import LEASES, STATE, STREAM, alive_subject
from weir.events import token

CENTRAL: Final = ("watcher", "ipam", "planner")
OF_NODES: Final = ("dataplane", "health")
OPERATOR: Final = "operator"
HELLO_KEY: Final = "hello.key"  # beside the seeds: the secret of all LB nodes, and no user's
CLUSTER: Final = "local"
_PREFIX: Final = f"weir.{CLUSTER}."
_BUCKET: Final = f"KV_{LEASES}"
_CONSUMER: Final = ("CREATE", "INFO", "DELETE", "MSG.NEXT")
_ASKED: Final = ("STREAM.INFO", "STREAM.MSG.GET", "STREAM.PURGE", *(f"CONSUMER.{verb}" for verb in _CONSUMER))
_SNAPSHOT: Final = f"weir-snapshot.{CLUSTER}.>"
_SNAPSHOTTER: Final = "ipam"
_STORED: Final = (f"{_PREFIX}>", _SNAPSHOT, f"$KV.{LEASES}.>")
_SERVED: Final = (*_STORED, *(f"{API}{what}.>" for what in _ASKED))  # of the log's account to the other


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
    for service in (*CENTRAL, OPERATOR, BOOTSTRAP):
        yield user(service)
    for node in nodes:
        for service in OF_NODES:
            yield user(service, node)


def user(service: str, node: str = "") -> User:
    """Return the user of a service; on `node` where it runs on every node."""
    name = _name(service, node)
    publish = _bootstrap() if service == BOOTSTRAP else _publish(service, name)
    listens = (alive_subject(_PREFIX, "*"),) if service in ("watcher", OPERATOR) else ()
    return User(service, node, tuple(publish), (f"_INBOX.{name}.>", *listens))


def accounts(nodes: Iterable[str], keys: Mapping[str, str]) -> dict[str, object]:
    """The server's accounts.   keys: user -> public NKEY."""
    log: list[object] = []
    beside: list[object] = []
    for each in users(nodes):
        allowed = {"publish": {"allow": each.publish}, "subscribe": {"allow": each.subscribe}}
        (log if each.service == BOOTSTRAP else beside).append({"nkey": keys[each.name], "permissions": allowed})
    imports = [{"service": {"account": "LOG", "subject": each}, "to": each.replace(API, API_FROM_OUTSIDE)} for each in _SERVED]
    exports = [{"service": each, "response_type": "stream" if "MSG.NEXT" in each else "singleton"} for each in _SERVED]
    return {
        "LOG": {"jetstream": "enabled", "users": log, "exports": exports},
        "WEIR": {"users": beside, "imports": imports},
        "SYS": {},
    }


def _name(service: str, node: str) -> str:
    return f"{service}-{token(node)}" if node else service


def _bootstrap() -> Iterator[str]:
    """Makes the log, sets its limits, saves it."""
    for stream in (STREAM, STATE, SNAPSHOTS, _BUCKET):
        yield f"{API}STREAM.CREATE.{stream}"
        yield f"{API}STREAM.INFO.{stream}"
    yield f"{API}STREAM.UPDATE.{STREAM}"
    for stream in (STREAM, STATE, SNAPSHOTS):
        yield f"{API}STREAM.SNAPSHOT.{stream}"
    yield "$JS.SNAPSHOT.ACK.>"


def _publish(service: str, author: str) -> Iterator[str]:
    yield f"{_PREFIX}{author}.>"
    if service != OPERATOR:
        yield alive_subject(_PREFIX, author)
    if service in CENTRAL:
        yield f"$KV.{LEASES}.{author}"
        yield f"{API_FROM_OUTSIDE}STREAM.MSG.GET.{_BUCKET}"
    if service == _SNAPSHOTTER:
        yield _SNAPSHOT
        yield from (f"{API_FROM_OUTSIDE}STREAM.PURGE.{stream}" for stream in (STATE, SNAPSHOTS))  # never of the history
    for stream in (STREAM, SNAPSHOTS):
        yield f"{API_FROM_OUTSIDE}STREAM.MSG.GET.{stream}"
        yield f"{API_FROM_OUTSIDE}STREAM.INFO.{stream}"  # which log it is, and which snapshots there are
    for stream in (STREAM, STATE, SNAPSHOTS):
        # A reader is named by 64 random bits, and nobody may list names: none is taken away by another user.
        for verb in ("CREATE", "MSG.NEXT", "DELETE"):
            yield f"{API_FROM_OUTSIDE}CONSUMER.{verb}.{stream}.*"
    if service in (OPERATOR, _SNAPSHOTTER, "planner"):  # the planner counts for all what the log holds
        yield f"{API_FROM_OUTSIDE}STREAM.INFO.{STATE}"
    if service == OPERATOR:
        yield f"{API_FROM_OUTSIDE}CONSUMER.INFO.{STREAM}.*"
