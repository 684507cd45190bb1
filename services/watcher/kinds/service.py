"""Service: what it exposes, which addresses it asks for, and how it wants to be served."""

import re
from collections.abc import Iterable
from typing import Any, Final, TypedDict

import msgspec
from msgspec.structs import replace

from services.watcher.kinds.addressing import read_addresses
from services.watcher.kinds.annotations import Asked, not_yet
from services.watcher.kinds.fields import MOST_BYTES, Field, show, told
from services.watcher.kinds.kind import Kind, Metadata
from services.watcher.kinds.probing import read_probe
from services.watcher.kinds.schema import CONDITIONS, fields, of_kind
from services.watcher.settings import Settings
from services.watcher.writer.service import STATUS
from weir.events import ENCODE, ServiceGone, ServiceObserved
from weir.model import (
    MODES,
    NO_BACKENDS,
    PROTOCOLS,
    TARGETS,
    Algorithm,
    Mode,
    Problem,
    Root,
    ServicePort,
    Targets,
)

_PROTOCOLS_LATER: Final = ("SCTP",)
_ALGORITHMS: Final[dict[str, Algorithm]] = {"rr": "rr", "roundrobin": "rr", "hash": "maglev", "maglev": "maglev", "persist": "maglev"}
_ALGORITHMS_LATER: Final = ("lc", "n2", "n2det", "n3", "priority")
_MODES_LATER: Final = ("dsr", "fullproxy", "hostonearm")
_PORT_NAME: Final = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?")
_MOST_SECONDS: Final = 7 * 24 * 3600
_DAY_S, _AFFINITY_S = 86_400, 10_800  # the API's limit and default of an affinity's timeout


class _Spec(TypedDict, total=False):
    type: Any
    clusterIP: Any
    ports: Any
    loadBalancerClass: Any
    loadBalancerIP: Any
    loadBalancerSourceRanges: Any
    externalIPs: Any
    externalTrafficPolicy: Any
    allocateLoadBalancerNodePorts: Any
    healthCheckNodePort: Any
    sessionAffinity: Any
    sessionAffinityConfig: Any
    ipFamilies: Any
    ipFamilyPolicy: Any


class _Service(TypedDict, total=False):
    metadata: Metadata
    spec: _Spec


def _read(manifest: Field, root: Root, settings: Settings) -> ServiceObserved | None:
    """Return the Service; None where it has problems.

    A Service that is not exposed releases its addresses whatever else it contains: where it is too big, its texts are left out.
    """
    event = _as_written(manifest, root, settings)
    if not event.exposed and len(ENCODE(event)) > MOST_BYTES:
        event = replace(event, labels={}, annotations={})
    return None if manifest.faults else event


def _as_written(manifest: Field, root: Root, settings: Settings) -> ServiceObserved:
    """Return the Service as far as it can be read.

    A Service that Weir does not expose may contain anything: its ports and annotations are read without noting problems.
    """
    labels = manifest["metadata"]["labels"].texts()
    exposed = _exposed(manifest, settings)
    if not exposed:
        manifest = manifest.unnoted()
    asked, unsupported = Asked(manifest["metadata"]["annotations"]), list[Problem]()
    spec = manifest["spec"]
    addresses = read_addresses(spec, asked, settings, unsupported, resolved=root.place.startswith("@"))
    local, targets = spec["externalTrafficPolicy"].word(("Cluster", "Local"), "Cluster") == "Local", _targets(asked, settings.targets)
    return ServiceObserved(
        root=root,
        exposed=exposed,
        ports=_ports(spec["ports"], unsupported),
        **addresses._asdict(),
        mode=_mode(asked["lbmode"], settings.mode, unsupported),
        algorithm=_algorithm(asked["epselect"], unsupported),
        idle_timeout_s=asked["timeout"].digits(0, _MOST_SECONDS),
        no_backend=asked["no-backend"].word(NO_BACKENDS, "drop"),
        drain_timeout_s=asked["drain-timeout"].digits(0, _MOST_SECONDS),
        affinity_s=_affinity_s(spec, asked["epselect"]),
        local=local,
        health_port=spec["healthCheckNodePort"].number(0, 65535) if local else 0,
        targets=targets,
        node_labels=_node_labels(asked, targets, unsupported),
        probe=read_probe(asked, unsupported, liveness=settings.liveness),
        annotations=asked.texts(),
        labels=labels,
        unsupported=told(unsupported + asked.later()) if exposed else (),
    )


def _exposed(manifest: Field, settings: Settings) -> bool:
    spec = manifest["spec"]
    kind = spec["type"].word(("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"), "ClusterIP")
    chosen = spec["loadBalancerClass"].text() or Asked(manifest["metadata"]["annotations"].unnoted())["loadBalancerClass"].text()
    headless = spec["clusterIP"].value == "None"
    leaving = manifest["metadata"]["deletionTimestamp"].value not in (None, "")
    return kind == "LoadBalancer" and (chosen in settings.classes if chosen else settings.default_class) and not headless and not leaving


