"""Every metric that a service of Weir serves: its name, what it means, and the counters behind those of the runner.

`docs/metrics.md` is made from METRICS.  Names, units and types by the conventions of Prometheus; counted where it happens,
everything else is looked up when asked.  `weir.service.exporter` serves them.
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple

from weir.bus.reader import LogError, Refused
from weir.decider import Decided, Fact
from weir.events import Event, tag_of

EVERY = "every service"
Kind = Literal["counter", "gauge", "histogram"]
SECONDS = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
)  # upper bounds of a histogram's buckets


class Metric(NamedTuple):
    """One family.  Its name ends in its unit; a counter's in `_total`."""

    name: str
    kind: Kind
    service: str
    meaning: str
    labels: tuple[str, ...] = ()

    @property
    def unit(self) -> str:
        """By its name: seconds, bytes; else a number of things, or none."""
        stem = self.name.removesuffix("_total")
        return next((unit for unit in ("seconds", "bytes") if stem.endswith(unit)), "")


METRICS = (
    Metric("weir_service_info", "gauge", EVERY, "Always 1; which service this is, and on which node.", ("service", "node")),
    Metric("weir_following", "gauge", EVERY, "1 while the service follows the log, 0 while it is without it."),
    Metric("weir_ready", "gauge", EVERY, "1 while it is caught up with the log and sees and does all it should, as /readyz says."),
    Metric("weir_sessions_total", "counter", EVERY, "How often the service began to follow the log; more than 1: it lost it."),
    Metric("weir_log_position", "gauge", EVERY, "Sequence of the last event it has heard."),
    Metric("weir_log_behind", "gauge", EVERY, "Events it follows that the log held behind that one, when last heard of."),
    Metric("weir_entities", "gauge", EVERY, "Entities in its fold of the log."),
    Metric("weir_events_heard_total", "counter", EVERY, "Events it has heard since it caught up, its own come back among them.", ("type",)),
    Metric("weir_events_appended_total", "counter", EVERY, "Events it has appended.", ("type",)),
    Metric("weir_appends_total", "counter", EVERY, "Batches it sent, by how the log answered: taken, refused, lost.", ("outcome",)),
    Metric("weir_append_seconds", "histogram", EVERY, "From sending a batch to the log's word that it is stored."),
    Metric("weir_objects", "gauge", "watcher", "Objects as last observed.", ("kind",)),
    Metric("weir_manifest_files", "gauge", "watcher", "Files of manifests that it reads."),
    Metric("weir_cluster_kinds_lost", "gauge", "watcher", "Kinds of a cluster that cannot be followed now.", ("cluster",)),
    Metric("weir_writes_refused", "gauge", "watcher", "Objects of clusters that it may not write to.", ()),
    Metric("weir_manifests_rejected", "gauge", "watcher", "Documents that cannot be used; what they said before still holds."),
    Metric("weir_pool_addresses", "gauge", "ipam", "Addresses that a pool offers.", ("pool",)),
    Metric(
        "weir_pool_vips", "gauge", "ipam", "Of a pool: held, orphaned (held, not offered any more), releasing, free.", ("pool", "state")
    ),
    Metric("weir_claims_waiting", "gauge", "ipam", "Addresses that Services wait for."),
    Metric("weir_services", "gauge", "planner", "Exposed Services: programmed (by every node) or unprogrammed.", ("state",)),
    Metric("weir_frontends_planned", "gauge", "planner", "Frontends in the plan."),
    Metric("weir_log_events", "gauge", "planner", "Events that the log holds.", ("stream",)),
    Metric("weir_log_bytes", "gauge", "planner", "How large the log is.", ("stream",)),
    Metric("weir_log_limit_bytes", "gauge", "planner", "How large it may become; when full, nothing new can be recorded.", ("stream",)),
    Metric("weir_packets_total", "counter", "dataplane", "Packets that were not dropped, by verdict.", ("verdict",)),
    Metric("weir_dropped_packets_total", "counter", "dataplane", "Packets that were dropped, by reason.", ("reason",)),
    Metric("weir_service_packets_total", "counter", "dataplane", "Packets; in: from clients, out: to them.", ("service", "direction")),
    Metric("weir_service_bytes_total", "counter", "dataplane", "The same in bytes, with Ethernet headers.", ("service", "direction")),
    Metric("weir_service_flows_total", "counter", "dataplane", "Flows that were given a backend.", ("service",)),
    Metric("weir_conntrack_entries", "gauge", "dataplane", "Flows in the table that have not timed out."),
    Metric("weir_conntrack_limit", "gauge", "dataplane", "How many it takes; beyond, unanswered and long unused ones go."),
    Metric("weir_map_entries", "gauge", "dataplane", "Entries in use of a map that the plan fills.", ("map",)),
    Metric("weir_map_limit", "gauge", "dataplane", "How many it takes.", ("map",)),
    Metric("weir_map_writes_total", "counter", "dataplane", "Map entries written or deleted to apply the plan."),
    Metric("weir_apply_seconds", "histogram", "dataplane", "From hearing a change of the plan to the kernel holding it."),
    Metric("weir_applied_position", "gauge", "dataplane", "Sequence up to which the kernel holds the plan."),
    Metric("weir_rejected", "gauge", "dataplane", "Planned entities that the kernel refused."),
    Metric("weir_vips_announced", "gauge", "dataplane", "VIPs that this node announces now."),
    Metric("weir_lb_nodes_alive", "gauge", "dataplane", "LB nodes that this one hears, by their hellos, and itself."),
    Metric("weir_lb_nodes_ready", "gauge", "dataplane", "Of these, those that may announce VIPs."),
    Metric("weir_bgp_session_up", "gauge", "dataplane", "Whether the session with a router is established.", ("peer",)),
    Metric("weir_bfd_session_up", "gauge", "dataplane", "Whether BFD watches over it, where that is asked for.", ("peer",)),
    Metric("weir_backends_probed", "gauge", "health", "Backends that are probed."),
    Metric("weir_backends_down", "gauge", "health", "Of these, those that the log has as down, as probed from this node."),
    Metric("weir_probes_total", "counter", "health", "Probes that came to an end: good or failed.", ("result",)),
    Metric("weir_probe_seconds", "histogram", "health", "How long good answers took."),
    Metric("weir_probes_late_total", "counter", "health", "Probes that began more than a second after they were due: there are too many."),
    Metric("weir_probes_impossible_total", "counter", "health", "Probes this machine could not make; they say nothing of the backend."),
    Metric("weir_probe_lag_seconds", "gauge", "health", "How late the last probe began."),
)
BY_NAME = {metric.name: metric for metric in METRICS}


