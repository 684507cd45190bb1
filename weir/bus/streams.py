"""Configuration of the log's streams.  The reason for each setting: docs/design.md, "The log"."""

import os

from weir.bus.client import Bus
from weir.bus.identity import Identity
from weir.bus.reader import Refused
from weir.bus.snapshots import SNAPSHOTS
from weir.bus.subjects import LEASE_S, LEASES, STATE, STREAM

MOST_READERS = 1000  # of a stream at one time; a service has one or two, and one user's must not cost the server its memory
_NS = 1_000_000_000


async def ensure_streams(bus: Bus, *, replicas: int = 1, max_bytes: int = 1 << 30, max_age_s: int = 30 * 86400) -> None:
    """Create what is missing: history, its mirror, snapshots, and the bucket of the leases."""
    common = {"storage": "file", "num_replicas": replicas, "deny_delete": True, "max_consumers": MOST_READERS}
    identity = Identity(os.urandom(8).hex()).metadata()
    history = {"subjects": ["weir.>"], "retention": "limits", "discard": "new", "max_age": max_age_s * _NS, "max_bytes": max_bytes}
    limits = {"max_msg_size": 1 << 20, "duplicate_window": 120 * _NS, "allow_atomic": True, "allow_direct": False}
    state = {"mirror": {"name": STREAM}, "max_msgs_per_subject": 1, "discard": "old", "allow_direct": True}
    snapshots = {"subjects": ["weir-snapshot.>"], "retention": "limits", "discard": "new", "max_msg_size": 1 << 20, "allow_direct": False}
    leases = {"subjects": [f"$KV.{LEASES}.>"], "max_msgs_per_subject": 1, "max_age": LEASE_S * _NS, "discard": "new"}
    for config in (
        {"name": STREAM, **common, "deny_purge": True, **history, **limits, "metadata": identity},
        {"name": STATE, **common, **state},  # what a snapshot holds is purged, of this and of older snapshots: weir/bus/snapshotter.py
        {"name": SNAPSHOTS, **common, **snapshots},
        {"name": f"KV_{LEASES}", **common, "allow_rollup_hdrs": True, **leases},  # as NATS makes its buckets
    ):
        try:
            await bus.stream(str(config["name"]))
        except Refused:
            await bus.api(f"STREAM.CREATE.{config['name']}", config, timeout_s=10)
