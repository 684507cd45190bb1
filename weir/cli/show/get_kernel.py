"""Rows of `weir get` that come from the live maps, in the columns of loxicmd."""

from collections.abc import Iterable, Iterator

from services.dataplane.l4.layout import ALGORITHMS, FIRST_DROP, ID, MODES, STATES, VERDICTS, Backend, Flow, FrontendKey, Stats
from services.health.delays import Delay
from weir.cli.output import Row
from weir.cli.show.kernel import Kernel, Served
from weir.events import UpstreamPlanned
from weir.model import PROXY, Probe, endpoint_name, shown

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
    "all services",
)


def load_balancers(kernel: Kernel) -> list[Row]:
    """Return each frontend with its endpoints."""
    found = []
    for where, frontend in kernel.frontends.items():
        planned = kernel.planned(where)
        served = kernel.serving(frontend, planned)
        monitored = bool(planned and planned.probe)
        row: Row = {
            "ext ip": where.vip,
            "sec ips": [],
            "sources": list(planned.sources) if planned else [],
            "host": "",
            "port": where.port,
            "proto": where.protocol.lower(),
            "name": shown(planned.owner) if planned else "",
            "mark": 0,
            "sel": ALGORITHMS[frontend.algorithm],
            "mode": PROXY if planned and planned.mode == PROXY else MODES[frontend.mode],
            "# of endpoints": len(served),
            "timeout": frontend.idle_timeout_s or (1800 if where.protocol == "TCP" else 120),
            "monitor": "On" if monitored else "Off",
        }
        rows = [_endpoint_row(each, monitored) for each in served]
        found.append(row | {"endpoints": rows, "plan sequence": frontend.plan_seq, "counters": _counters(kernel, frontend.id)})
    return found


def wide(found: Iterable[Row]) -> list[Row]:
    """A row for each endpoint of each frontend.  counters: of the frontend; all services: of the endpoint, whatever it serves."""
    nobody = [dict.fromkeys(LB_WIDE[10:], "")]
    pairs = ((row, each) for row in found for each in row["endpoints"] or nobody)
    return [row | each | {"counters": _brief(**row["counters"]), "all services": each["counters"]} for row, each in pairs]


def _brief(packets_in: int, packets_out: int, bytes_in: int, bytes_out: int, **_: int) -> str:
    """Format packets and bytes, as loxicmd does."""
    return f"{packets_in + packets_out}:{bytes_in + bytes_out}"


def _endpoint_row(served: Served, monitored: bool) -> Row:
    stats = served.stats
    state = "inactive" if served.down else "draining" if not served.slots else "active" if monitored else "-"
    return {
        "endpoint": served.backend.address,
        "eport": served.backend.port,
        "weight": 1,
        "state": state,
        "counters": _brief(stats.packets_in, stats.packets_out, stats.bytes_in, stats.bytes_out),
    }


def _counters(kernel: Kernel, number: int) -> Row:
    stats = Stats.sum(kernel.map("frontend_stats").get(ID.pack(number)) or b"")
    return {name: getattr(stats, name) for name in Stats.__dataclass_fields__ if name != "FORMAT"}


def endpoints(kernel: Kernel) -> list[Row]:
    """Return each backend of the kernel and of the proxy, with its probe."""
    rows = {}
    for backend, down, probe in (*_of_frontends(kernel), *_of_upstreams(kernel)):
        name = endpoint_name(backend.address, backend.port, backend.protocol)
        key = backend.address, backend.port, backend.protocol
        if not probe and key in rows:
            continue  # of another frontend or upstream, which may have it probed
        rows[key] = {
            "host": backend.address,
            "name": name,
            "ptype": f"{probe.kind}:" if probe else "",
            "port": backend.port,
            "duration": probe.interval_s if probe else 0,
            "retries": probe.retries if probe else 0,
            **_delays(kernel.delays.get(name)),
            "state": "nok" if down else "ok" if probe else "unprobed",
        }
    return [rows[where] for where in sorted(rows)]


def _of_frontends(kernel: Kernel) -> Iterator[tuple[Backend, bool, Probe | None]]:
    """Yield backends in the maps, with whether each is down and its probe."""
    for where, frontend in kernel.frontends.items():
        planned = kernel.planned(where)
        for served in kernel.serving(frontend, planned):
            yield served.backend, served.down, planned.probe if planned else None


def _of_upstreams(kernel: Kernel) -> Iterator[tuple[Backend, bool, Probe | None]]:
    """Yield the proxy's, which no map but that of probes has: they are those of the plan on disk."""
    for upstream in kernel.plan.of(UpstreamPlanned):
        for backend, down in kernel.planned_down(upstream.sets).items():
            yield backend, down or backend.key() in kernel.down, upstream.probe


def _delays(found: Delay | None) -> Row:
    """Format delays in milliseconds, as loxicmd does."""
    return {f"{name}delay": f"{getattr(found, f'{name}_us') / 1000:.3f}ms" if found else "" for name in ("min", "avg", "max")}


def connections(kernel: Kernel) -> list[Row]:
    """Return each flow that has not timed out."""
    return [
        {
            "service name": _service_of(kernel, flow),
            "destip": flow.key.destination,
            "srcip": flow.key.source,
            "dport": flow.key.destination_port,
            "sport": flow.key.source_port,
            "proto": flow.key.protocol.lower(),
            "ident": plan_seq,
            "state": STATES[flow.state],
            "act": f"{MODES[flow.mode]}:{flow.new_destination}:{flow.new_destination_port}",
            "packets": flow.packets_in + flow.packets_out,
            "bytes": flow.bytes_in + flow.bytes_out,
        }
        for flow, plan_seq in kernel.flows()
    ]


def _service_of(kernel: Kernel, flow: Flow) -> str:
    """Return the Service of a flow's frontend.  The frontend may be gone while flows live on, and its id may be reused."""
    where = FrontendKey(flow.key.destination, flow.key.destination_port, flow.key.protocol)
    held = kernel.frontends.get(where)
    if not held or held.id != flow.frontend_id:
        return f"{endpoint_name(where.vip, where.port, where.protocol)} (gone)"
    planned = kernel.planned(where)
    return shown(planned.owner) if planned else ""


def verdicts(kernel: Kernel) -> list[Row]:
    """Count packets by verdict; the names are those of bpf/lib/drop.h."""
    counts = {
        ID.unpack(key)[0]: sum(int.from_bytes(each, "little") for each in kernel.map("verdicts").split(value))
        for key, value in kernel.map("verdicts").items()
    }
    return [
        {"verdict": name, "dropped": number >= FIRST_DROP, "packets": counts.get(number, 0)} for number, name in sorted(VERDICTS.items())
    ]
