"""GatewayClass: `ours` where its controller is one that this installation serves."""

from typing import Final

from services.watcher.kinds.fields import Field
from services.watcher.kinds.kind import Kind
from services.watcher.kinds.routes import DECODE, GROUP, reference
from services.watcher.kinds.schema import CONDITIONS, fields, of_kind
from services.watcher.settings import Settings
from services.watcher.writer.gateway import status_of
from weir.events import GatewayClassGone, GatewayClassObserved
from weir.model import Root


def _read(manifest: Field, root: Root, settings: Settings) -> GatewayClassObserved | None:
    spec = manifest["spec"]
    controller = spec["controllerName"].text()
    event = GatewayClassObserved(
        root=root,
        controller=controller,
        ours=controller in settings.classes,
        parameters=reference(spec["parametersRef"], root) if spec["parametersRef"].value is not None else None,
    )
    return None if manifest.faults else event


GATEWAYCLASS: Final = Kind(
    word="GatewayClass",
    plural="gatewayclasses",
    group=GROUP,
    versions=("v1", "v1beta1"),
    namespaced=False,
    optional=True,
    decode=DECODE,
    read=_read,
    observed=GatewayClassObserved,
    gone=GatewayClassGone,
    status=status_of("GatewayClass"),
    fields=of_kind(
        spec=fields("controllerName description", parametersRef=fields("group kind name namespace")),
        status=fields("", conditions=CONDITIONS, supportedFeatures=fields("name")),
    ),
)
