"""Listeners and their filter chains, as Envoy's configuration.  Pure."""

from collections.abc import Mapping, Sequence

from services.dataplane.l7.protobuf import Files, Json, extension, secret_config, source
from services.dataplane.l7.routes import CORS, SESSIONS
from weir.events import ListenerPlanned
from weir.model import Chain, ClientAuth, UpstreamShare

_BUFFER_BYTES = 32768
_HTTP2: Json = {"max_concurrent_streams": 100, "initial_stream_window_size": 65536, "initial_connection_window_size": 1048576}
_LOG: Json = {
    "time": "%START_TIME%",
    "listener": "%FILTER_CHAIN_NAME%",
    "route": "%ROUTE_NAME%",
    "plan": "%METADATA(VIRTUAL_HOST:weir:plan)%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "vip": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "server_name": "%REQUESTED_SERVER_NAME%",
    "method": "%REQ(:METHOD)%",
    "host": "%REQ(:AUTHORITY)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "flags": "%RESPONSE_FLAGS%",
    "received_bytes": "%BYTES_RECEIVED%",
    "sent_bytes": "%BYTES_SENT%",
    "duration_ms": "%DURATION%",
    "backend_ms": "%RESPONSE_DURATION%",
    "backend": "%UPSTREAM_HOST%",
    "upstream": "%UPSTREAM_CLUSTER%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "request_id": "%REQ(X-REQUEST-ID)%",
}


def listener_name(planned: ListenerPlanned) -> str:
    """ "Gateway/shop/edge:80"."""
    return f"{planned.owner}:{planned.port}"


def routes_name(listener: str, chain: str) -> str:
    """The route configuration of a chain."""
    return f"{listener} {chain}"


def listener(planned: ListenerPlanned, files: Files, routes: Mapping[str, Json] | None = None) -> Json:
    """A port of a Gateway: one socket for each VIP.  The VIP may come to this node later: `freebind`.

    routes: by name, to be part of it instead of files of their own.
    """
    name = listener_name(planned)
    first, *more = [{"address": _address(vip, planned.port)} for vip in planned.vips]
    return {
        "name": name,
        **first,
        **({"additional_addresses": more} if more else {}),
        "stat_prefix": name,
        "freebind": True,
        "traffic_direction": "INBOUND",
        "per_connection_buffer_limit_bytes": _BUFFER_BYTES,
        "listener_filters": _listener_filters(planned.chains),
        "filter_chains": [_chain(planned, chain, files, routes) for chain in planned.chains],
    }


def _address(address: str, port: int) -> Json:
    return {"socket_address": {"address": address, "port_value": port}}


def _listener_filters(chains: Sequence[Chain]) -> list[Json]:
    if not any(chain.tls for chain in chains):
        return []
    return [extension("envoy.filters.listener.tls_inspector", "extensions.filters.listener.tls_inspector.v3.TlsInspector")]


def _chain(planned: ListenerPlanned, chain: Chain, files: Files, routes: Mapping[str, Json] | None) -> Json:
    match: Json = {"server_names": list(chain.hostnames)} if chain.hostnames else {}
    if chain.tls:
        match["transport_protocol"] = "tls"
    name = routes_name(listener_name(planned), chain.name)
    filters = [http(name, _routes_of(name, files, routes)) if chain.http else _tcp(name, chain.shares)]
    tls = {"transport_socket": _downstream_tls(chain, files)} if chain.tls == "Terminate" else {}
    return {"name": name, "filter_chain_match": match, "filters": filters, **tls}


def _routes_of(name: str, files: Files, routes: Mapping[str, Json] | None) -> Json:
    if routes is not None:
        return {"route_config": routes[name]}
    return {"rds": {"route_config_name": name, "config_source": source(files.routes(name))}}


def http(name: str, routes: Json) -> Json:
    """The filter that serves HTTP.   routes: the field that says where its routes are."""
    return extension(
        "envoy.filters.network.http_connection_manager",
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        {
            "stat_prefix": name,
            **routes,
            "http_filters": [
                extension("envoy.filters.http.grpc_web", "extensions.filters.http.grpc_web.v3.GrpcWeb"),
                extension(CORS, "extensions.filters.http.cors.v3.Cors"),
                extension(SESSIONS, "extensions.filters.http.stateful_session.v3.StatefulSession"),
                extension("envoy.filters.http.router", "extensions.filters.http.router.v3.Router", {"suppress_envoy_headers": True}),
            ],
            "use_remote_address": True,
            "server_header_transformation": "PASS_THROUGH",
            "normalize_path": True,
            "merge_slashes": True,
            "path_with_escaped_slashes_action": "UNESCAPE_AND_REDIRECT",
            "strip_trailing_host_dot": True,
            "common_http_protocol_options": {"idle_timeout": "3600s", "headers_with_underscores_action": "REJECT_REQUEST"},
            "http2_protocol_options": _HTTP2,
            "stream_idle_timeout": "300s",
            "request_headers_timeout": "10s",
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "access_log": [_access_log()],
        },
    )


def _access_log() -> Json:
    return extension(
        "envoy.access_loggers.stdout",
        "extensions.access_loggers.stream.v3.StdoutAccessLog",
        {"log_format": {"json_format": _LOG, "omit_empty_values": True}},
    )


def _tcp(name: str, shares: Sequence[UpstreamShare]) -> Json:
    """A connection without a backend is closed: the cluster of an empty name never exists."""
    serving = [share for share in shares if share.weight]
    weighted = {"clusters": [{"name": share.upstream, "weight": share.weight} for share in serving]}
    to: Json = {"weighted_clusters": weighted} if len(serving) > 1 else {"cluster": serving[0].upstream if serving else "none"}
    return extension(
        "envoy.filters.network.tcp_proxy",
        "extensions.filters.network.tcp_proxy.v3.TcpProxy",
        {"stat_prefix": name, **to, "access_log": [_access_log()]},
    )


def _downstream_tls(chain: Chain, files: Files) -> Json:
    common: Json = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "tls_certificate_sds_secret_configs": [secret_config(files, name) for name in chain.certificates],
    }
    if chain.http:
        common["alpn_protocols"] = ["h2", "http/1.1"]
    if chain.client_auth:
        common["validation_context"] = _client_validation(chain.client_auth)
    context: Json = {"common_tls_context": common}
    if chain.client_auth:
        context["require_client_certificate"] = chain.client_auth.required
    return extension("envoy.transport_sockets.tls", "extensions.transport_sockets.tls.v3.DownstreamTlsContext", context)


def _client_validation(auth: ClientAuth) -> Json:
    """Without `required`, a certificate is asked for, and any one or none is accepted."""
    fallback: Json = {} if auth.required else {"trust_chain_verification": "ACCEPT_UNTRUSTED"}
    return {"trusted_ca": {"inline_string": auth.pem}, **fallback}
