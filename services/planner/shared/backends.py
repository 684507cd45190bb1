"""Which backends serve a port of a Service, in which state, and in which chunk of the plan each of them is."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from zlib import crc32

import msgspec

from services.planner.shared.nodes import is_local, node_backends, node_name
from weir.decider import World
from weir.events import BackendsPlanned, EndpointDown, EndpointSliceObserved, ServiceObserved
from weir.lbnodes import counted, heard
from weir.model import Backend, BackendSet, BackendState, Endpoint, Family, Probe, ServicePort, SlicePort, better, endpoint_name, set_name

CHUNK = 50  # backends in a chunk when it is split; 25 to 50 on average
CHUNK_MOST = 100  # a set up to this size is one chunk


def backends_of(world: World, observed: ServiceObserved, port: ServicePort, family: Family, *, probed: bool = True) -> list[Backend]:
    """The backends of one port and family, each once, by address and port.

    An active backend carries the LB nodes that find it dead; without a VIP nothing is `probed`.
    """
    backends = (node_backends if observed.targets == "nodes" else _endpoints)(world, observed, port, family)
    if observed.probe and probed:
        found = list(zip(backends, _down_on(world, observed, port, family, backends), strict=True))
        if any(down for _, down in found):
            nodes = [seen.node for seen in counted(world)]
            asked = {*heard(world)} or {*nodes}
            backends = [_judged(backend, tuple(node for node in nodes if node in down), asked) for backend, down in found]
    return sorted(backends, key=lambda backend: (backend.address, backend.port))


def _endpoints(world: World, observed: ServiceObserved, port: ServicePort, family: Family) -> list[Backend]:
    """Ready endpoints serve, and terminating ones beside them drain; when none is ready, those that terminate but still serve do
    (KEP-1669).  Where a node takes its own only, it decides that for itself, and is told whose they are.
    """
    local = is_local(world, observed)
    states = {
        where: (_state(endpoint), node_name(observed, endpoint.node) if local else "")
        for where, endpoint in _entries(world, observed, port, family).items()
        if endpoint.ready or (endpoint.serving and endpoint.terminating)
    }
    draining_serves = not local and all(state == "draining" for state, _ in states.values())
    return [
        Backend(address=address, port=number, state="active" if draining_serves else state, node=node)
        for (address, number), (state, node) in states.items()
    ]


def _entries(world: World, observed: ServiceObserved, port: ServicePort, family: Family) -> dict[tuple[str, int], Endpoint]:
    """By address and number; where several slices name one, the best of them."""
    entries: dict[tuple[str, int], Endpoint] = {}
    for found in world.find("concerned", observed.root.owner, EndpointSliceObserved):
        for slice_port in found.ports if found.family == family else ():
            if (slice_port.name, slice_port.protocol) == (port.name, port.protocol):
                number = _number(slice_port, port)
                for endpoint in found.endpoints:
                    where = (endpoint.address, number)
                    entries[where] = better(entries.get(where, endpoint), endpoint)
    return entries


def _state(endpoint: Endpoint) -> BackendState:
    return "active" if endpoint.ready else "draining"


def _judged(backend: Backend, down_on: tuple[str, ...], asked: set[str]) -> Backend:
    """asked: the LB nodes whose verdicts are to be had."""
    if backend.state != "active" or not down_on:
        return backend
    return msgspec.structs.replace(backend, down_on=down_on, state="down" if asked <= {*down_on} else "active")


def _down_on(
    world: World, observed: ServiceObserved, port: ServicePort, family: Family, backends: Iterable[Backend]
) -> Iterator[Collection[str]]:
    """For each backend the nodes that find it dead.

    UDP cannot be probed by connecting: there an address is dead that is dead on a TCP port.
    """
    if is_asked(observed, port):
        for b in backends:
            yield [event.node for event in world.find("down", endpoint_name(b.address, b.port, port.protocol), EndpointDown)]
        return
    dead: defaultdict[str, set[str]] = defaultdict(set)
    for other in observed.ports:
        if other.protocol == "TCP":
            for backend in backends_of(world, observed, other, family):
                dead[backend.address].update(backend.down_on)
    for b in backends:
        yield dead.get(b.address, ())


def probe_of(observed: ServiceObserved, port: ServicePort) -> Probe | None:
    """How the backends of this port are asked, for entries that refer to its sets."""
    return observed.probe if is_asked(observed, port) else None


def is_asked(observed: ServiceObserved, port: ServicePort) -> bool:
    """Whether the Service's probe, where it has one, asks the backends of this port themselves."""
    return port.protocol == "TCP" or (observed.probe is not None and observed.probe.kind == "ping")


def _number(slice_port: SlicePort, port: ServicePort) -> int:
    """The port to dial: the slice's, else the Service's target where that is a number, else the Service's own."""
    return slice_port.port or (port.target if isinstance(port.target, int) and port.target else port.port)


def backend_set(
    observed: ServiceObserved, port: ServicePort, family: Family, backends: Iterable[Backend], weight: int = 1
) -> tuple[BackendSet, list[BackendsPlanned]]:
    """The set of a Service's port in one family, as an entry of any owner refers to it, and its chunks."""
    found = list(backends)
    chunks: dict[int, list[Backend]] = {}
    count = chunk_count(len(found))
    for backend in found:
        chunks.setdefault(chunk_of(backend, count), []).append(backend)
    name = set_name(observed.root, port.port, port.protocol, family)
    return BackendSet(name=name, chunks=count, weight=weight), [
        BackendsPlanned(set=name, chunk=chunk, chunks=count, protocol=port.protocol, backends=tuple(members), root=observed.root)
        for chunk, members in sorted(chunks.items())
    ]


def chunk_count(backends: int) -> int:
    """How many chunks a set of this size has: one, or a power of two, so that sizes nearby agree."""
    return 1 if backends <= CHUNK_MOST else 1 << (-(-backends // CHUNK) - 1).bit_length()


def chunk_of(backend: Backend, chunks: int) -> int:
    """The chunk of a backend among `chunks`."""
    return crc32(f"{backend.address}:{backend.port}".encode()) % chunks if chunks > 1 else 0
