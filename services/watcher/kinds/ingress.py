"""Ingress.  Rules are those of the API server's validation (pkg/apis/networking/validation)."""

import re
from typing import Final

from services.watcher.kinds.annotations import INGRESS_CLASS
from services.watcher.kinds.fields import Field
from services.watcher.kinds.ingressclass import GROUP
from services.watcher.kinds.kind import Kind
from services.watcher.kinds.routes import DECODE, hostname
from services.watcher.kinds.schema import Fields, fields, of_kind
from services.watcher.settings import Settings
from services.watcher.writer.ingress import STATUS
from weir.events import IngressGone, IngressObserved
from weir.ingresses import needs
from weir.model import BackendRef, IngressPath, IngressRule, IngressTls, PathMatch, Root, parse_address

_KINDS: Final = {"Exact": "Exact", "Prefix": "PathPrefix", "ImplementationSpecific": "PathPrefix"}
_UNCLEAR: Final = re.compile(r"//|/\.\.?(?:/|\Z)|%2f", re.IGNORECASE)  # parts of a path that a proxy normalizes
_BACKEND: Final[Fields] = fields("", resource=fields("apiGroup kind name"), service=fields("name", port=fields("name number")))


def _read(manifest: Field, root: Root, _: Settings) -> IngressObserved | None:
    spec = manifest["spec"]
    rules, default = spec["rules"].items(), spec["defaultBackend"]
    if not rules and default.value is None:
        spec.fail("rules, or a defaultBackend", "neither")
    event = IngressObserved(
        root=root,
        class_name=spec["ingressClassName"].text() or manifest["metadata"]["annotations"][INGRESS_CLASS].text(),
        rules=tuple(_rule(item, root) for item in rules),
        default_backend=_backend(default, root) if default.value is not None else None,
        tls=tuple(_tls(item) for item in spec["tls"].items()),
    )
    return None if manifest.faults else event


def _rule(item: Field, root: Root) -> IngressRule:
    paths = item["http"]["paths"]
    if item["http"].value is not None and not paths.value:
        paths.fail("at least one path")
    return IngressRule(host=_host(item["host"]), paths=tuple(_path(each, root) for each in paths.items()))


def _host(field: Field) -> str:
    if isinstance(field.value, str) and parse_address(field.value):
        field.fail("a hostname, not an address")
        return ""
    return hostname(field)


def _path(item: Field, root: Root) -> IngressPath:
    kind, value = item["pathType"].word(tuple(_KINDS), ""), item["path"].text()
    if not kind and item["pathType"].value in (None, ""):
        item["pathType"].fail(", ".join(_KINDS))
    if not value.startswith("/") and (value or kind != "ImplementationSpecific"):
        item["path"].fail("a path that begins with /")
    elif kind != "ImplementationSpecific" and _UNCLEAR.search(value):
        item["path"].fail("a path without //, /./, /../ and %2f")
    path = value if kind == "Exact" else value.rstrip("/") or "/"
    return IngressPath(path=PathMatch(kind=_KINDS.get(kind, "PathPrefix"), value=path), backend=_backend(item["backend"], root))


def _backend(item: Field, root: Root) -> BackendRef:
    """A Service's port.  A resource is recorded too, for the planner to refuse it as a backend of another kind."""
    service, resource = item["service"], item["resource"]
    if (service.value is None) == (resource.value is None):
        item.fail("a service or a resource", "both" if service.value is not None else "neither")
    if resource.value is not None:
        group, kind = resource["apiGroup"].text(), resource["kind"].text()
        return BackendRef(group=group, kind=kind, name=resource["name"].text(), namespace=root.namespace)
    name, port = service["name"].text(), service["port"]
    if not name:
        service["name"].fail("the name of a Service")
    if (port["name"].value in (None, "")) == (port["number"].value in (None, 0)):
        port.fail("a name or a number")
    return BackendRef(name=name, namespace=root.namespace, port=port["number"].number(0, 65535), port_name=port["name"].text())


def _tls(item: Field) -> IngressTls:
    hosts = tuple(name for each in item["hosts"].items() if (name := _host(each)))
    return IngressTls(hosts=tuple(dict.fromkeys(hosts)), secret=item["secretName"].domain_name())


INGRESS: Final = Kind(
    word="Ingress",
    plural="ingresses",
    group=GROUP,
    versions=("v1",),
    decode=DECODE,
    read=_read,
    observed=IngressObserved,
    gone=IngressGone,
    refers=needs,
    status=STATUS,
    fields=of_kind(
        spec=fields(
            "ingressClassName",
            defaultBackend=_BACKEND,
            rules=fields("host", http=fields("", paths=fields("path pathType", backend=_BACKEND))),
            tls=fields("hosts secretName"),
        ),
        status=fields("", loadBalancer=fields("", ingress=fields("hostname ip", ports=fields("error port protocol")))),
    ),
)
