"""Services: what was planned for each, and how many of its backends get new flows."""

from collections import defaultdict

from weir.decider import World
from weir.endpoints import counts
from weir.events import BackendsPlanned, EndpointDown, EndpointSliceObserved, ServiceObserved, StatusPlanned, endpoints_of
from weir.lbnodes import is_down
from weir.model import Condition
from weir.view.value import View


class ServiceView(View, frozen=True):
    """One Service.

    ready: "2/3", backends that get new flows of all.   state: the reason of its first false condition, or Serving.
    up, backends: the same two numbers.   endpoints: names, one for each address, port and protocol.
    """

    name: str
    vips: tuple[str, ...]
    ports: tuple[str, ...]
    ready: str
    state: str
    message: str
    labels: dict[str, str]
    conditions: tuple[Condition, ...]
    backends: int
    up: int
    endpoints: tuple[str, ...]


def services(world: World) -> list[ServiceView]:
    """Return each Service that is served, or should be, by name."""
    observed = {event.root.path: event for event in world.of(ServiceObserved)}
    endpoints, ready = endpoints_of_services(world), ready_of(world)
    return [
        _service(status, observed.get(status.root.path), endpoints.get(status.root.path, set()), *ready.get(status.root.path, (0, 0)))
        for status in statuses(world)
    ]


def _service(status: StatusPlanned, observed: ServiceObserved | None, endpoints: set[str], up: int, backends: int) -> ServiceView:
    failed = next((condition for condition in status.conditions if not condition.status), None)
    return ServiceView(
        name=status.root.path,
        vips=status.vips,
        ports=tuple(f"{port.port}/{port.protocol}" for port in observed.ports) if observed else (),
        ready=f"{up}/{backends}",
        state=failed.reason if failed else "Serving",
        message=failed.message if failed else "",
        labels=dict(observed.labels) if observed else {},
        conditions=status.conditions,
        backends=backends,
        up=up,
        endpoints=tuple(sorted(endpoints)),
    )


def statuses(world: World) -> list[StatusPlanned]:
    """Return the planned status of each Service, by name; Pending for one that ipam and planner have not decided about yet."""
    planned = {status.root.path: status for status in world.of(StatusPlanned)}
    for event in world.of(ServiceObserved):
        if event.exposed and event.root.path not in planned:
            pending = Condition(type="Programmed", status=False, reason="Pending", message="waiting for an address")
            planned[event.root.path] = StatusPlanned(owner=event.root.owner, vips=(), conditions=(pending,), root=event.root)
    return [planned[name] for name in sorted(planned)]


def endpoints_of_services(world: World) -> dict[str, set[str]]:
    """Map each Service to the names of the endpoints planned for it: one for each address, port and protocol."""
    found: dict[str, set[str]] = {}
    for chunk in world.of(BackendsPlanned):
        found.setdefault(chunk.root.path, set()).update(endpoints_of(chunk))
    return found


def ready_of(world: World) -> dict[str, tuple[int, int]]:
    """Map each Service to its backends that get new flows, and all it has; one with several ports or families counts once."""
    slices, verdicts = defaultdict[str, list[EndpointSliceObserved]](list), defaultdict[str, list[EndpointDown]](list)
    for found in world.of(EndpointSliceObserved):
        slices[found.owner].append(found)
    for verdict in world.of(EndpointDown):
        verdicts[verdict.address].append(verdict)
    down = {address for address, found in verdicts.items() if is_down(world, found)}
    return {each.root.path: counts(each, slices[each.root.owner], down.__contains__) for each in world.of(ServiceObserved)}
