"""Upstreams as Envoy's clusters, and their backends as its endpoints.  Pure."""

from collections.abc import Iterable

from services.dataplane.l7.protobuf import Files, Json, any_of, extension, secret_config, source
from weir.events import UpstreamPlanned
from weir.model import Backend, UpstreamTls, seen_from

# Envoy's own limits (1,024 requests, 3 retries at a time) drop requests at random under load; what protects a backend is its own limit.
_UNLIMITED: Json = {f"max_{what}": 1_000_000 for what in ("connections", "pending_requests", "requests", "retries")}
# A backend that takes no connection is left out for a while.  What it answers is its own affair.
_OUTLIERS: Json = {
    "split_external_local_origin_errors": True,
    "consecutive_local_origin_failure": 5,
    "interval": "1s",
    "base_ejection_time": "1s",
    "max_ejection_time": "10s",
    "max_ejection_percent": 50,
    "enforcing_consecutive_5xx": 0,
    "enforcing_consecutive_gateway_failure": 0,
    "enforcing_success_rate": 0,
    "enforcing_local_origin_success_rate": 0,
}
_SYSTEM_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
_HTTP = "extensions.upstreams.http.v3.HttpProtocolOptions"


def cluster(planned: UpstreamPlanned, files: Files) -> Json:
    """A Service's port, by its endpoints' file."""
    fields: Json = {
        "name": planned.name,
        "type": "EDS",
        "eds_cluster_config": {"service_name": planned.name, "eds_config": source(files.endpoints(planned.name))},
        "connect_timeout": "5s",
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {"thresholds": [_UNLIMITED]},
        "outlier_detection": _OUTLIERS,
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},  # `load_assignment` decides for all down
        "per_connection_buffer_limit_bytes": 32768,
    }
    if planned.protocol != "tcp":
        version: Json = {"http2_protocol_options": {}} if planned.protocol == "h2" else {"http_protocol_options": {}}
        fields["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": any_of(_HTTP, {"explicit_http_config": version})
        }
    if planned.tls:
        fields["transport_socket"] = _upstream_tls(planned.tls, planned.protocol, files)
    return fields


def load_assignment(name: str, backends: Iterable[Backend], node: str) -> Json:
    """The endpoints of a cluster, in the state that this node sees them in."""
    found = sorted(backends, key=lambda backend: (backend.address, backend.port))
    states = [seen_from(node, backend) for backend in found]
    # All down counts as all up.
    serving = "active" if "active" in states else "draining" if "draining" in states else "down"
    endpoints = [
        _endpoint(backend, "HEALTHY" if state == serving else _HEALTH[state]) for backend, state in zip(found, states, strict=True)
    ]
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}


_HEALTH = {"active": "HEALTHY", "draining": "DRAINING", "down": "UNHEALTHY"}


def _endpoint(backend: Backend, health: str) -> Json:
    address = {"socket_address": {"address": backend.address, "port_value": backend.port}}
    return {"endpoint": {"address": address}, "health_status": health}


def _upstream_tls(tls: UpstreamTls, protocol: str, files: Files) -> Json:
    authorities = {"inline_string": tls.pem} if tls.pem else {"filename": _SYSTEM_AUTHORITIES}
    common: Json = {
        "validation_context": {
            "trusted_ca": authorities,
            "match_typed_subject_alt_names": [_san(name) for name in tls.names or (f"DNS:{tls.server_name}",)],
        }
    }
    if protocol != "tcp":
        common["alpn_protocols"] = ["h2"] if protocol == "h2" else ["http/1.1"]
    if tls.client_certificate:
        common["tls_certificate_sds_secret_configs"] = [secret_config(files, tls.client_certificate)]
    return extension(
        "envoy.transport_sockets.tls",
        "extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        {"sni": tls.server_name, "common_tls_context": common},
    )


def _san(name: str) -> Json:
    kind, _, value = name.partition(":")
    return {"san_type": kind, "matcher": {"exact": value}}
