"""GRPCRoute."""

from typing import Final

from services.watcher.kinds.fields import Field
from services.watcher.kinds.kind import Kind
from services.watcher.kinds.routes import (
    DECODE,
    GROUP,
    GRPC_RULES,
    PARENT_REFS,
    ROUTE_STATUS,
    backend_services,
    hostname,
    parents,
    rule,
    value_matches,
)
from services.watcher.kinds.schema import fields, of_kind
from services.watcher.settings import Settings
from services.watcher.writer.gateway import status_of
from weir.events import GrpcRouteGone, GrpcRouteObserved
from weir.model import Match, PathMatch, Root, RouteRule


def _read(manifest: Field, root: Root, _: Settings) -> GrpcRouteObserved | None:
    spec = manifest["spec"]
    event = GrpcRouteObserved(
        root=root,
        parents=parents(spec, root),
        hostnames=tuple(name for item in spec["hostnames"].items() if (name := hostname(item))),
        rules=tuple(_rule(item, root) for item in spec["rules"].items()),
    )
    return None if manifest.faults else event


def _rule(item: Field, root: Root) -> RouteRule:
    return rule(item, root, tuple(_match(each) for each in item["matches"].items()) or (Match(),))


def _match(item: Field) -> Match:
    """A method is a path: /service/method (gRPC over HTTP/2)."""
    method = item["method"]
    kind = method["type"].word(("Exact", "RegularExpression"), "Exact")
    service, name = method["service"].text(), method["method"].text()
    headers = value_matches(item["headers"])
    if not service and not name:
        return Match(headers=headers)
    if kind == "RegularExpression":
        return Match(path=PathMatch(kind=kind, value=f"/{service or '[^/]+'}/{name or '[^/]+'}"), headers=headers)
    if service and name:
        return Match(path=PathMatch(kind="Exact", value=f"/{service}/{name}"), headers=headers)
    if service:
        return Match(path=PathMatch(kind="PathPrefix", value=f"/{service}"), headers=headers)
    return Match(path=PathMatch(kind="RegularExpression", value=f"/[^/]+/{name}"), headers=headers)


GRPCROUTE: Final = Kind(
    word="GRPCRoute",
    plural="grpcroutes",
    group=GROUP,
    versions=("v1", "v1alpha2"),
    optional=True,
    decode=DECODE,
    read=_read,
    observed=GrpcRouteObserved,
    gone=GrpcRouteGone,
    refers=backend_services,
    status=status_of("GRPCRoute"),
    fields=of_kind(spec=fields("hostnames useDefaultGateways", parentRefs=PARENT_REFS, rules=GRPC_RULES), status=ROUTE_STATUS),
)
