"""What Gateways, routes and policies refer to: whether it exists, is of the right kind, and may be referred to from there.

A reference to another namespace needs a ReferenceGrant there.  One that is not permitted looks like one that does not exist, but for
its reason: nothing of the object is shown.
"""

from collections.abc import Iterable
from typing import NamedTuple

from weir.decider import World
from weir.events import (
    ConfigMapObserved,
    ReferenceGrantObserved,
    SecretObserved,
    ServiceObserved,
    object_key,
)
from weir.model import BackendRef, ObjectRef, Root, ServicePort, name_in, owner_at
from weir.words import few

GROUP = "gateway.networking.k8s.io"


class Fault(NamedTuple):
    """Why a reference cannot be used: the reason of a condition, and its message."""

    reason: str
    message: str


class Certificate(NamedTuple):
    """A Secret that can be served."""

    owner: str  # "Secret/shop/cert"
    digest: str
    names: tuple[str, ...]


class Backend(NamedTuple):
    """A Service's port that can be served."""

    service: ServiceObserved
    port: ServicePort


def permitted(world: World, root: Root, to: ObjectRef | BackendRef) -> bool:
    """Whether the object `root` may refer to `to`."""
    if to.namespace == root.namespace:
        return True
    space = name_in(root.source, to.namespace)
    grants = world.find("grants of", space, ReferenceGrantObserved)
    group = GROUP if root.kind != "Ingress" else "networking.k8s.io"
    return any(
        any((each.group, each.kind, each.namespace) == (group, root.kind, root.namespace) for each in grant.referrers)
        and any((each.group, each.kind) == (to.group, to.kind) and each.name in ("", to.name) for each in grant.targets)
        for grant in grants
    )


def certificate_of(world: World, root: Root, to: ObjectRef, reason: str = "InvalidCertificateRef") -> Certificate | Fault:
    """The certificate that a listener or Gateway refers to.   reason: for what is not one."""
    if (to.group, to.kind) != ("", "Secret"):
        return Fault(reason, f"{to.kind} {to.name}: expected a Secret")
    if not permitted(world, root, to):
        return Fault("RefNotPermitted", f"no ReferenceGrant in namespace {to.namespace} permits Secret {to.name}")
    owner = owner_at(root, to)
    secret = world.get(object_key(owner))
    if not isinstance(secret, SecretObserved):
        return Fault(reason, f"Secret {to.namespace}/{to.name} not found")
    if secret.problem:
        return Fault(reason, f"Secret {to.namespace}/{to.name}: {secret.problem}")
    return Certificate(owner, secret.digest, secret.names)


def authorities_of(
    world: World, root: Root, refs: Iterable[ObjectRef], kind_reason: str = "InvalidCACertificateKind"
) -> tuple[list[str], str, list[Fault]]:
    """The CA bundles that can be used: their owner texts and their PEM; and what is wrong with the others.

    kind_reason: for an object of another kind.
    """
    owners, pem, faults = list[str](), "", list[Fault]()
    for to in refs:
        found = _authority(world, root, to, kind_reason)
        if isinstance(found, Fault):
            faults.append(found)
        else:
            owners.append(found.root.owner)
            pem += found.authorities
    return owners, pem, faults


def _authority(world: World, root: Root, to: ObjectRef, kind_reason: str) -> ConfigMapObserved | Fault:
    if (to.group, to.kind) != ("", "ConfigMap"):
        return Fault(kind_reason, f"{to.kind} {to.name}: expected a ConfigMap")
    if not permitted(world, root, to):
        return Fault("RefNotPermitted", f"no ReferenceGrant in namespace {to.namespace} permits ConfigMap {to.name}")
    bundle = world.get(object_key(owner_at(root, to)))
    if not isinstance(bundle, ConfigMapObserved):
        return Fault("InvalidCACertificateRef", f"ConfigMap {to.namespace}/{to.name} not found")
    if bundle.problem or not bundle.authorities:
        return Fault("InvalidCACertificateRef", f"ConfigMap {to.namespace}/{to.name}: {bundle.problem or 'no key ca.crt'}")
    return bundle


def backend_of(world: World, root: Root, to: BackendRef, protocol: str = "TCP") -> Backend | Fault:
    """The Service's port that a route refers to."""
    if (to.group, to.kind) != ("", "Service"):
        return Fault("InvalidKind", f"{to.kind} {to.name}: only Services can be backends")
    if not permitted(world, root, to):
        return Fault("RefNotPermitted", f"no ReferenceGrant in namespace {to.namespace} permits Service {to.name}")
    service = world.get(object_key(owner_at(root, to)))
    if not isinstance(service, ServiceObserved):
        return Fault("BackendNotFound", f"Service {to.namespace}/{to.name} not found")
    port = next((each for each in service.ports if _is_meant(each, to) and each.protocol == protocol), None)
    if not port:
        ports = few(f"{each.port}/{each.protocol}" for each in service.ports) or "no port"
        meant = to.port_name or to.port
        missing = f"has no port {meant}/{protocol}" if meant else "is referred to without a port"
        return Fault("BackendNotFound", f"Service {to.namespace}/{to.name} {missing}; it has {ports}")
    return Backend(service, port)


def _is_meant(port: ServicePort, to: BackendRef) -> bool:
    return port.name == to.port_name if to.port_name else port.port == to.port
