"""Status of an Ingress.  It follows from what the log has of its class's plan, so that the class is planned once, whatever asks for it."""

from collections.abc import Iterable, Iterator

from services.planner.gateway.conditions import no, refused, resolved, yes
from services.planner.gateway.references import Fault
from services.planner.gateway.status import vips_of
from services.planner.gateway.upstreams import share_of
from services.planner.ingress.model import entries_of, gateway_of, served_by
from services.planner.shared.programmed import programmed, vip_planned
from weir.decider import World
from weir.events import (
    AnyEvent,
    GatewayObserved,
    GatewayStatusPlanned,
    IngressClassObserved,
    IngressObserved,
    ListenerPlanned,
    Planned,
    VipAllocated,
    VipDenied,
    VirtualHostPlanned,
    key,
    key_of,
)
from weir.model import Condition, PathMatch, endpoint_name
from weir.words import few


def ingress_status(world: World, ingress: IngressObserved, found: IngressClassObserved) -> GatewayStatusPlanned:
    """found: its class, which is ours."""
    gateway = gateway_of(found)
    return GatewayStatusPlanned(
        owner=ingress.root.owner,
        addresses=tuple(vips_of(world, gateway)),
        conditions=(
            _accepted(world, ingress, found),
            resolved(list(_faults(world, gateway, ingress))),
            _programmed(world, gateway, ingress),
        ),
        root=ingress.root,
    )


def claims(event: object) -> Iterable[str]:
    """What only one Ingress of a class can have: each path of each host, and the certificate of a host.  An index of a world."""
    if isinstance(event, IngressObserved):
        yield from (_path(event, rule.host, each.path) for rule in event.rules for each in rule.paths)
        yield from (_certificate(event, host) for host in _secrets(event))


def _path(event: IngressObserved, host: str, path: PathMatch) -> str:
    return f"{event.root.source} {host} {path.kind} {path.value}"


def _certificate(event: IngressObserved, host: str) -> str:
    return f"{event.root.source} {host}"


def _secrets(event: IngressObserved) -> dict[str, str]:
    """TLS host -> the Secret with its certificate; "" is any host."""
    return {host: tls.secret for tls in reversed(event.tls) if tls.secret for host in tls.hosts or ("",)}


def _accepted(world: World, ingress: IngressObserved, found: IngressClassObserved) -> Condition:
    if found.parameters:
        words = f"spec.parameters of IngressClass {found.root.path}: Weir takes none"
        return no("Accepted", "InvalidParameters", words)
    if fault := refused(world, ingress.root.owner):
        return no("Accepted", fault.reason, fault.message)
    if taken := list(dict.fromkeys(_taken(world, ingress, found))):
        return no("Accepted", "Conflicted", few(taken, apart="; "))
    return yes("Accepted", "Accepted")


def _taken(world: World, ingress: IngressObserved, found: IngressClassObserved) -> Iterator[str]:
    """What older Ingresses of the class have already.  Two of one namespace may name one certificate."""
    for rule in ingress.rules:
        for each in rule.paths:
            for other in _older(world, ingress, found, _path(ingress, rule.host, each.path)):
                yield f"{rule.host or '*'}{each.path.value} is served by Ingress {other.root.path}, which comes first"
    for host, secret in _secrets(ingress).items():
        for other in _older(world, ingress, found, _certificate(ingress, host)):
            if (other.root.space, _secrets(other)[host]) != (ingress.root.space, secret):
                yield f"the certificate of {host or 'every host'} is that of Ingress {other.root.path}, which comes first"


def _older(world: World, ingress: IngressObserved, found: IngressClassObserved, claim: str) -> list[IngressObserved]:
    """The Ingresses of the class that made the claim before."""
    own = (ingress.root.created, ingress.root.path)
    others = world.find("ingress claim", claim, IngressObserved)
    return [each for each in others if (each.root.created, each.root.path) < own and served_by(world, each) is found]


def _faults(world: World, gateway: GatewayObserved, ingress: IngressObserved) -> Iterator[Fault]:
    """Why its backends and certificates cannot be used."""
    refs = dict.fromkeys(ingress.backends())
    yield from (fault for ref in refs if (fault := share_of(world, gateway, ingress.root, ref).fault))
    for entry in entries_of(world, gateway, ingress):
        yield from entry.unresolved
    for tls in ingress.tls:
        if not tls.secret:
            yield Fault("InvalidCertificateRef", f"tls of {few(tls.hosts) or 'every host'} has no secretName")


def _programmed(world: World, gateway: GatewayObserved, ingress: IngressObserved) -> Condition:
    """Only what it shares in counts, so that the others of its class do not make it wait."""
    denied = world.find("concerned", gateway.root.owner, VipDenied)
    held = world.find("concerned", gateway.root.owner, VipAllocated)
    if not held:
        return no("Programmed", "AddressNotAssigned", denied[0].message if denied else "no address was given or denied yet")
    ports = (80, 443) if ingress.tls else (80,)
    owner, root, vips = gateway.root.owner, gateway.root, tuple(vip.vip for vip in held)
    keys = [key_of(ListenerPlanned(owner=owner, port=port, vips=vips, chains=(), root=root)) for port in ports]
    keys += [key("planner", "frontend", "", endpoint_name(vip, port, "TCP")) for port in ports for vip in vips]
    shared = [event for where in keys if isinstance(event := world.get(where), Planned) and event.planned_for() == owner]
    entries: list[AnyEvent] = [*shared, *world.find("rules of", ingress.root.owner, VirtualHostPlanned), *map(vip_planned, held)]
    return programmed(world, ingress.root.owner, entries)
