"""Status of GatewayClasses, Gateways, listeners, routes and policies: reasons and words of the Gateway API.

`Programmed` comes from what nodes confirmed.  observedGeneration is the root's generation everywhere, so it is not repeated here.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from services.planner.gateway.attach import Attached, attach, parent_gateway
from services.planner.gateway.conditions import no, refused, resolved, yes
from services.planner.gateway.hosts import unknown_filters
from services.planner.gateway.listeners import Entry, allows, controller_of, entries_of, is_ours, kind_refs
from services.planner.gateway.references import Fault, backend_of, certificate_of
from services.planner.gateway.upstreams import authority_faults, share_of
from weir.decider import World
from weir.events import (
    BackendTlsPolicyObserved,
    ClassStatusPlanned,
    GatewayClassObserved,
    GatewayObserved,
    GatewayStatusPlanned,
    L4RouteObserved,
    L7RouteObserved,
    ListenerSetObserved,
    RouteObserved,
    RouteStatusPlanned,
    UdpRouteObserved,
    VipAllocated,
    VipDenied,
)
from weir.model import BackendRef, Condition, ListenerStatus, ParentRef, ParentStatus, family_of
from weir.words import few

FEATURES: Final = (
    *("BackendTLSPolicy", "BackendTLSPolicySANValidation", "GRPCRoute", "GRPCRouteNamedRouteRule", "Gateway", "GatewayAddressEmpty"),
    *("GatewayBackendClientCertificate", "GatewayFrontendClientCertificateValidation"),
    *("GatewayFrontendClientCertificateValidationInsecureFallback", "GatewayHTTPListenerIsolation"),
    *("GatewayHTTPSListenerDetectMisdirectedRequests", "GatewayInfrastructure", "GatewayPort8080", "GatewayStaticAddresses", "HTTPRoute"),
    *("HTTPRoute303RedirectStatusCode", "HTTPRoute307RedirectStatusCode", "HTTPRoute308RedirectStatusCode", "HTTPRouteBackendProtocolH2C"),
    *("HTTPRouteBackendProtocolWebSocket", "HTTPRouteBackendRequestHeaderModification", "HTTPRouteBackendTimeout", "HTTPRouteCORS"),
    *("HTTPRouteDestinationPortMatching", "HTTPRouteHostRewrite", "HTTPRouteMethodMatching", "HTTPRouteNamedRouteRule"),
    *("HTTPRouteParentRefPort", "HTTPRoutePathRedirect", "HTTPRoutePathRewrite", "HTTPRoutePortRedirect", "HTTPRouteQueryParamMatching"),
    *("HTTPRouteRequestMirror", "HTTPRouteRequestMultipleMirrors", "HTTPRouteRequestPercentageMirror", "HTTPRouteRequestTimeout"),
    *("HTTPRouteResponseHeaderModification", "HTTPRouteRetry", "HTTPRouteRetryBackendTimeout", "HTTPRouteRetryConnectionError"),
    *("HTTPRouteSchemeRedirect", "ListenerSet", "ReferenceGrant", "TCPRoute", "TLSRoute", "TLSRouteModeMixed", "TLSRouteModeTerminate"),
    "UDPRoute",
)


def class_status(found: GatewayClassObserved) -> ClassStatusPlanned:
    """Of a class that is ours."""
    wrong = f"parametersRef {found.parameters.kind} {found.parameters.name}: Weir takes none" if found.parameters else ""
    accepted = Condition(type="Accepted", status=not wrong, reason="InvalidParameters" if wrong else "Accepted", message=wrong)
    return ClassStatusPlanned(
        owner=found.root.owner, conditions=(accepted, yes("SupportedVersion", "SupportedVersion")), features=FEATURES, root=found.root
    )


# ── Gateways and ListenerSets ──────────────────────────────────────────────────────────────────────────────────────


def gateway_status(
    world: World, gateway: GatewayObserved, entries: Sequence[Entry], attached: Sequence[Attached], programmed: Condition, sets: int
) -> GatewayStatusPlanned:
    """programmed: what nodes confirmed of all that is planned for the Gateway.   sets: how many ListenerSets serve."""
    vips = vips_of(world, gateway)
    own = [entry for entry in entries if entry.holder is gateway]
    accepted = _accepted(gateway, own)
    state = _gateway_programmed(world, gateway, entries, programmed) if accepted.status else no("Programmed", accepted.reason)
    conditions = [accepted, state]
    if gateway.client_certificate:
        found = certificate_of(world, gateway.root, gateway.client_certificate, "InvalidClientCertificateRef")
        conditions.append(resolved([found] if isinstance(found, Fault) else []))
    if any(each.mode == "AllowInsecureFallback" for each in gateway.client_validations):
        conditions.append(yes("InsecureFrontendValidationMode", "ConfigurationChanged"))
    return GatewayStatusPlanned(
        owner=gateway.root.owner,
        addresses=tuple(vips),
        conditions=tuple(conditions),
        listeners=tuple(listener_status(entry, attached, state) for entry in own),
        listener_sets=sets,
        root=gateway.root,
    )


def set_status(
    world: World,
    found: ListenerSetObserved,
    gateway: GatewayObserved,
    entries: Sequence[Entry],
    attached: Sequence[Attached],
    programmed: Condition,
) -> GatewayStatusPlanned:
    """Status of a ListenerSet whose Gateway is ours."""
    if not allows(world, gateway, found):
        words = f"Gateway {gateway.root.path} allows no ListenerSet from namespace {found.root.namespace}"
        conditions = (no("Accepted", "NotAllowed", words), no("Programmed", "NotAllowed", words))
        return GatewayStatusPlanned(owner=found.root.owner, conditions=conditions, root=found.root)
    own = [entry for entry in entries if entry.holder is found]
    valid = [entry for entry in own if entry.serves]
    state = _gateway_programmed(world, gateway, entries, programmed)
    if valid:
        conditions = (yes("Accepted", "Accepted"), state)
    else:
        conditions = (no("Accepted", "ListenersNotValid", "no listener can be served"), no("Programmed", "ListenersNotValid"))
    listeners = tuple(listener_status(entry, attached, state) for entry in own)
    return GatewayStatusPlanned(owner=found.root.owner, conditions=conditions, listeners=listeners, root=found.root)


def listener_status(entry: Entry, attached: Iterable[Attached], programmed: Condition) -> ListenerStatus:
    """programmed: the Gateway's."""
    routes = {each.route.root.owner for each in attached if each.entry is entry}
    refused = entry.refused or (Fault(entry.conflict, "another listener has its port") if entry.conflict else None)
    invalid = refused or (entry.unresolved[0] if entry.unresolved and not entry.serves else None)
    conflicted = yes("Conflicted", entry.conflict) if entry.conflict else no("Conflicted", "NoConflicts")
    state = (
        no("Programmed", entry.conflict or "Invalid", invalid.message)
        if invalid
        else no("Programmed", "Invalid")
        if not entry.serves
        else programmed
    )
    return ListenerStatus(
        name=entry.listener.name,
        attached=len(routes),
        kinds=kind_refs(entry),
        port=entry.listener.port,
        conditions=(
            no("Accepted", refused.reason, refused.message) if refused else yes("Accepted", "Accepted"),
            state,
            resolved(entry.unresolved),
            conflicted,
        ),
    )