class Histogram:
    """Counts of what was observed, by SECONDS; the last is of all above."""

    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS) + 1)
        self.sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """One more."""
        self.counts[bisect_left(SECONDS, seconds)] += 1
        self.sum_s += seconds


class Sample(NamedTuple):
    """One value of a family in METRICS; labels in its order."""

    name: str
    labels: tuple[str, ...]
    value: float | Histogram


class Meter:
    """What a runner counts."""

    def __init__(self) -> None:
        self.sessions = self.position = self.behind = 0
        self.heard: Counter[type[Event]] = Counter()
        self.appended: Counter[type[Event]] = Counter()
        self.appends = Counter({"taken": 0, "refused": 0, "lost": 0})
        self.append_s = Histogram()

    def begin(self, position: int) -> None:
        """A session has caught up."""
        self.sessions += 1
        self.position, self.behind = position, 0

    def hear(self, facts: Sequence[Fact], behind: int) -> None:
        """Events came, and so many more wait."""
        self.heard.update([type(fact.event) for fact in facts])
        self.position, self.behind = facts[-1].seq, behind

    @contextmanager
    def appending(self, decided: Sequence[Decided]) -> Iterator[None]:
        """Counts and times one batch."""
        begun_s = time.perf_counter()
        try:
            yield
        except LogError as error:
            self.appends["refused" if isinstance(error, Refused) else "lost"] += 1
            raise
        self.appends["taken"] += 1
        self.append_s.observe(time.perf_counter() - begun_s)
        self.appended.update([type(item.event) for item in decided])

    def samples(self) -> list[Sample]:
        """Of what is counted here."""
        by_type = (("weir_events_heard_total", self.heard), ("weir_events_appended_total", self.appended))
        return [
            Sample("weir_sessions_total", (), self.sessions),
            Sample("weir_log_position", (), self.position),
            Sample("weir_log_behind", (), self.behind),
            Sample("weir_append_seconds", (), self.append_s),
            *(Sample("weir_appends_total", (outcome,), count) for outcome, count in self.appends.items()),
            *(Sample(name, (tag_of(kind),), count) for name, counts in by_type for kind, count in counts.items()),
        ]
