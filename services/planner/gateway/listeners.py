"""The listeners of a Gateway, its own and those of ListenerSets, with what is wrong with each."""

from collections.abc import Iterable
from functools import cached_property
from typing import Final

from services.planner.gateway.references import GROUP, Certificate, Fault, authorities_of, certificate_of
from weir.decider import World
from weir.events import GatewayClassObserved, GatewayObserved, ListenerSetObserved, NamespaceObserved, key, object_key
from weir.model import Chain, ClientAuth, ClientValidation, Listener, ObjectRef, Root, RouteNamespaces, name_in, selects

KINDS_OF: Final = {
    "HTTP": ("HTTPRoute", "GRPCRoute"),
    "HTTPS": ("HTTPRoute", "GRPCRoute"),
    "TLS": ("TLSRoute",),
    "TCP": ("TCPRoute",),
    "UDP": ("UDPRoute",),
}
_COMPATIBLE: Final = {"HTTP": "HTTP", "HTTPS": "TLS", "TLS": "TLS", "TCP": "TCP", "UDP": "UDP"}  # those of one word share a port


class Entry:
    """One listener in the place where it is declared.  conflict: the reason of its condition Conflicted, "" where it has none."""

    def __init__(self, world: World, gateway: GatewayObserved, holder: GatewayObserved | ListenerSetObserved, listener: Listener) -> None:
        self.world, self.gateway, self.holder, self.listener = world, gateway, holder, listener
        self.conflict = ""

    @property
    def root(self) -> Root:
        """The Gateway or ListenerSet that declares it."""
        return self.holder.root

    @property
    def transport(self) -> str:
        """TCP or UDP."""
        return "UDP" if self.listener.protocol == "UDP" else "TCP"

    @cached_property
    def kinds(self) -> list[str]:
        """Kinds of routes that may attach, as asked for and possible."""
        possible = KINDS_OF.get(self.listener.protocol, ())
        if self.listener.kinds is None:
            return list(possible)
        return [each.kind for each in self.listener.kinds if each.group in ("", GROUP) and each.kind in possible]

    @cached_property
    def certificates(self) -> list[Certificate]:
        """Those that can be served."""
        return [each for each in self._certificates if isinstance(each, Certificate)]

    @cached_property
    def _certificates(self) -> list[Certificate | Fault]:
        tls = self.listener.tls
        terminates = self.listener.protocol == "HTTPS" or (self.listener.protocol == "TLS" and tls and tls.mode == "Terminate")
        if not terminates:
            return []
        refs = tls.certificates if tls else ()
        if not refs:
            return [Fault("InvalidCertificateRef", "tls.certificateRefs is empty")]
        return [certificate_of(self.world, self.root, to) for to in refs]

    @cached_property
    def unresolved(self) -> list[Fault]:
        """Why its references do not resolve."""
        faults = [each for each in self._certificates if isinstance(each, Fault)]
        if self.listener.kinds is not None and len(self.kinds) < len(self.listener.kinds):
            wrong = [each.kind for each in self.listener.kinds if each.kind not in self.kinds or each.group not in ("", GROUP)]
            faults.append(Fault("InvalidRouteKinds", f"{', '.join(wrong)}: a {self.listener.protocol} listener takes {self._taken()}"))
        return faults + self.validation_faults

    def _taken(self) -> str:
        return ", ".join(KINDS_OF.get(self.listener.protocol, ())) or "no routes"

    @cached_property
    def validation(self) -> ClientValidation | None:
        """How its clients authenticate: an HTTPS listener's port, else the Gateway's default."""
        if self.listener.protocol != "HTTPS":
            return None
        by_port = {each.port: each for each in self.gateway.client_validations}
        return by_port.get(self.listener.port) or by_port.get(0)

    @cached_property
    def _authorities(self) -> tuple[list[str], str, list[Fault]]:
        refs = self.validation.authorities if self.validation else ()
        return authorities_of(self.world, self.gateway.root, refs)

    @property
    def validation_faults(self) -> list[Fault]:
        """What is wrong with its CA bundles."""
        return self._authorities[2]

    @cached_property
    def refused(self) -> Fault | None:
        """Why it is not accepted."""
        if self.listener.protocol not in KINDS_OF:
            return Fault("UnsupportedProtocol", f"protocol {self.listener.protocol}: expected {', '.join(KINDS_OF)}")
        if self.validation and not self._authorities[0]:
            return Fault("NoValidCACertificate", "; ".join(fault.message for fault in self.validation_faults) or "no CA bundle")
        return None

    @property
    def serves(self) -> bool:
        """Whether packets may reach it: it is accepted, conflicts with none, and has what it needs."""
        terminates = bool(self._certificates)
        return not self.refused and not self.conflict and (not terminates or bool(self.certificates))

    @property
    def name(self) -> str:
        """Unique among the listeners of its Gateway."""
        return self.listener.name if self.holder is self.gateway else f"{self.root.namespace}/{self.root.name}/{self.listener.name}"

    def client_auth(self) -> ClientAuth | None:
        """For its chain."""
        if not self.validation:
            return None
        owners, pem, _ = self._authorities
        return ClientAuth(authorities=tuple(owners), pem=pem, required=self.validation.mode != "AllowInsecureFallback")

    def chain(self, hostnames: Iterable[str] = ()) -> Chain:
        """Its chain, without shares."""
        listener = self.listener
        tls = "" if listener.protocol in ("HTTP", "TCP") else (listener.tls.mode if listener.tls else "Terminate")
        return Chain(
            name=self.name,
            hostnames=tuple(hostnames) or ((listener.hostname,) if listener.hostname else ()),
            tls=tls,
            certificates=tuple(each.owner for each in self.certificates),
            digests=tuple(each.digest for each in self.certificates),
            client_auth=self.client_auth(),
            http=listener.protocol in ("HTTP", "HTTPS"),
        )