def vips_of(world: World, gateway: GatewayObserved) -> list[str]:
    """Addresses that the Gateway holds, IPv4 first."""
    found = world.find("concerned", gateway.root.owner, VipAllocated)
    return sorted((vip.vip for vip in found), key=lambda vip: (family_of(vip), vip))


def _accepted(gateway: GatewayObserved, own: Sequence[Entry]) -> Condition:
    if gateway.parameters:
        words = f"infrastructure.parametersRef {gateway.parameters.kind} {gateway.parameters.name}: Weir takes none"
        return no("Accepted", "InvalidParameters", words)
    if unknown := [each.type for each in gateway.addresses if each.type != "IPAddress"]:
        return no("Accepted", "UnsupportedAddress", f"address type {unknown[0]}: expected IPAddress")
    if invalid := [entry.listener.name for entry in own if entry.refused or entry.conflict]:
        words = f"not accepted: {few(invalid)}"
        return Condition(type="Accepted", status=len(invalid) < len(own), reason="ListenersNotValid", message=words)
    return yes("Accepted", "Accepted")


def _gateway_programmed(world: World, gateway: GatewayObserved, entries: Sequence[Entry], programmed: Condition) -> Condition:
    denied = world.find("concerned", gateway.root.owner, VipDenied)
    vips = vips_of(world, gateway)
    if denied and gateway.addresses:
        return no("Programmed", "AddressNotUsable", denied[0].message)
    if not vips:
        return no("Programmed", "AddressNotAssigned", denied[0].message if denied else "no address was given or denied yet")
    if not any(entry.serves for entry in entries):
        return no("Programmed", "Invalid", "no listener can be served")
    return programmed


