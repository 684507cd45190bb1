"""MetalLB's pools as VIPPools, and its annotations on Services as Weir's."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from services.ipam.holdings import NAMESPACE_LABEL
from services.watcher.annotations import PREFIX
from services.watcher.fields import Field
from weir.cli.migrate import Manifest, Migrated, MigrateError, vip_pool

GROUP: Final = "metallb.io"
ANNOTATIONS: Final = {"address-pool": "pool", "loadBalancerIPs": "ips", "allow-shared-ip": "share-key"}
_PREFIXES: Final = ("metallb.io/", "metallb.universe.tf/")
_TOLD: Final = {
    "L2Advertisement": "every node that runs Weir answers for all VIPs, on the interfaces that it is given (-i)",
    **dict.fromkeys(("BGPPeer", "BGPAdvertisement", "BFDProfile", "Community"), "BGP is not served yet"),
}
_OF_THE_SERVER: Final = ("resourceVersion", "uid", "managedFields", "creationTimestamp", "generation", "selfLink")


def migrate(manifests: Iterable[Field]) -> Migrated:
    """From pools, advertisements and Services.  Raises MigrateError where there are none of these."""
    pools: list[Field] = []
    services: list[Manifest] = []
    notes: list[str] = []
    found = False
    for manifest in manifests:
        kind, name = manifest["kind"].text(), manifest["metadata"]["name"].text()
        group = manifest["apiVersion"].text().partition("/")[0]
        if group == GROUP and kind == "IPAddressPool":
            pools.append(manifest)
        elif group == GROUP:
            notes.append(f"{kind} {name}: {_TOLD.get(kind, 'of no use to Weir')}")
        elif kind == "Service" and (service := _service(manifest)):
            services.append(service)
            if chosen := manifest["spec"]["loadBalancerClass"].text():
                notes.append(f"Service {name}: its loadBalancerClass cannot be changed; start the watcher with --class {chosen}")
        found = found or group == GROUP or kind == "Service"
    if not found:
        raise MigrateError(f"no object of {GROUP} and no Service in it")
    ranks = _ranks(pools)
    return Migrated([*(made for pool in pools if (made := _pool(pool, ranks, notes))), *services], [], notes)


def _ranks(pools: Sequence[Field]) -> dict[int, int]:
    """MetalLB's priority -> ours, where the highest is first: with them the lowest is, and 0 or none comes last of those that select."""
    given = {pool["spec"]["serviceAllocation"]["priority"].number(0, 2**31 - 1) for pool in pools} - {0}
    return {0: 1} | {priority: 2 + rank for rank, priority in enumerate(sorted(given, reverse=True))}


def _pool(manifest: Field, ranks: dict[int, int], notes: list[str]) -> Manifest | None:
    spec, name = manifest["spec"], manifest["metadata"]["name"].text()
    select = spec["serviceAllocation"]
    namespaces = [item.text() for item in select["namespaces"].items()]
    of_namespaces = [item.value for item in select["namespaceSelectors"].items()]
    if namespaces:
        of_namespaces.append({"matchExpressions": [{"key": NAMESPACE_LABEL, "operator": "In", "values": namespaces}]})
    of_services = [item.value for item in select["serviceSelectors"].items()]
    if len(of_namespaces) > 1 or len(of_services) > 1:
        notes.append(f"IPAddressPool {name}: left out, for a VIPPool has one selector of each kind, and this has several")
        return None
    more: dict[str, Any] = {
        "autoAssign": spec["autoAssign"].flag(absent=True),
        "avoidBuggyIPs": spec["avoidBuggyIPs"].flag(absent=False),
        "priority": ranks[select["priority"].number(0, 2**31 - 1)] if select.value else 0,
        "namespaceSelector": of_namespaces[0] if of_namespaces else None,
        "serviceSelector": of_services[0] if of_services else None,
    }
    addresses = [item.text() for item in spec["addresses"].items()]
    return vip_pool(name, addresses, **{key: value for key, value in more.items() if value is not None})


def _service(manifest: Field) -> Manifest | None:
    """The Service with Weir's annotations in place of MetalLB's, None where it has none of these."""
    content, metadata = manifest.value, manifest["metadata"]
    annotations = metadata["annotations"].texts()
    renamed = {_renamed(key): value for key, value in annotations.items()}
    if renamed.keys() == annotations.keys() or not isinstance(content, dict) or not isinstance(metadata.value, dict):
        return None
    kept = {key: value for key, value in metadata.value.items() if key not in _OF_THE_SERVER}
    kept["annotations"] = {key: value for key, value in renamed.items() if key}
    return {**{key: value for key, value in content.items() if key != "status"}, "metadata": kept}


def _renamed(key: str) -> str:
    """ "" for what MetalLB itself writes down."""
    prefix = next((prefix for prefix in _PREFIXES if key.startswith(prefix)), "")
    name = ANNOTATIONS.get(key.removeprefix(prefix), "")
    return PREFIX + name if prefix and name else "" if prefix or key.startswith("kubectl.kubernetes.io/") else key
