"""Convert Services: rename annotations, request the addresses they have, and drop what the server wrote."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from services.watcher.kinds.annotations import PREFIX
from services.watcher.kinds.fields import Field
from services.watcher.kinds.ranges import range_of
from services.watcher.kinds.reader import read
from services.watcher.settings import Settings
from weir.cli.migrate.manifests import Manifest, document
from weir.events import ServiceObserved
from weir.model import parse_address
from weir.words import few

_OF_THE_SERVER: Final = ("resourceVersion", "uid", "managedFields", "creationTimestamp", "generation", "selfLink")
_OF_KUBECTL: Final = "kubectl.kubernetes.io/"

Rename = Callable[[str], str]


class Moved(NamedTuple):
    """services: those that change.   notes: what people should know."""

    services: list[Manifest]
    notes: list[str]


def moved(services: Iterable[Field], rename: Rename, settings: Settings, pools: Sequence[Manifest], *, keep: bool) -> Moved:
    """rename: the key of an annotation -> its new one, "" where it goes.   settings: as the watcher will have them.

    keep: those that are Weir's then ask for the addresses in their status, where they do not ask for any.
    """
    found, holding, others = Moved([], []), 0, list[str]()
    for service in services:
        made = _renamed(service, rename)
        observed = _observed(made, settings)
        if service["spec"]["type"].text() == "LoadBalancer" and observed and not observed.exposed:
            others.append(full_name(service))
        addresses = _to_keep(service, observed, found.notes)
        holding += bool(addresses)
        asking = _asking(made, addresses, settings, pools, found.notes) if keep and addresses else made
        if asking["metadata"].get("annotations", {}) != _annotations(service):
            found.services.append(asking)
    if holding and not keep:
        found.notes.append(
            f"{holding} Services have addresses and request none: they may be given others; use --keep-addresses to request them"
        )
    if others:
        found.notes.append(f"{len(others)} Services stay another's by their loadBalancerClass, or by having none: {few(others)}")
    return found


def full_name(service: Field) -> str:
    """As people write it."""
    return f"{service['metadata']['namespace'].text() or 'default'}/{service['metadata']['name'].text()}"


def _annotations(service: Field) -> dict[str, Any]:
    """As they are: others' may hold anything.  What kubectl applied last is its own."""
    found = service["metadata"]["annotations"].value
    return {key: value for key, value in found.items() if not str(key).startswith(_OF_KUBECTL)} if isinstance(found, dict) else {}


def _renamed(service: Field, rename: Rename) -> Manifest:
    content, metadata = service.value, service["metadata"].value
    kept = {key: value for key, value in metadata.items() if key not in _OF_THE_SERVER} if isinstance(metadata, dict) else {}
    annotations = {new: value for key, value in _annotations(service).items() if (new := rename(str(key)))}
    kept = {key: value for key, value in kept.items() if key != "annotations"} | ({"annotations": annotations} if annotations else {})
    rest = {key: value for key, value in content.items() if key != "status"} if isinstance(content, dict) else {}
    return {**rest, "metadata": kept}


# ── addresses ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _to_keep(service: Field, observed: ServiceObserved | None, notes: list[str]) -> list[str]:
    """The addresses that it has, where it is Weir's and asks for none."""
    if not observed or not observed.exposed or observed.requested:
        return []
    entries = service["status"]["loadBalancer"]["ingress"].items()
    found = [(entry["ip"].text() or entry["hostname"].text()) for entry in entries]
    notes += [f"Service {full_name(service)}: no address in {word!r} of its status" for word in found if not _address(word)]
    return list(dict.fromkeys(filter(None, map(_address, found))))


def _address(word: str) -> str:
    """Of an address, or of a hostname that ends with one, as kube-loxilb writes them (llb-192.0.2.1); "" where there is none."""
    parts = word.split("-")
    return next((str(found) for i in range(len(parts)) if (found := parse_address("-".join(parts[i:])))), "")


def _asking(made: Manifest, addresses: Sequence[str], settings: Settings, pools: Sequence[Manifest], notes: list[str]) -> Manifest:
    """It, asking for `addresses`; as it is where the watcher would refuse that."""
    name = full_name(Field(made, "", {}))
    asking = _with(made, {"ips": ",".join(addresses)})
    observed = _observed(asking, settings)
    if observed and observed.more_pools and len(addresses) > 1:  # beside more-ips these are not looked at: no address more is drawn
        asking = _with(made, {"ips": addresses[0], "more-ips": ",".join(addresses[1:])})
    if not observed:
        problems = [str(problem) for reading in read(document(asking), settings) for problem in reading.problems]
        notes.append(f"Service {name}: {', '.join(addresses)} not kept: {'; '.join(problems)}")
        return made
    notes += [
        f"Service {name}: {address} is of no pool here; grant it with a VIPPool that has autoAssign: false"
        for address in addresses
        if not any(_offers(pool, address) for pool in pools)
    ]
    return asking


def _with(made: Manifest, asked: dict[str, str]) -> Manifest:
    annotations = made["metadata"].get("annotations", {}) | {PREFIX + name: text for name, text in asked.items()}
    return {**made, "metadata": {**made["metadata"], "annotations": annotations}}


def _observed(made: Manifest, settings: Settings) -> ServiceObserved | None:
    """As the watcher reads it, None where it refuses it."""
    facts: Iterator[object] = (reading.event for reading in read(document(made), settings))
    return next((fact for fact in facts if isinstance(fact, ServiceObserved)), None)


def _offers(pool: Manifest, address: str) -> bool:
    wanted = parse_address(address)
    ranges = [found for text in pool["spec"]["addresses"] if (found := range_of(text))]
    return any(wanted and found.first.version == wanted.version and int(found.first) <= int(wanted) <= int(found.last) for found in ranges)
