"""The Service of a Gateway that has `spec.infrastructure`: it bears the labels and annotations, and the VIPs as a load balancer's.

So the Gateway is found by who looks for Services of type LoadBalancer: kubectl, external-dns.  It has no selector, and a class that
nobody serves: no packet passes by it.  It is collected with its Gateway; a Service of that name that somebody else made is left alone.
"""

import re
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

from services.watcher.writer.conditions import planned_status, same
from services.watcher.writer.status import Json, Mark, View, Wanted
from weir.decider import World
from weir.events import AnyEvent, GatewayObserved, GatewayStatusPlanned, object_key
from weir.model import name_in

CLASS: Final = "weir.dev/gateway"
GATEWAY_NAME: Final = "gateway.networking.k8s.io/gateway-name"  # GEP-1762, as the Service's name
CLASS_NAME: Final = "gateway.networking.k8s.io/gateway-class-name"
_MOST: Final = 63  # characters of a label's value, and of a Service's name
_NAME: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


def services_of(event: AnyEvent | None) -> Iterable[str]:
    """The owner that the Service of a Gateway would be.  An index of a world."""
    if isinstance(event, GatewayObserved):
        yield f"Service/{name_in(event.root.source, f'{event.root.namespace}/{name_of(event)}')}"


def gateway_of(view: View) -> tuple[GatewayObserved, GatewayStatusPlanned] | None:
    """The Gateway of Weir's that this Service is, or would be, made for, and its status; None where somebody else made the Service.

    view.world: with the index `services_of`.
    """
    seen = view.seen("Service")
    owners = {each.uid for each in seen.metadata.ownerReferences} if seen else set()
    for gateway in view.world.find("service of gateway", view.owner("Service"), GatewayObserved):
        planned = planned_status(view.world, gateway.root.owner)
        if isinstance(planned, GatewayStatusPlanned) and (not seen or gateway.root.uid in owners):
            return gateway, planned
    return None


def name_of(gateway: GatewayObserved) -> str:
    """NAME-CLASS; where a Service cannot be called so, as much of it as can, and a digest."""
    plain = f"{gateway.root.name}-{gateway.class_name}"
    if _NAME.fullmatch(plain) and len(plain) <= _MOST:
        return plain
    words = re.sub("[^a-z0-9]", "-", plain)
    return _shortened(words if words[0].isalpha() else f"g-{words}", plain)


def _shortened(words: str, whole: str) -> str:
    digest = blake2b(whole.encode(), digest_size=4).hexdigest()
    return f"{words[: _MOST - 1 - len(digest)].rstrip('-')}-{digest}"


def wanted_for(view: View, gateway: GatewayObserved, planned: GatewayStatusPlanned) -> Wanted | None:
    """How the Service should be; None where it is not there, and the Gateway asks for nothing that it would bear."""
    if not (gateway.labels or gateway.annotations or view.seen("Service")):
        return None
    status: Json = {"loadBalancer": {"ingress": [{"ip": vip, "ipMode": "Proxy"} for vip in planned.addresses]}}
    stands = {"loadBalancer": view.before.get("loadBalancer") or {}}
    return Wanted(status=None if same(status, stands) else status, created=_body(gateway), maintained=True)


def _body(gateway: GatewayObserved) -> Json:
    api, root = "gateway.networking.k8s.io/v1", gateway.root
    name = root.name if len(root.name) <= _MOST else _shortened(root.name, root.name)
    ports = dict.fromkeys((each.port, "UDP" if each.protocol == "UDP" else "TCP") for each in gateway.listeners)
    return {
        "metadata": {
            "labels": {**gateway.labels, GATEWAY_NAME: name, CLASS_NAME: gateway.class_name},
            "annotations": dict(gateway.annotations),
            "ownerReferences": [{"apiVersion": api, "kind": "Gateway", "name": root.name, "uid": root.uid}],
        },
        "spec": {
            "type": "LoadBalancer",
            "loadBalancerClass": CLASS,
            "allocateLoadBalancerNodePorts": False,
            "ports": [{"name": f"{protocol.lower()}-{port}", "port": port, "protocol": protocol} for port, protocol in ports],
        },
    }


def _mark(gateway: GatewayObserved) -> Mark:
    return Mark(gateway.root.source, gateway.root.namespace, name_of(gateway))


def observed(_: World, event: GatewayObserved, __: AnyEvent | None) -> Iterable[Mark]:
    """Its infrastructure or its listeners may have changed."""
    return (_mark(event),)


def planned(world: World, event: GatewayStatusPlanned, _: AnyEvent | None) -> Iterable[Mark]:
    """Its VIPs may have changed."""
    gateway = world.get(object_key(event.owner))
    return (_mark(gateway),) if isinstance(gateway, GatewayObserved) else ()


def missing(world: World) -> Iterable[Mark]:
    """Of every Gateway that asks for one."""
    return (_mark(gateway) for gateway in world.of(GatewayObserved) if gateway.labels or gateway.annotations)