def is_ours(world: World, gateway: GatewayObserved) -> bool:
    """Whether Weir serves the Gateway's class."""
    found = world.get(key("watcher", "gatewayclass", "", name_in(gateway.root.source, gateway.class_name)))
    return isinstance(found, GatewayClassObserved) and found.ours


def controller_of(world: World, gateway: GatewayObserved) -> str:
    """The controllerName of the Gateway's class."""
    found = world.get(key("watcher", "gatewayclass", "", name_in(gateway.root.source, gateway.class_name)))
    return found.controller if isinstance(found, GatewayClassObserved) else ""


def gateway_of(world: World, found: ListenerSetObserved) -> GatewayObserved | None:
    """The Gateway that a ListenerSet names as its parent."""
    parent = found.parent
    if (parent.group, parent.kind) != (GROUP, "Gateway"):
        return None
    gateway = world.get(object_key(f"Gateway/{name_in(found.root.source, f'{parent.namespace}/{parent.name}')}"))
    return gateway if isinstance(gateway, GatewayObserved) else None


def allows(world: World, gateway: GatewayObserved, found: ListenerSetObserved) -> bool:
    """Whether the Gateway takes listeners from this ListenerSet's namespace."""
    return chosen(world, gateway.listener_sets, gateway.root, found.root)


def chosen(world: World, namespaces: RouteNamespaces, holder: Root, guest: Root) -> bool:
    """Whether `guest` is in one of the namespaces that `holder` admits."""
    if holder.source != guest.source:
        return False
    match namespaces.choice:
        case "All":
            return True
        case "Same":
            return guest.namespace == holder.namespace
        case "Selector":
            namespace = world.get(key("watcher", "namespace", "", guest.space))
            labels = namespace.labels if isinstance(namespace, NamespaceObserved) else {}
            return selects(namespaces.selector, {"kubernetes.io/metadata.name": guest.namespace, **labels})
    return False


def sets_of(world: World, gateway: GatewayObserved) -> list[ListenerSetObserved]:
    """The ListenerSets that name the Gateway and that it admits: oldest first, then by name."""
    found = world.find("parent", gateway.root.owner, ListenerSetObserved)
    return sorted((each for each in found if allows(world, gateway, each)), key=lambda each: (each.root.created, each.root.path))


def entries_of(world: World, gateway: GatewayObserved) -> list[Entry]:
    """All listeners in order of precedence; of two that cannot stand beside each other the first keeps its port and name."""
    holders: list[GatewayObserved | ListenerSetObserved] = [gateway, *sets_of(world, gateway)]
    entries = [Entry(world, gateway, holder, listener) for holder in holders for listener in holder.listeners]
    protocols: dict[tuple[int, str], str] = {}
    taken: set[tuple[int, str, str]] = set()
    for entry in entries:
        listener, family = entry.listener, _COMPATIBLE.get(entry.listener.protocol)
        if family is None:
            continue
        place = (listener.port, family, listener.hostname.lower())
        if protocols.setdefault((listener.port, entry.transport), family) != family:
            entry.conflict = "ProtocolConflict"
        elif place in taken:
            entry.conflict = "HostnameConflict" if family in ("HTTP", "TLS") else "ProtocolConflict"
        else:
            taken.add(place)
    return entries


def kind_refs(entry: Entry) -> tuple[ObjectRef, ...]:
    """`supportedKinds` of a listener's status."""
    return tuple(ObjectRef(group=GROUP, kind=kind, name="") for kind in entry.kinds)
