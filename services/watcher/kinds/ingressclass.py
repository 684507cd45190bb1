"""IngressClass: `ours` where its controller is one that this installation serves, as of a GatewayClass."""

from typing import Final

from services.watcher.kinds.annotations import DEFAULT_CLASS, Asked
from services.watcher.kinds.fields import Field
from services.watcher.kinds.kind import Kind
from services.watcher.kinds.routes import DECODE
from services.watcher.kinds.schema import fields, of_kind
from services.watcher.settings import Settings
from weir.events import IngressClassGone, IngressClassObserved
from weir.model import ObjectRef, Root

GROUP: Final = "networking.k8s.io"


def _read(manifest: Field, root: Root, settings: Settings) -> IngressClassObserved | None:
    spec, annotations = manifest["spec"], manifest["metadata"]["annotations"]
    asked, controller = Asked(annotations), spec["controller"].text()
    for part in (*asked.several("staticIP"), *asked.several("ips")):
        part.address()  # notes what is none
    if not controller:
        spec["controller"].fail("the name of a controller, such as weir.dev/weir")
    event = IngressClassObserved(
        root=root,
        controller=controller,
        ours=controller in settings.classes,
        default=annotations[DEFAULT_CLASS].text() == "true",
        parameters=_parameters(spec["parameters"]) if spec["parameters"].value is not None else None,
        requested=asked.texts(),
    )
    return None if manifest.faults else event


def _parameters(item: Field) -> ObjectRef:
    return ObjectRef(group=item["apiGroup"].text(), kind=item["kind"].text(), name=item["name"].text(), namespace=item["namespace"].text())


INGRESSCLASS: Final = Kind(
    word="IngressClass",
    plural="ingressclasses",
    group=GROUP,
    versions=("v1",),
    namespaced=False,
    decode=DECODE,
    read=_read,
    observed=IngressClassObserved,
    gone=IngressClassGone,
    fields=of_kind(spec=fields("controller", parameters=fields("apiGroup kind name namespace scope"))),
)
