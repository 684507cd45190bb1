"""BackendTLSPolicy."""

from collections.abc import Iterable
from typing import Final

from services.watcher.kinds.fields import Field
from services.watcher.kinds.kind import Kind
from services.watcher.kinds.routes import DECODE, GROUP, PARENT_REFS, hostname, reference
from services.watcher.kinds.schema import CONDITIONS, fields, of_kind
from services.watcher.settings import Settings
from services.watcher.writer.gateway import status_of
from weir.events import BackendTlsPolicyGone, BackendTlsPolicyObserved
from weir.model import BackendRef, Root, SubjectAltName, owner_at


def _read(manifest: Field, root: Root, _: Settings) -> BackendTlsPolicyObserved | None:
    spec, validation = manifest["spec"], manifest["spec"]["validation"]
    targets = spec["targetRefs"].items()
    event = BackendTlsPolicyObserved(
        root=root,
        targets=tuple(_target(item, root) for item in targets),
        sections=tuple(item["sectionName"].text() for item in targets),
        hostname=hostname(validation["hostname"]),
        authorities=tuple(reference(item, root, "ConfigMap") for item in validation["caCertificateRefs"].items()),
        system_authorities=validation["wellKnownCACertificates"].text() == "System",
        names=tuple(_name(item) for item in validation["subjectAltNames"].items()),
    )
    return None if manifest.faults else event


def _bundles(event: BackendTlsPolicyObserved) -> Iterable[str]:
    return {owner_at(event.root, to) for to in event.authorities}


def _target(item: Field, root: Root) -> BackendRef:
    return BackendRef(group=item["group"].text(), kind=item["kind"].text(), name=item["name"].text(), namespace=root.namespace)


def _name(item: Field) -> SubjectAltName:
    kind = item["type"].word(("Hostname", "URI"), "Hostname")
    return SubjectAltName(kind=kind, value=item["uri" if kind == "URI" else "hostname"].text())


BACKENDTLSPOLICY: Final = Kind(
    word="BackendTLSPolicy",
    plural="backendtlspolicies",
    group=GROUP,
    versions=("v1", "v1alpha3"),
    optional=True,
    decode=DECODE,
    read=_read,
    observed=BackendTlsPolicyObserved,
    gone=BackendTlsPolicyGone,
    refers=_bundles,
    status=status_of("BackendTLSPolicy"),
    fields=of_kind(
        spec=fields(
            "options",
            targetRefs=fields("group kind name sectionName"),
            validation=fields(
                "hostname wellKnownCACertificates",
                caCertificateRefs=fields("group kind name"),
                subjectAltNames=fields("hostname type uri"),
            ),
        ),
        status=fields("", ancestors=fields("controllerName", ancestorRef=PARENT_REFS, conditions=CONDITIONS)),
    ),
)
