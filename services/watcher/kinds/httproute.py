"""HTTPRoute."""

from typing import Final

from msgspec.structs import replace

from services.watcher.kinds.annotations import RETRIES, RETRY_ON
from services.watcher.kinds.fields import Field
from services.watcher.kinds.kind import Kind
from services.watcher.kinds.routes import (
    DECODE,
    GROUP,
    HTTP_RULES,
    PARENT_REFS,
    ROUTE_STATUS,
    backend_services,
    hostname,
    http_rules,
    parents,
)
from services.watcher.kinds.schema import fields, of_kind
from services.watcher.settings import Settings
from services.watcher.writer.gateway import status_of
from weir.events import HttpRouteGone, HttpRouteObserved
from weir.model import Retry, Root

_RETRIED: Final = {  # Envoy's word -> the statuses it stands for; what fails without a status is retried wherever retries are
    "5xx": tuple(range(500, 512)),  # those with a name
    "gateway-error": (502, 503, 504),
    "retriable-4xx": (409,),
    **dict.fromkeys(("reset", "connect-failure", "refused-stream"), ()),
}


def _read(manifest: Field, root: Root, _: Settings) -> HttpRouteObserved | None:
    spec = manifest["spec"]
    retry = _asked_retry(manifest["metadata"]["annotations"])
    event = HttpRouteObserved(
        root=root,
        parents=parents(spec, root),
        hostnames=tuple(name for item in spec["hostnames"].items() if (name := hostname(item))),
        rules=tuple(each if each.retry or not retry else replace(each, retry=retry) for each in http_rules(spec, root)),
    )
    return None if manifest.faults else event


def _asked_retry(annotations: Field) -> Retry | None:
    """By annotations, for rules that have no `retry`: some guides write them in the names of Envoy Gateway, with Envoy's words."""
    asked = annotations[RETRY_ON]
    words = [word for part in asked.text().split(",") if (word := part.strip())]
    if unknown := [word for word in words if word not in _RETRIED]:
        asked.fail(", ".join(_RETRIED), ", ".join(unknown))
    codes = tuple(sorted({code for word in words for code in _RETRIED.get(word, ())}))
    attempts = annotations[RETRIES].digits(0, 1000, 1)
    return Retry(codes=codes, attempts=attempts) if words else None


HTTPROUTE: Final = Kind(
    word="HTTPRoute",
    plural="httproutes",
    group=GROUP,
    versions=("v1", "v1beta1"),
    optional=True,
    decode=DECODE,
    read=_read,
    observed=HttpRouteObserved,
    gone=HttpRouteGone,
    refers=backend_services,
    status=status_of("HTTPRoute"),
    fields=of_kind(spec=fields("hostnames useDefaultGateways", parentRefs=PARENT_REFS, rules=HTTP_RULES), status=ROUTE_STATUS),
)