# ── ports ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _ports(field: Field, unsupported: list[Problem]) -> tuple[ServicePort, ...]:
    items = field.items()
    if field.value in (None, []):
        field.fail("at least one port")
    ports: list[ServicePort] = []
    numbers: dict[tuple[int, str], Field] = {}
    names: dict[str, Field] = {}
    for item in items:
        if item["protocol"].value in _PROTOCOLS_LATER:
            unsupported.append(not_yet(item["protocol"], PROTOCOLS))
            continue
        faults = len(item.faults)
        port = _port(item)
        if not port.name and item["name"].value in (None, "") and len(items) > 1:
            item["name"].fail("a name, since there are several ports")
        if port.port and (first := numbers.setdefault((port.port, port.protocol), item)) is not item:
            item["port"].fail(f"each port and protocol once; {first.path} has it", f"{port.port}/{port.protocol}")
        if port.name and (first := names.setdefault(port.name, item)) is not item:
            item["name"].fail(f"each name once; {first.path} has it")
        if len(item.faults) == faults:
            ports.append(port)
    return tuple(ports)


def _port(item: Field) -> ServicePort:
    number = item["port"].number(1, 65535)
    if item["port"].value is None:
        item["port"].fail("1-65535")
    return ServicePort(
        port=number,
        protocol=item["protocol"].word(PROTOCOLS, "TCP"),
        name=item["name"].label_name(empty=True),
        target=_target(item["targetPort"]),
        node_port=item["nodePort"].number(0, 65535),
        app_protocol=item["appProtocol"].text(),
    )


def _target(field: Field) -> int | str:
    """0 and "" are the port itself, as an API server takes them."""
    if not isinstance(field.value, str):
        return field.number(0, 65535)
    if not field.value or _PORT_NAME.fullmatch(field.value):
        return field.value or 0
    field.fail("1-65535, or a port's name (at most 15 of a-z, 0-9 and -, with a letter)")
    return 0


# ── how it is served ───────────────────────────────────────────────────────────────────────────────────────────────


def _mode(field: Field, absent: Mode, unsupported: list[Problem]) -> Mode:
    word = field.word((*MODES, *_MODES_LATER), absent)
    if word in MODES:
        return word
    unsupported.append(not_yet(field, MODES))
    return absent


def _algorithm(field: Field, unsupported: list[Problem]) -> Algorithm:
    word = field.word((*_ALGORITHMS, *_ALGORITHMS_LATER), "maglev")
    if word in _ALGORITHMS_LATER:
        unsupported.append(not_yet(field, _ALGORITHMS))
    return _ALGORITHMS.get(word, "maglev")


def _affinity_s(spec: Field, select: Field) -> int:
    if spec["sessionAffinity"].word(("None", "ClientIP"), "None") == "None":
        return _AFFINITY_S if select.value == "persist" else 0
    return spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"].number(1, _DAY_S, _AFFINITY_S)


def _targets(asked: Asked, absent: Targets) -> Targets:
    """Each of kube-loxilb's words requests endpoints; its "no" leaves the choice to the installation."""
    pods = [asked[name].word(("yes", "no"), "no") for name in ("usepodnetwork", "useExternalEndpoint")]
    return asked["targets"].word(TARGETS, "endpoints" if "yes" in pods else absent)


def _node_labels(asked: Asked, targets: Targets, unsupported: list[Problem]) -> tuple[str, ...]:
    labels = tuple(field.text() for field in asked.several("nodelabel"))
    if labels and targets != "nodes":
        accepted = "labels of nodes where these are the targets (targets: nodes)"
        unsupported.append(Problem(field=asked["nodelabel"].path, got=show(asked["nodelabel"].value), accepted=accepted))
    return labels


# ── the kind ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _name(manifest: Field) -> Field:
    return manifest["metadata"]["name"]


def _refers(event: ServiceObserved) -> Iterable[str]:
    """The slices of an exposed Service are kept in the log: a cluster has many of Services that are not."""
    return (event.root.owner,) if event.exposed else ()


SERVICE: Final = Kind(
    word="Service",
    plural="services",
    versions=("v1",),
    decode=msgspec.json.Decoder(_Service).decode,
    read=_read,
    observed=ServiceObserved,
    gone=ServiceGone,
    serves=_name,
    refers=_refers,
    status=STATUS,
    verbs=("create", "patch"),
    fields=of_kind(
        spec=fields(
            "allocateLoadBalancerNodePorts clusterIP clusterIPs externalIPs externalName externalTrafficPolicy healthCheckNodePort"
            " internalTrafficPolicy ipFamilies ipFamilyPolicy loadBalancerClass loadBalancerIP loadBalancerSourceRanges"
            " publishNotReadyAddresses selector sessionAffinity trafficDistribution type",
            ports=fields("appProtocol name nodePort port protocol targetPort"),
            sessionAffinityConfig=fields("", clientIP=fields("timeoutSeconds")),
        ),
        status=fields(
            "",
            conditions=CONDITIONS,
            loadBalancer=fields("", ingress=fields("hostname ip ipMode", ports=fields("error port protocol"))),
        ),
    ),
)