# ── routes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def route_status(world: World, route: RouteObserved) -> RouteStatusPlanned | None:
    """Status of a route by parent, of parents that are ours; None where none is."""
    parents: list[ParentStatus] = []
    for parent in route.parents:
        gateway = parent_gateway(world, route.root, parent)
        if not gateway or not is_ours(world, gateway):
            continue
        _, fault = attach(world, route, parent, entries_of(world, gateway))
        fault = fault or refused(world, route.root.owner)
        accepted = no("Accepted", fault.reason, fault.message) if fault else _filters_accepted(route)
        conditions = (accepted, resolved(faults_of(world, gateway, route)))
        parents.append(ParentStatus(parent=parent, controller=controller_of(world, gateway), conditions=conditions))
    return RouteStatusPlanned(owner=route.root.owner, parents=tuple(parents), root=route.root) if parents else None


def faults_of(world: World, gateway: GatewayObserved, route: RouteObserved) -> list[Fault]:
    """What is wrong with the backends that the route refers to."""
    if isinstance(route, UdpRouteObserved):
        found = (backend_of(world, route.root, ref, "UDP") for ref in backend_refs(route))
        return [each for each in found if isinstance(each, Fault)]
    shares = (share_of(world, gateway, route.root, ref) for ref in backend_refs(route))
    return [share.fault for share in shares if share.fault]


def backend_refs(route: RouteObserved) -> list[BackendRef]:
    """The backends of all rules, those of mirrors among them."""
    if isinstance(route, L4RouteObserved):
        return [ref for rule in route.rules for ref in rule.backends]
    refs: list[BackendRef] = []
    for rule in route.rules if isinstance(route, L7RouteObserved) else ():
        refs += [*rule.backends, *(each.mirror.backend for each in rule.filters if each.mirror)]
    return refs


def _filters_accepted(route: RouteObserved) -> Condition:
    for rule in route.rules if isinstance(route, L7RouteObserved) else ():
        if unknown := unknown_filters(rule):
            return no("Accepted", "UnsupportedValue", f"filter {unknown[0].type} is not supported")
    return yes("Accepted", "Accepted")


# ── BackendTLSPolicy ───────────────────────────────────────────────────────────────────────────────────────────────


def policy_status(world: World, policy: BackendTlsPolicyObserved, gateways: Iterable[GatewayObserved]) -> RouteStatusPlanned | None:
    """Status by ancestor: the Gateways that reach a Service which the policy targets."""
    pem, faults = authority_faults(world, policy)
    conflicted = _is_conflicted(world, policy)
    if conflicted:
        accepted = no("Accepted", "Conflicted", "another BackendTLSPolicy counts for the same target")
    elif faults and not pem:
        accepted = no("Accepted", "NoValidCACertificate", faults[0].message)
    else:
        accepted = yes("Accepted", "Accepted")
    conditions = (accepted, resolved(faults))
    ancestors = [
        ParentStatus(
            parent=ParentRef(name=each.root.name, namespace=each.root.namespace),
            controller=controller_of(world, each),
            conditions=conditions,
        )
        for each in sorted(gateways, key=lambda each: each.root.path)
    ]
    return RouteStatusPlanned(owner=policy.root.owner, parents=tuple(ancestors), root=policy.root) if ancestors else None


def _is_conflicted(world: World, policy: BackendTlsPolicyObserved) -> bool:
    """Whether another policy counts for each port of a Service that this one targets in the same way."""
    for target, section in zip(policy.targets, policy.sections, strict=True):
        others = world.find("policy of", f"Service/{policy.root.space}/{target.name}", BackendTlsPolicyObserved)
        for other in others:
            same = any(each.name == target.name and theirs == section for each, theirs in zip(other.targets, other.sections, strict=True))
            if same and (other.root.created, other.root.path) < (policy.root.created, policy.root.path):
                return True
    return False
