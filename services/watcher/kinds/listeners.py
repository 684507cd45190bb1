"""What Gateways and ListenerSets have in common: listeners."""

from typing import Final

from services.watcher.kinds.fields import Field
from services.watcher.kinds.routes import GROUP, hostname, reference
from services.watcher.kinds.schema import CONDITIONS, SELECTOR, fields
from services.watcher.kinds.selector import read_selector
from weir.model import Listener, ListenerTls, ObjectRef, Root, RouteNamespaces

_NAMESPACES: Final = fields("from", selector=SELECTOR)
_REF: Final = fields("group kind name namespace")
LISTENERS: Final = fields(
    "hostname name port protocol",
    allowedRoutes=fields("", kinds=fields("group kind"), namespaces=_NAMESPACES),
    tls=fields("mode options", certificateRefs=_REF),
)
LISTENER_STATUS: Final = fields("attachedRoutes name port", conditions=CONDITIONS, supportedKinds=fields("group kind"))


def listeners(spec: Field, root: Root) -> tuple[Listener, ...]:
    """`listeners`, each name once."""
    found: dict[str, Listener] = {}
    for item in spec["listeners"].items():
        listener = _listener(item, root)
        if found.setdefault(listener.name, listener) is not listener:
            item["name"].fail("each name once")
    return tuple(found.values())


def _listener(item: Field, root: Root) -> Listener:
    tls, allowed = item["tls"], item["allowedRoutes"]
    name = item["name"].domain_name()
    if not name and item["name"].value in (None, ""):
        item["name"].fail("a name")
    if item["port"].value is None:
        item["port"].fail("1-65535")
    return Listener(
        name=name,
        port=item["port"].number(1, 65535, 1),
        protocol=item["protocol"].text(),
        hostname=hostname(item["hostname"]),
        tls=_tls(tls, root) if tls.value is not None else None,
        namespaces=namespaces(allowed["namespaces"], "Same"),
        kinds=tuple(_kind(each) for each in allowed["kinds"].items()) if allowed["kinds"].value else None,
    )


def _kind(item: Field) -> ObjectRef:
    return ObjectRef(group=item["group"].text() if item["group"].value is not None else GROUP, kind=item["kind"].text(), name="")


def _tls(item: Field, root: Root) -> ListenerTls:
    certificates = tuple(reference(each, root, "Secret") for each in item["certificateRefs"].items())
    return ListenerTls(mode=item["mode"].word(("Terminate", "Passthrough"), "Terminate"), certificates=certificates)


def namespaces(item: Field, absent: str) -> RouteNamespaces:
    """`namespaces` of allowedRoutes and allowedListeners."""
    choice = item["from"].word(("All", "Same", "Selector", "None"), absent)
    return RouteNamespaces(choice=choice, selector=read_selector(item["selector"]) if choice == "Selector" else None)
