"""Ingresses: the address of each, and what its status says."""

from collections.abc import Iterator

from weir.decider import World
from weir.events import GatewayStatusPlanned, IngressClassObserved, IngressObserved, status_key
from weir.ingresses import class_of
from weir.model import Condition
from weir.view.gateways import SERVING, state_of
from weir.view.value import View
from weir.words import few

NO_CLASS = "NoIngressClass"


class IngressView(View, frozen=True):
    """One Ingress of a class that Weir serves, or of one that does not exist.  class_name: of the default class where it names none."""

    name: str
    class_name: str
    hosts: tuple[str, ...]
    vips: tuple[str, ...]
    tls: bool
    state: str
    message: str
    conditions: tuple[Condition, ...]

    @property
    def good(self) -> bool:
        return self.state == SERVING


def ingresses(world: World) -> list[IngressView]:
    """Return each Ingress, by name.  Those of other controllers are left out."""
    found = (_ingress(world, each) for each in world.of(IngressObserved))
    return sorted((each for each in found if each), key=lambda each: each.name)


def without_class(world: World) -> Iterator[tuple[IngressObserved, str]]:
    """Yield each Ingress that no controller answers for, and why."""
    for ingress in world.of(IngressObserved):
        if not class_of(world, ingress):
            yield ingress, _no_class(world, ingress)


def _ingress(world: World, ingress: IngressObserved) -> IngressView | None:
    found, status = class_of(world, ingress), world.get(status_key(ingress.root.owner))
    planned = status if isinstance(status, GatewayStatusPlanned) else None
    if found and not planned:
        return None
    conditions = planned.conditions if planned else ()
    state, message = state_of(conditions) if found else (NO_CLASS, _no_class(world, ingress))
    return IngressView(
        name=ingress.root.path,
        class_name=found.root.path if found else ingress.class_name,
        hosts=tuple(dict.fromkeys(rule.host or "*" for rule in ingress.rules)) or ("*",),
        vips=planned.addresses if planned else (),
        tls=bool(ingress.tls),
        state=state,
        message=message,
        conditions=conditions,
    )


def _no_class(world: World, ingress: IngressObserved) -> str:
    ours = few(each.root.name for each in world.of(IngressClassObserved) if each.ours and each.root.source == ingress.root.source)
    got = ingress.class_name or "nothing, and no class is the default"
    return f"spec.ingressClassName: got {got}, accepted: {ours or 'an IngressClass, of which there is none'}"
