"""Services' ports as a proxy reaches them: protocol and TLS.  The part adds the backend sets."""

from typing import Final, NamedTuple

from services.planner.gateway.references import Backend, Fault, authorities_of, backend_of, certificate_of
from services.planner.shared.backends import probe_of
from weir.decider import World
from weir.events import BackendTlsPolicyObserved, GatewayObserved, UpstreamPlanned
from weir.model import BackendRef, Root, UpstreamShare, UpstreamTls

MISSING: Final = "missing"  # an upstream of this name is never planned: its share of the requests is answered 500
_H2: Final = ("kubernetes.io/h2c",)


class Share(NamedTuple):
    """One backend reference of a rule, resolved; or why it is not."""

    ref: BackendRef
    upstream: UpstreamPlanned | None
    backend: Backend | None
    fault: Fault | None


def share_of(world: World, gateway: GatewayObserved, route: Root, ref: BackendRef, *, protocol: str = "") -> Share:
    """What a rule of `route` makes of one of its backends.   protocol: of the upstream, where the kind of route says it (h2, tcp)."""
    found = backend_of(world, route, ref)
    if isinstance(found, Fault):
        return Share(ref, None, None, found)
    policy = policy_of(world, found)
    tls = _tls(world, gateway, policy) if policy and protocol != "tcp" else None
    if isinstance(tls, Fault):
        return Share(ref, None, None, tls)
    return Share(ref, _upstream(found, gateway, tls, protocol or _protocol(found)), found, None)


def planned_share(share: Share, *, mirror: bool = False) -> UpstreamShare:
    """As a rule of the plan names it."""
    name = share.upstream.name if share.upstream else MISSING
    return UpstreamShare(upstream=name, weight=share.ref.weight, filters=share.ref.filters, mirror=mirror)


def _protocol(found: Backend) -> str:
    return "h2" if found.port.app_protocol in _H2 else "http1"


def _upstream(found: Backend, gateway: GatewayObserved, tls: UpstreamTls | None, protocol: str) -> UpstreamPlanned:
    words = [gateway.root.path, f"{found.service.root.path}:{found.port.port}", protocol, "tls" if tls else ""]
    name = " ".join(filter(None, words))
    return UpstreamPlanned(
        name=name,
        owner=gateway.root.owner,
        sets=(),
        protocol=protocol,
        tls=tls,
        probe=probe_of(found.service, found.port),
        root=gateway.root,
    )


# ── BackendTLSPolicy ───────────────────────────────────────────────────────────────────────────────────────────────


def policies_on(world: World, found: Backend) -> list[BackendTlsPolicyObserved]:
    """The policies that target the port, the one that counts first: of this port before of all; then the oldest, then by name."""
    ranked = []
    for policy in world.find("policy of", found.service.root.owner, BackendTlsPolicyObserved):
        sections = [
            section for target, section in zip(policy.targets, policy.sections, strict=True) if target.name == found.service.root.name
        ]
        if any(section in ("", found.port.name) for section in sections):
            ranked.append((found.port.name not in sections or not found.port.name, policy.root.created, policy.root.path, policy))
    return [policy for *_, policy in sorted(ranked, key=lambda each: each[:3])]


def policy_of(world: World, found: Backend) -> BackendTlsPolicyObserved | None:
    """The policy that counts for the port."""
    policies = policies_on(world, found)
    return policies[0] if policies else None


def authority_faults(world: World, policy: BackendTlsPolicyObserved) -> tuple[str, list[Fault]]:
    """PEM of the policy's CA bundles, "" for the system's; and what is wrong with it."""
    if policy.system_authorities:
        return "", []
    owners, pem, faults = authorities_of(world, policy.root, policy.authorities, "InvalidKind")
    if not owners and not faults:
        faults = [Fault("NoValidCACertificate", "no CA certificate is named")]
    return pem, faults


def _tls(world: World, gateway: GatewayObserved, policy: BackendTlsPolicyObserved) -> UpstreamTls | Fault:
    pem, faults = authority_faults(world, policy)
    if faults and not pem:
        return Fault("InvalidBackendTLSPolicy", f"BackendTLSPolicy {policy.root.path}: {faults[0].message}")
    names = tuple(f"{'URI' if each.kind == 'URI' else 'DNS'}:{each.value}" for each in policy.names) or (f"DNS:{policy.hostname}",)
    shown = certificate_of(world, gateway.root, gateway.client_certificate) if gateway.client_certificate else None
    usable = shown if shown and not isinstance(shown, Fault) else None
    return UpstreamTls(
        server_name=policy.hostname,
        pem=pem,
        names=names,
        client_certificate=usable.owner if usable else "",
        client_digest=usable.digest if usable else "",
    )
