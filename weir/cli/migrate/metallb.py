"""Convert MetalLB's pools to VIPPools, its BGP to Weir's, and its annotations on Services."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from services.ipam.holdings import NAMESPACE_LABEL
from services.watcher.kinds.annotations import METALLB, METALLB_PREFIXES, PREFIX
from services.watcher.kinds.fields import Field
from services.watcher.settings import ALIASES, OURS, Settings
from weir.cli.migrate.bgp import METALLB_KINDS, manifest, of_metallb
from weir.cli.migrate.manifests import Manifest, Migrated, MigrateError, vip_pool
from weir.cli.migrate.services import full_name, moved

GROUP: Final = "metallb.io"
_L2: Final = "L2Advertisement"
_TOLD: Final = {_L2: "LB nodes take turns in announcing VIPs, on the interfaces that they are given (-i)"}
_POOLS: Final = ("IPAddressPool", "AddressPool")  # the latter before 0.13: its addresses, protocol, autoAssign and avoidBuggyIPs


def migrate(manifests: Iterable[Field], *, keep: bool = False) -> Migrated:
    """From pools, advertisements and Services; keep: these request the addresses they have.  Raises MigrateError where there are none."""
    offered: list[Field] = []
    routers: list[Field] = []
    services: list[Field] = []
    notes: list[str] = []
    left_out: list[str] = []
    for each in manifests:
        kind, group = each["kind"].text(), each["apiVersion"].text().partition("/")[0]
        if group == GROUP and kind in _POOLS:
            offered.append(each)
        elif group == GROUP and kind in METALLB_KINDS:
            routers.append(each)
        elif group == GROUP:
            about = notes if kind == _L2 else left_out
            about.append(f"{kind} {each['metadata']['name'].text()}: {_TOLD.get(kind, 'Weir has no such object')}")
        elif kind == "Service":
            services.append(each)
    if not (offered or routers or services or notes or left_out):
        raise MigrateError(f"found neither an object of {GROUP} nor a Service")
    ranks = _ranks(offered)
    pools = [made for pool in offered if (made := _pool(pool, ranks, left_out))]
    told = [*of_metallb(routers, left_out), *_advertised(offered)]
    chosen = _classes(services, notes)
    found = moved(services, _renamed, Settings(classes=(OURS, *(chosen or ALIASES))), pools, keep=keep)
    first = [*found.services, *pools] if keep else [*pools, *found.services]
    return Migrated([*first, *told], [], [*notes, *found.notes, *_apart(services)], left_out)


def _advertised(offered: Iterable[Field]) -> Iterator[Manifest]:
    """Of AddressPools, which say themselves that routers are told of them."""
    for pool in offered:
        if pool["spec"]["protocol"].value == "bgp":
            name = pool["metadata"]["name"].text()
            yield manifest("BGPAdvertisement", name, {"pools": [name]})


def _ranks(pools: Sequence[Field]) -> dict[int, int]:
    """MetalLB's priority -> ours, where the highest is first: with them the lowest is, and 0 or none comes last of those that select."""
    given = {pool["spec"]["serviceAllocation"]["priority"].number(0, 2**31 - 1) for pool in pools} - {0}
    return {0: 1} | {priority: 2 + rank for rank, priority in enumerate(sorted(given, reverse=True))}


def _pool(pool: Field, ranks: dict[int, int], left_out: list[str]) -> Manifest | None:
    spec, name = pool["spec"], pool["metadata"]["name"].text()
    select = spec["serviceAllocation"]
    namespaces = [item.text() for item in select["namespaces"].items()]
    of_namespaces = [_selector(item.value) for item in select["namespaceSelectors"].items()]
    if namespaces:
        of_namespaces.append({"matchExpressions": [{"key": NAMESPACE_LABEL, "operator": "In", "values": namespaces}]})
    of_services = [_selector(item.value) for item in select["serviceSelectors"].items()]
    several = [found for found in (of_namespaces, of_services) if len(found) > 1 and all(found)]
    if several:
        left_out.append(f"{pool['kind'].text()} {name}: a VIPPool has one selector of each kind, and this has several")
        return None
    more: dict[str, Any] = {
        "autoAssign": spec["autoAssign"].flag(absent=True),
        "avoidBuggyIPs": spec["avoidBuggyIPs"].flag(absent=False),
        "priority": ranks[select["priority"].number(0, 2**31 - 1)] if select.value else 0,
        "namespaceSelector": of_namespaces[0] if of_namespaces and all(of_namespaces) else None,
        "serviceSelector": of_services[0] if of_services and all(of_services) else None,
    }
    addresses = [item.text() for item in spec["addresses"].items()]
    if spec["bgpAdvertisements"].value:
        left_out.append(f"{pool['kind'].text()} {name}: bgpAdvertisements: write its attributes into the BGPAdvertisement {name}")
    return vip_pool(name, addresses, **{key: value for key, value in more.items() if value is not None})


def _selector(value: Any) -> Any:
    """Without parts that are empty, which a VIPPool may not have; falsy where it selects everything."""
    parts = ("matchLabels", "matchExpressions")
    return {key: part for key, part in value.items() if part or key not in parts} if isinstance(value, dict) else value


def _classes(services: Sequence[Field], notes: list[str]) -> list[str]:
    """Those of Services that have annotations of MetalLB."""
    found = []
    for service in services:
        chosen = service["spec"]["loadBalancerClass"].text()
        if chosen and _asked(service):
            notes.append(f"Service {full_name(service)}: its loadBalancerClass cannot be changed; start the watcher with --class {chosen}")
            found.append(chosen)
    return found


def _apart(services: Sequence[Field]) -> Iterator[str]:
    """Of Services of several namespaces that share by one key."""
    by_key: dict[str, list[Field]] = {}
    for service in services:
        if (shared := _asked(service).get("allow-shared-ip")) and service["spec"]["type"].value == "LoadBalancer":
            by_key.setdefault(shared, []).append(service)
    for shared, sharing in sorted(by_key.items()):
        if len({full_name(service).partition("/")[0] for service in sharing}) > 1:
            names = ", ".join(sorted(map(full_name, sharing)))
            hint = "Weir shares by key within a namespace only; to keep them on one address, set `share: ports` on its VIPPool"
            yield f"Services {names} share by the key {shared!r} across namespaces: {hint}"


def _asked(service: Field) -> dict[str, str]:
    """MetalLB's annotations, by the name behind its prefix."""
    annotations, found = service["metadata"]["annotations"], dict[str, str]()
    for key in annotations.value if isinstance(annotations.value, dict) else ():
        if prefix := next((prefix for prefix in METALLB_PREFIXES if str(key).startswith(prefix)), ""):
            found[key.removeprefix(prefix)] = annotations[key].text()
    return found


def _renamed(key: str) -> str:
    """ "" for what MetalLB itself writes down."""
    prefix = next((prefix for prefix in METALLB_PREFIXES if key.startswith(prefix)), "")
    name = METALLB.get(key.removeprefix(prefix), "")
    return key if not prefix else PREFIX + name if name else ""
