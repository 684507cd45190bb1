"""`weir lint`: check manifests offline, before they are applied.

The cores of the services run over a world in memory: the watcher's for manifests, ipam's for addresses, the planner's for
backends.  So findings are what `weir status` would report.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import typer
from msgspec.structs import replace

from services.ipam.core import Ipam
from services.planner.core import Planner
from services.planner.gateway.references import Fault, backend_of
from services.planner.gateway.status import backend_refs
from services.planner.l4.status import unserved
from services.planner.shared.backends import backends_of
from services.watcher.core import Watcher, differences
from services.watcher.inventory import Observation
from services.watcher.kinds.reader import Document
from services.watcher.settings import Settings
from services.watcher.sources.manifests import base_of, documents_of, manifests_in, not_read, unit_name
from services.watcher.sources.yaml_documents import documents, fault
from weir.cli.output import MACHINE, emit, harmless
from weir.decider import Core, Fact, World
from weir.events import (
    AnyEvent,
    EndpointSliceObserved,
    GatewayClassObserved,
    GatewayObserved,
    GatewayStatusPlanned,
    ManifestRejected,
    NodeAddressesObserved,
    RouteObserved,
    RouteStatusPlanned,
    ServiceObserved,
    StatusPlanned,
    UdpRouteObserved,
    object_key,
)
from weir.model import FAMILIES, shown
from weir.view.gateways import observed_routes
from weir.view.ingresses import NO_CLASS, without_class
from weir.words import few

STDIN: Final = Path("-")
_INVALID: Final = "Invalid"
_ADDRESSES: Final = ("AddressNotAssigned", "AddressNotUsable")
_JUDGED: Final = ("Accepted", "Allocated", "Serving")  # of a Service: what does not depend on a machine
_NO_MACHINE: Final = NodeAddressesObserved(node="")  # files are judged as for machines whose addresses no pool has
Units = dict[str, tuple[Document, ...]]


class Finding(NamedTuple):
    """source: "shop.yaml#2".   object: "Service shop/web", empty where the document names none.   reason: CamelCase."""

    source: str
    object: str
    reason: str
    message: str

    def __str__(self) -> str:
        reason = "" if self.reason == _INVALID else self.reason
        return ": ".join(filter(None, (self.source, self.object, reason, self.message)))


def lint(paths: Sequence[Path], settings: Settings, output: str) -> int:
    """Print findings; return 0: none, 1: some, 2: a path cannot be read."""
    units = units_of(paths)
    if units is None:
        return 2
    found = findings(units, settings)
    if output in MACHINE:
        emit([finding._asdict() for finding in found], output)
    else:
        for finding in found:
            typer.echo(harmless(f"✗ {finding}"))
        count = sum(map(len, units.values()))
        typer.echo(f"{'✗' if found else '✓'} {count} document{'s' * (count != 1)}, {len(found)} finding{'s' * (len(found) != 1)}")
    return 1 if found else 0


def units_of(paths: Sequence[Path]) -> Units | None:
    """The manifests; None, with a message, where they cannot be read or there are none."""
    try:
        units = _read(paths)
    except OSError as error:
        typer.echo(f"weir: {error.filename}: {(error.strerror or type(error).__name__).lower()}", err=True)
        return None
    for note in not_read(paths):
        typer.echo(f"weir: note: {note}", err=True)
    if not units:
        typer.echo(f"weir: no manifest in {few(map(str, paths))}", err=True)
    return units or None


def findings(units: Units, settings: Settings) -> list[Finding]:
    """By source, then object."""
    world = world_of(units, settings)
    routes = [*_of_routes(world), *_forwarded_to(world), *_unattached(world)]
    return sorted({*_rejected(world), *_conditions(world), *_of_gateways(world), *routes, *_slices(world)})


def world_of(units: Units, settings: Settings) -> World:
    """What the services would make of the manifests on a machine whose addresses no pool has."""
    watcher, ipam, planner = Watcher(settings), Ipam(), Planner()
    world = World({**watcher.indexes, **ipam.indexes, **planner.indexes})
    seen = watcher.inventory.read(Observation(units, complete=True))
    _take(world, [_NO_MACHINE, *differences(world, watcher.inventory, watcher.inventory.take(seen))])
    for core in (ipam, planner):
        _reconcile(world, core)
    return world


def _take(world: World, events: Iterable[AnyEvent]) -> None:
    for event in events:
        world.evolve(Fact(len(world.facts) + 1, event))


def _reconcile(world: World, core: Core) -> None:
    _take(world, [decided.event for decided in core.reconcile(world)])


def _rejected(world: World) -> Iterator[Finding]:
    for rejected in world.of(ManifestRejected):
        named = f"{rejected.root.kind} {rejected.root.path}" if rejected.root else ""
        for problem in rejected.problems:
            yield Finding(rejected.source, named, _INVALID, str(problem))


def _conditions(world: World) -> Iterator[Finding]:
    """Of Services that are exposed; a rejection is a finding of its own."""
    for status in world.of(StatusPlanned):
        for condition in status.conditions:
            if condition.type in _JUDGED and not condition.status and condition.reason != _INVALID:
                yield Finding(status.root.place, f"Service {status.root.path}", condition.reason, condition.message)


def _of_gateways(world: World) -> Iterator[Finding]:
    """Of Gateways, ListenerSets, IngressClasses and Ingresses, and of listeners, what does not depend on a machine."""
    for status in world.of(GatewayStatusPlanned):
        named = f"{status.root.kind} {status.root.path}"
        for condition in status.conditions:
            own = condition.reason in _ADDRESSES and status.root.kind != "Ingress"  # an Ingress has the address of its class
            if not condition.status and (condition.type != "Programmed" or own):
                yield Finding(status.root.place, named, condition.reason, condition.message)
        for listener in status.listeners:
            for condition in listener.conditions:
                if condition.status == (condition.type == "Conflicted") and condition.type != "Programmed":
                    yield Finding(status.root.place, f"{named} listener {listener.name}", condition.reason, condition.message)


def _of_routes(world: World) -> Iterator[Finding]:
    """Of routes and policies, at each parent."""
    for status in world.of(RouteStatusPlanned):
        for parent in status.parents:
            for condition in parent.conditions:
                if not condition.status:
                    words = f"{condition.message} (parent {parent.parent.kind} {parent.parent.namespace}/{parent.parent.name})"
                    yield Finding(status.root.place, f"{status.root.kind} {status.root.path}", condition.reason, words)


def _forwarded_to(world: World) -> Iterator[Finding]:
    """Services without an endpoint that routes forward to; those that are exposed have their own conditions."""
    for route in map(world.get, (object_key(status.owner) for status in world.of(RouteStatusPlanned))):
        if not isinstance(route, RouteObserved):
            continue
        protocol = "UDP" if isinstance(route, UdpRouteObserved) else "TCP"
        found = (backend_of(world, route.root, ref, protocol) for ref in backend_refs(route) if ref.weight)
        for service, port in (each for each in found if not isinstance(each, Fault) and not each.service.exposed):
            backends = [each for family in FAMILIES for each in backends_of(world, service, port, family)]
            if fault := unserved(world, replace(service, ports=(port,)), backends):
                yield Finding(service.root.place, f"Service {service.root.path}", *fault)


def _unattached(world: World) -> Iterator[Finding]:
    """Gateways that are not ours, routes none of whose parents is one of ours, and Ingresses of no class."""
    reported = {status.owner for status in (*world.of(RouteStatusPlanned), *world.of(GatewayStatusPlanned))}
    ours = few(each.root.name for each in world.of(GatewayClassObserved) if each.ours) or "a GatewayClass that Weir serves"
    for gateway in world.of(GatewayObserved):
        if gateway.root.owner not in reported:
            words = f"spec.gatewayClassName: got {gateway.class_name}, accepted: {ours}"
            yield Finding(gateway.root.place, f"Gateway {gateway.root.path}", "NoGatewayClass", words)
    for ingress, words in without_class(world):
        yield Finding(ingress.root.place, f"Ingress {ingress.root.path}", NO_CLASS, words)
    edges = few(each.root.path for each in world.of(GatewayStatusPlanned)) or "a Gateway that Weir serves"
    for route in observed_routes(world):
        if route.root.owner not in reported:
            parents = few(f"{each.kind} {each.namespace}/{each.name}" for each in route.parents) or "none"
            words = f"spec.parentRefs: got {parents}, accepted: {edges}"
            yield Finding(route.root.place, f"{route.root.kind} {route.root.path}", "NoMatchingParent", words)


def _slices(world: World) -> Iterator[Finding]:
    """Slices whose Service is missing."""
    refused = {rejected.owner or (rejected.root.owner if rejected.root else "") for rejected in world.of(ManifestRejected)}
    for found in world.of(EndpointSliceObserved):
        known = world.get(object_key(found.owner))
        if not isinstance(known, ServiceObserved) and found.owner not in refused:
            words = f"no manifest has Service {shown(found.owner)}, which it names"
            yield Finding(found.root.place, f"EndpointSlice {found.root.path}", "NoService", words)


# ── files ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _read(paths: Sequence[Path]) -> Units:
    """Raises OSError."""
    if list(paths) == [STDIN]:
        return {"stdin.yaml": documents("stdin.yaml", sys.stdin.buffer.read())}
    given = sorted({path.absolute() for path in paths})
    files = sorted({file for path in given for file in (manifests_in(path) if path.is_dir() else {path})})
    base = base_of(given)
    return {name: _documents(name, file) for file in files for name in [unit_name(base, file)]}


def _documents(name: str, file: Path) -> tuple[Document, ...]:
    try:
        found = documents_of(name, file)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file)) from error
    return (fault(name, "an empty file", "at least one document"),) if found is None else found
