"""`weir get`: the columns that users of loxicmd know, read from the live maps."""

from ipaddress import ip_address, ip_network

from services.dataplane.layout import ALGORITHMS, FIRST_DROP, ID, MODES, STATES, VERDICTS, Stats
from weir.cli.history import ask, connect, world_at
from weir.cli.kernel import Kernel, Served
from weir.cli.output import Row, emit
from weir.decider import World
from weir.events import AppliedThrough, EndpointDown, NodeSeen, PoolObserved, VipAllocated, VipReleased
from weir.model import endpoint_name

LB = ("ext ip", "port", "proto", "name", "mark", "sel", "mode", "# of endpoints", "timeout", "monitor")
LB_WIDE = (
    "ext ip",
    "sec ips",
    "sources",
    "host",
    "port",
    "proto",
    "name",
    "mark",
    "sel",
    "mode",
    "endpoint",
    "eport",
    "weight",
    "state",
    "counters",
)


def get(noun: str, instance: str, output: str) -> None:
    """Prints one kind of thing."""
    match noun:
        case "lb":
            _load_balancers(Kernel(instance), output)
        case "ep":
            emit(_endpoints(Kernel(instance)), output)
        case "ct":
            emit(_connections(Kernel(instance)), output)
        case "pools":
            emit(_pools(_world(instance)), output)
        case "drops":
            emit(_verdicts(Kernel(instance)), output)
        case "nodes":
            emit(_nodes(_world(instance)), output)


def _load_balancers(kernel: Kernel, output: str) -> None:
    frontends, backends = [], []
    for where, frontend in kernel.frontends.items():
        planned = kernel.planned(where)
        served = kernel.serving(frontend, planned)
        monitored = bool(planned and planned.probe)
        row: Row = {
            "ext ip": where.vip,
            "sec ips": [],
            "sources": [],
            "host": "",
            "port": where.port,
            "proto": where.protocol.lower(),
            "name": planned.service.replace("/", "_") if planned else "",
            "mark": 0,
            "sel": ALGORITHMS[frontend.algorithm],
            "mode": MODES[frontend.mode],
            "# of endpoints": len(served),
            "timeout": frontend.idle_timeout_s or (1800 if where.protocol == "TCP" else 120),
            "monitor": "On" if monitored else "Off",
        }
        rows = [_endpoint_row(each, monitored) for each in served]
        frontends.append(row | {"endpoints": rows, "plan sequence": frontend.plan_seq, "counters": _counters(kernel, frontend.id)})
        blank = dict.fromkeys(row, " ")
        backends += [(row if index == 0 else blank) | each for index, each in enumerate(rows)] or [row | dict.fromkeys(LB_WIDE[10:], "")]
    if output == "wide":
        emit(backends, "", columns=LB_WIDE)
    else:
        emit(frontends, output, columns=LB)


def _endpoint_row(served: Served, monitored: bool) -> Row:
    stats = served.stats
    state = "inactive" if served.down else "draining" if not served.slots else "active" if monitored else "-"
    return {
        "endpoint": served.backend.address,
        "eport": served.backend.port,
        "weight": 1,
        "state": state,
        "counters": f"{stats.packets_in + stats.packets_out}:{stats.bytes_in + stats.bytes_out}",
    }


def _counters(kernel: Kernel, number: int) -> Row:
    stats = Stats.sum(kernel.map("frontend_stats").get(ID.pack(number)) or b"")
    return {name: getattr(stats, name) for name in Stats.__dataclass_fields__ if name != "FORMAT"}


def _endpoints(kernel: Kernel) -> list[Row]:
    rows = {}
    for where, frontend in kernel.frontends.items():
        planned = kernel.planned(where)
        for served in kernel.serving(frontend, planned):
            probe, backend = planned.probe if planned else None, served.backend
            rows[backend.address, backend.port, backend.protocol] = {
                "host": backend.address,
                "name": endpoint_name(backend.address, backend.port, backend.protocol),
                "ptype": f"{probe.kind}:" if probe else "none:",
                "port": backend.port,
                "duration": probe.interval_s if probe else 0,
                "retries": probe.retries if probe else 0,
                "mindelay": "",
                "avgdelay": "",
                "maxdelay": "",
                "state": "nok" if served.down else "ok",
            }
    return [rows[where] for where in sorted(rows)]


def _connections(kernel: Kernel) -> list[Row]:
    names = {frontend.id: planned.service for where, frontend in kernel.frontends.items() if (planned := kernel.planned(where))}
    return [
        {
            "service name": names.get(flow.frontend_id, ""),
            "destip": key.destination,
            "srcip": key.source,
            "dport": key.destination_port,
            "sport": key.source_port,
            "proto": key.protocol.lower(),
            "ident": flow.plan_seq,
            "state": STATES[flow.state],
            "act": f"{MODES[flow.mode]}:{flow.new_destination}:{flow.new_destination_port}",
            "packets": flow.packets_in + flow.packets_out,
            "bytes": flow.bytes_in + flow.bytes_out,
        }
        for key, flow in kernel.flows()
    ]


def _verdicts(kernel: Kernel) -> list[Row]:
    """Every way a packet can end, with its count; the names are those of bpf/lib/drop.h."""
    counts = {
        ID.unpack(key)[0]: sum(int.from_bytes(each, "little") for each in kernel.map("verdicts").split(value))
        for key, value in kernel.map("verdicts").items()
    }
    return [
        {"verdict": name, "dropped": number >= FIRST_DROP, "packets": counts.get(number, 0)} for number, name in sorted(VERDICTS.items())
    ]


def _world(instance: str) -> World:
    async def question() -> World:
        async with await connect(instance) as bus:
            return (await world_at(bus, ""))[0]

    return ask(instance, question())


def _pools(world: World) -> list[Row]:
    vips = [*world.of(VipAllocated), *world.of(VipReleased)]
    return [
        {
            "name": pool.root.name,
            "addresses": list(pool.addresses),
            "auto assign": pool.auto_assign,
            "used": sum(vip.pool == pool.root.name for vip in vips),
            "total": sum(map(_size, pool.addresses)),
        }
        for pool in world.of(PoolObserved)
    ]


def _size(addresses: str) -> int:
    first, dash, last = addresses.partition("-")
    return int(ip_address(last)) - int(ip_address(first)) + 1 if dash else ip_network(addresses, strict=False).num_addresses


def _nodes(world: World) -> list[Row]:
    applied = {event.node: event for event in world.of(AppliedThrough)}
    down: dict[str, int] = {}
    for event in world.of(EndpointDown):
        down[event.node] = down.get(event.node, 0) + 1
    return [
        {
            "name": seen.node,
            "hook": seen.hook,
            "interfaces": list(seen.interfaces),
            "applied": applied[seen.node].seq if seen.node in applied else 0,
            "rejected": len(applied[seen.node].rejected) if seen.node in applied else 0,
            "backends down": down.get(seen.node, 0),
        }
        for seen in world.of(NodeSeen)
    ]
