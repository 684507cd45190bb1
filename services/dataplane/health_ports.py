"""Health ports as a part of this node: whether it has endpoints of its own for a Service (healthCheckNodePort), as kube-proxy answers.

A load balancer in front of the node asks.  A port that another process has is a rejection and tried again, unless that process answers
for the same Service: where kube-proxy runs, it does.
"""

import asyncio
import json
import os
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from functools import partial
from typing import NamedTuple

import structlog

from services.dataplane.applier import Step
from services.dataplane.core import INDEXES
from weir.decider import World
from weir.events import BackendsPlanned, FrontendPlanned, key_of, object_key
from weir.model import Owner, Rejection, seen_from
from weir.plan import members
from weir.service.http import HEAD_BYTES, Connections
from weir.service.runner import Runner

RETRY_S = 10.0
_ANSWER_S, _ANSWER_BYTES = 1.0, 65_536
_STATUS = {True: b"200 OK", False: b"503 Service Unavailable"}

log = structlog.get_logger()


class Local(NamedTuple):
    """endpoints: addresses on the node that are ready.   healthy: the node forwards to them."""

    owner: str
    endpoints: int
    healthy: bool


def local_endpoints(world: World, node: str, port: int, refused: Iterable[Rejection]) -> Local | None:
    """Return what to answer on a health port; None where the plan has no such port."""
    frontends = world.find("health port", str(port), FrontendPlanned)
    if not frontends:
        return None
    backends = (backend for frontend in frontends for backend in members(world, frontend)[0])
    ready = {backend.address for backend in backends if backend.node == node and seen_from(node, backend) == "active"}
    stuck = {key_of(frontend) for frontend in frontends} & {rejection.entity for rejection in refused}
    return Local(frontends[0].owner, len(ready), not stuck)


class HealthPorts:
    """An applier.   refused: what the kernel does not hold.   moved: called when `rejections` has changed."""

    interested = (FrontendPlanned, BackendsPlanned)
    unfinished = False  # `serve` tries again by itself

    def __init__(self, node: str, refused: Callable[[], Iterable[Rejection]], moved: Callable[[], None]) -> None:
        self._node, self._refused, self._moved = node, refused, moved
        self.through = 0
        self._world = World(INDEXES)
        self._changed = asyncio.Event()
        self._servers: dict[int, asyncio.Server] = {}
        self._failed: dict[int, str] = {}
        self._connections = Connections()  # of all ports together

    def apply(self, step: Step) -> None:
        """Answer by the plan of a step; ports are opened and closed a moment later."""
        self._world, self.through = step.world, step.position
        if {int(port) for port in step.world.words("health port")} != self._servers.keys():
            self._changed.set()

    def rejections(self) -> list[Rejection]:
        """Return the ports that cannot be opened, by the object that requests them: it is served all the same."""
        failed = ((self._local(port), reason) for port, reason in sorted(self._failed.items()))
        return [Rejection(entity=object_key(local.owner), reason=reason) for local, reason in failed if local]

    async def serve(self, _: Runner) -> None:
        """Edge: listen where the plan has a port."""
        while True:
            complete = await self._listen()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if complete else RETRY_S):
                    await self._changed.wait()
            self._changed.clear()

    async def _listen(self) -> bool:
        """Open and close ports; return whether all that are planned are ours."""
        wanted = {int(port) for port in self._world.words("health port")}
        for port in sorted(self._servers.keys() - wanted):
            self._servers.pop(port).close()
        failed = {}
        for port in sorted(wanted - self._servers.keys()):
            try:
                self._servers[port] = await asyncio.start_server(partial(self._answer, port), None, port, limit=HEAD_BYTES)
            except OSError as error:
                if not await _another_answers(port, self._local(port)):
                    failed[port] = f"health port {port}: {os.strerror(error.errno or 0)}"
        if failed != self._failed:
            self._failed = failed
            log.warning("health_ports_unserved", reasons=sorted(failed.values()))
            self._moved()
        return self._servers.keys() == wanted

    async def _answer(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def respond(_: bytes) -> bytes:
            return _response(self._local(port))

        await self._connections.serve(reader, writer, respond)

    def _local(self, port: int) -> Local | None:
        return local_endpoints(self._world, self._node, port, self._refused())


async def _another_answers(port: int, local: Local | None) -> bool:
    """Return whether the process that has the port answers for the same Service."""
    with suppress(OSError, TimeoutError, ValueError, LookupError, TypeError):  # it may answer anything
        async with asyncio.timeout(_ANSWER_S):
            reader, writer = await asyncio.open_connection("localhost", port)
            with closing(writer):
                writer.write(b"GET / HTTP/1.0\r\n\r\n")
                answer = b""
                while len(answer) < _ANSWER_BYTES and (part := await reader.read(_ANSWER_BYTES)):
                    answer += part
                body = answer.partition(b"\r\n\r\n")[2]
        return bool(json.loads(body)["service"] == _named(local))
    return False


def _named(local: Local | None) -> dict[str, str]:
    owner = Owner.parse(local.owner if local else "")
    return {"namespace": owner.space, "name": owner.name}


def _response(local: Local | None) -> bytes:
    endpoints, healthy = (local.endpoints, local.healthy) if local else (0, False)
    answer = {"service": _named(local), "localEndpoints": endpoints, "serviceProxyHealthy": healthy}
    body = json.dumps(answer).encode()
    head = (
        b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n"
        b"X-Load-Balancing-Endpoint-Weight: %d\r\nContent-Length: %d\r\n\r\n"
    )
    return head % (_STATUS[healthy and endpoints > 0], endpoints, len(body)) + body
