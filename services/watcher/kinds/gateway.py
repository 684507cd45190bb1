"""Gateway."""

from collections.abc import Iterable
from typing import Final

from services.watcher.kinds.annotations import Asked
from services.watcher.kinds.fields import Field
from services.watcher.kinds.kind import Kind
from services.watcher.kinds.listeners import LISTENER_STATUS, LISTENERS, listeners, namespaces
from services.watcher.kinds.routes import DECODE, GROUP, reference
from services.watcher.kinds.schema import CONDITIONS, SELECTOR, fields, of_kind
from services.watcher.settings import Settings
from services.watcher.writer.gateway import status_of
from weir.events import GatewayGone, GatewayObserved, ListenerSetObserved
from weir.model import MODES, ClientValidation, GatewayAddress, Root, owner_at

_REFS: Final = fields("group kind name namespace")
_VALIDATION: Final = fields("mode", caCertificateRefs=_REFS)


def _read(manifest: Field, root: Root, settings: Settings) -> GatewayObserved | None:
    spec, infrastructure = manifest["spec"], manifest["spec"]["infrastructure"]
    asked = Asked(manifest["metadata"]["annotations"])
    parameters, certificate = infrastructure["parametersRef"], spec["tls"]["backend"]["clientCertificateRef"]
    event = GatewayObserved(
        root=root,
        class_name=spec["gatewayClassName"].text(),
        listeners=listeners(spec, root),
        addresses=tuple(_address(item) for item in spec["addresses"].items()),
        labels=infrastructure["labels"].texts(),
        annotations=infrastructure["annotations"].texts(),
        parameters=reference(parameters, root) if parameters.value is not None else None,
        listener_sets=namespaces(spec["allowedListeners"]["namespaces"], "None"),
        client_validations=_validations(spec["tls"]["frontend"], root),
        client_certificate=reference(certificate, root, "Secret") if certificate.value is not None else None,
        mode=asked["lbmode"].word(MODES, settings.mode),
        requested=asked.texts(),
    )
    return None if manifest.faults else event


def bundles(event: GatewayObserved | ListenerSetObserved) -> Iterable[str]:
    """The Secrets and ConfigMaps that it needs in the log."""
    refs = [to for each in event.listeners if each.tls for to in each.tls.certificates]
    if isinstance(event, GatewayObserved):
        refs += [to for each in event.client_validations for to in each.authorities]
        refs += [event.client_certificate] if event.client_certificate else []
    return {owner_at(event.root, to) for to in refs}


def _address(item: Field) -> GatewayAddress:
    return GatewayAddress(type=item["type"].text() or "IPAddress", value=item["value"].text())


def _validations(frontend: Field, root: Root) -> tuple[ClientValidation, ...]:
    """Those of single ports, and the default (port 0)."""
    found = [_validation(frontend["default"]["validation"], root, 0)]
    found += [_validation(item["tls"]["validation"], root, item["port"].number(1, 65535, 1)) for item in frontend["perPort"].items()]
    return tuple(each for each in found if each)


def _validation(item: Field, root: Root, port: int) -> ClientValidation | None:
    if item.value is None:
        return None
    return ClientValidation(
        port=port,
        authorities=tuple(reference(each, root, "ConfigMap") for each in item["caCertificateRefs"].items()),
        mode=item["mode"].word(("AllowValidOnly", "AllowInsecureFallback"), "AllowValidOnly"),
    )


GATEWAY: Final = Kind(
    word="Gateway",
    plural="gateways",
    group=GROUP,
    versions=("v1", "v1beta1"),
    optional=True,
    decode=DECODE,
    read=_read,
    observed=GatewayObserved,
    gone=GatewayGone,
    refers=bundles,
    status=status_of("Gateway"),
    fields=of_kind(
        spec=fields(
            "defaultScope gatewayClassName",
            addresses=fields("type value"),
            allowedListeners=fields("", namespaces=fields("from", selector=SELECTOR)),
            infrastructure=fields("annotations labels", parametersRef=fields("group kind name")),
            listeners=LISTENERS,
            tls=fields(
                "",
                backend=fields("", clientCertificateRef=_REFS),
                frontend=fields(
                    "", default=fields("", validation=_VALIDATION), perPort=fields("port", tls=fields("", validation=_VALIDATION))
                ),
            ),
        ),
        status=fields("attachedListenerSets", addresses=fields("type value"), conditions=CONDITIONS, listeners=LISTENER_STATUS),
    ),
)
