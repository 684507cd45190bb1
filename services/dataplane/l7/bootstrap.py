"""What Envoy is started with.  It names the files of the rest, so that it is the same for the life of a node.  Pure."""

from collections.abc import Iterable

from services.dataplane.l7.listeners import http
from services.dataplane.l7.protobuf import Files, Json, source

ADMIN_MODE = 0o600


def bootstrap(node: str, files: Files, admin: str) -> Json:
    """admin: path of the admin interface's unix socket, which is open to its owner alone."""
    return {
        "node": {"id": node, "cluster": "weir"},
        "admin": {"address": {"pipe": {"path": admin, "mode": ADMIN_MODE}}},
        "dynamic_resources": {"lds_config": source(files.listeners()), "cds_config": source(files.clusters())},
        "layered_runtime": {"layers": [{"name": "weir", "static_layer": {}}]},
    }


def fixed(node: str, listeners: Iterable[object], clusters: Iterable[object]) -> Json:
    """A configuration that is in no files, for Envoy to judge without serving it."""
    return {
        "node": {"id": node, "cluster": "weir"},
        "static_resources": {"clusters": list(clusters), "listeners": list(listeners)},
    }


def serving(routes: Json) -> Json:
    """A listener that has no other purpose than to hold a route configuration."""
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
    return {"name": "routes", "address": address, "filter_chains": [{"filters": [http("routes", {"route_config": routes})]}]}
