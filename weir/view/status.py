"""Status of an installation: its processes, whether the log answers, nodes, Services, and every problem in one line."""

import os
from typing import Final

from msgspec.structs import replace

from weir.bus.reader import LogError
from weir.decider import World
from weir.events import AppliedThrough, EndpointDown, ManifestRejected, StatusPlanned
from weir.lbnodes import conflicts, counted, how_to_end, is_silent
from weir.model import Condition, endpoint_name
from weir.view.alarms import disk_alarms, log_alarms
from weir.view.bgp import DOWN, sessions
from weir.view.gateways import GatewayView, RouteView, gateways, routes
from weir.view.history import connect, world_at
from weir.view.ingresses import IngressView, ingresses
from weir.view.nodes import NodeView, nodes
from weir.view.processes import ProcessView, processes, remote, starting, with_lag, without_log
from weir.view.services import ready_of, statuses
from weir.view.summary import condition, notes
from weir.view.sync import unapplied
from weir.view.value import View
from weir.where import Where

SERVING: Final = "serving"  # the summary of a Service where nothing is wrong


class NodeStatus(View, frozen=True):
    """One LB node.  behind: events of the plan that it has yet to apply."""

    node: str
    hook: str
    interfaces: tuple[str, ...]
    applied: int
    rejected: tuple[str, ...]
    heard: bool
    behind: int


class ServiceStatus(View, frozen=True):
    """One Service.  summary: its false conditions in words, or that it is serving."""

    service: str
    vips: tuple[str, ...]
    backends: int
    summary: str
    conditions: tuple[Condition, ...]

    @property
    def good(self) -> bool:
        return all(condition.status for condition in self.conditions)

    def has(self, kind: str) -> bool:
        """Whether it has this condition, and that is true."""
        return any(condition.type == kind and condition.status for condition in self.conditions)


class Status(View, frozen=True):
    """An installation.

    up: it has processes.   ok: nothing is wrong.   following: all processes are caught up.
    log: "at sequence N", or why it cannot be read.
    """

    instance: str
    up: bool
    ok: bool = False
    following: bool = False
    processes: tuple[ProcessView, ...] = ()
    log: str = ""
    log_ok: bool = False
    nodes: tuple[NodeStatus, ...] = ()
    services: tuple[ServiceStatus, ...] = ()
    gateways: tuple[GatewayView, ...] = ()
    routes: tuple[RouteView, ...] = ()
    ingresses: tuple[IngressView, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def starting(self) -> str:
        """What it waits for while it starts, in words; "" once it has started."""
        return starting(self.processes)

    def programmed(self) -> bool:
        """Whether every Service and Gateway is in the kernel, and the proxy, of every node."""
        return bool(self.nodes) and all(each.has("Programmed") for each in self.services) and all(each.programmed for each in self.gateways)

    def serving(self) -> bool:
        """Whether, beyond that, every Service has an endpoint that serves it and every Gateway, route and Ingress is as it should be."""
        return self.programmed() and all(each.has("Serving") for each in self.services) and self.gateways_good()

    def gateways_good(self) -> bool:
        """Whether every Gateway, route and Ingress is as it should be."""
        return all(each.good for found in (self.gateways, self.routes, self.ingresses) for each in found)


async def status(instance: str) -> Status:
    """Return the status now.  A log that does not answer is part of it."""
    where = Where(instance)
    rows = processes(where)
    away = "WEIR_NATS" in os.environ and not rows  # the log of a cluster: its services run elsewhere
    full = [str(alarm) for alarm in disk_alarms(where.state / "nats")]
    try:
        async with await connect(instance) as bus:
            world, head = await world_at(bus, "")
            rows = await with_lag(bus, [*rows, *(await remote(bus, world) if away else ())])
            behind = {node.applied: await unapplied(bus, node.applied) for node in nodes(world)}
            alarms = [*map(str, await log_alarms(bus)), *full]
    except LogError as error:
        forwarding = "; the kernel keeps forwarding with what it holds" if where.pins.exists() else ""
        reason = f"EventLogUnreachable: {error}" if len(rows) != 1 else "not reached yet"  # one: the packet path is being loaded
        log = f"{reason}{forwarding}"
        return Status(instance=instance, up=bool(rows), processes=tuple(without_log(rows)), log=log, problems=tuple(full))
    return _status(instance, rows, world, head, behind, alarms)


def _status(instance: str, rows: list[ProcessView], world: World, head: int, behind: dict[int, int], alarms: list[str]) -> Status:
    seen, services = [_node(node, behind[node.applied]) for node in nodes(world)], _services(world)
    found = [*problems(world), *alarms]
    following = bool(rows) and all(row.good for row in rows)
    status = Status(
        instance=instance,
        up=bool(rows),
        following=following,
        processes=tuple(rows),
        log=f"at sequence {head}",
        log_ok=True,
        nodes=tuple(seen),
        services=tuple(services),
        gateways=tuple(gateways(world)),
        routes=tuple(routes(world)),
        ingresses=tuple(ingresses(world)),
        problems=tuple(found),
    )
    good = all(service.good for service in services) and status.gateways_good()
    return replace(status, ok=bool(following and seen and good and not found))


def _node(node: NodeView, behind: int) -> NodeStatus:
    return NodeStatus(
        node=node.name,
        hook=node.hook,
        interfaces=node.interfaces,
        applied=node.applied,
        rejected=node.problems,
        heard=node.heard,
        behind=behind,
    )


def _services(world: World) -> list[ServiceStatus]:
    ready = ready_of(world)
    return [_service(planned, ready.get(planned.root.path, (0, 0))[1]) for planned in statuses(world)]


def _service(planned: StatusPlanned, backends: int) -> ServiceStatus:
    wrong = "; ".join(condition(found) for found in planned.conditions if not found.status)
    return ServiceStatus(
        service=planned.root.path,
        vips=planned.vips,
        backends=backends,
        summary=wrong or "; ".join([SERVING, *notes(planned.conditions)]),
        conditions=planned.conditions,
    )


def problems(world: World) -> list[str]:
    """Return what is wrong apart from conditions of Services: manifests, backends, refused parts of the plan, BGP sessions, nodes."""
    seen = counted(world)
    names = {node.node for node in seen}
    rejected = [f"{event.source}: {problem}" for event in world.of(ManifestRejected) for problem in event.problems]
    down = [
        f"backend {endpoint_name(e.address, e.port, e.protocol)} is down: {e.reason} (on {e.node})"
        for e in world.of(EndpointDown)
        if e.node in names
    ]
    applied = [event for event in world.of(AppliedThrough) if event.node in names]
    refused = [f"{event.node} refused {r.entity}: {r.reason}" for event in applied for r in event.rejected]
    twice = [f"node {node.node}: {words}" for node in seen for words in conflicts(world, node.node)]
    silent = [f"node {node.node} is not responding; {how_to_end(node.node)}" for node in seen if is_silent(world, node.node)]
    routers = [f"BGP session of {each.node} with {each.peer} is down: {each.message}" for each in sessions(world) if each.state == DOWN]
    return [*rejected, *down, *refused, *routers, *twice, *silent]
