"""From a Service to its fact: what it exposes, which addresses it asks for, and how it wants to be served.

`weir.dev/X` annotations; every `loxilb.io/X` of kube-loxilb is an alias that gives way to it.  What is valid and not served yet
is told as `unsupported`, never refused and never passed over.
"""

import re
from collections.abc import Sequence
from typing import Final, Literal, get_args

from services.watcher.fields import Field, show, told
from weir.events import ServiceObserved
from weir.model import Algorithm, Family, Mode, Probe, Problem, Protocol, Root, ServicePort, family_of

CLASSES: Final = ("weir.dev/weir", "loxilb.io/loxilb")
PREFIX: Final = "weir.dev/"
ALIAS: Final = "loxilb.io/"

_PROTOCOLS: Final[tuple[Protocol, ...]] = get_args(Protocol)
_FAMILIES: Final[tuple[Family, ...]] = get_args(Family)
_MODES: Final[tuple[Mode, ...]] = get_args(Mode)
_ALGORITHMS: Final[dict[str, Algorithm]] = {"rr": "rr", "roundrobin": "rr", "hash": "maglev", "maglev": "maglev"}
_ALGORITHMS_LATER: Final = ("persist", "lc", "n2", "n2det", "n3", "priority")
_MODES_LATER: Final = ("dsr", "fullproxy", "hostonearm")
_PROBES: Final = ("tcp", "none")
_PROBES_LATER: Final = ("ping", "udp", "http", "https")
_IPAM: Final[dict[str, Family]] = {"ipv4": "IPv4", "ip": "IPv4", "ip4": "IPv4", "ipv6": "IPv6", "ip6": "IPv6", "nat66": "IPv6"}
_IPAM_LATER: Final = ("ipv6to4", "nat64")
_READ: Final = ("ips", "staticIP", "lbmode", "epselect", "timeout", "liveness", "probetype", "probetimeout", "proberetries", "ipam")
_IDLE: Final = ("usepodnetwork", "useExternalEndpoint")  # Weir always takes endpoints from EndpointSlices
_LATER: Final = (
    *("multus-nets", "poolSelect", "poolSelectSecondary", "secondaryIPs", "probeport", "probereq", "proberesp"),
    *("zoneselect", "zoneinstance", "prefLocalPod", "nodelabel", "useproxyprotov2", "egress"),
    *("mtls-frontend-mode", "mtls-frontend-secret", "mtls-frontend-require-cn", "mtls-frontend-cn-pattern"),
    *("mtls-backend-verify", "mtls-backend-ca-secret", "mtls-backend-client-secret"),
)
_OFF: Final = ("", "no", "false", "disabled")
_SPEC_LATER: Final = {  # field -> the value with which it asks for nothing
    "externalIPs": None,  # never served: whoever may write a Service could take any address (CVE-2020-8554)
    "loadBalancerSourceRanges": None,
    "externalTrafficPolicy": "Cluster",
    "internalTrafficPolicy": "Cluster",
    "sessionAffinity": "None",
}
_PORT_NAME: Final = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?")
_MOST_IDLE_S = 7 * 24 * 3600
_MOST_INTERVAL_S = 3600
_MOST_RETRIES = 100


class _Asked:
    """The annotations under our prefix or its alias, by the name after it."""

    def __init__(self, annotations: Field) -> None:
        keys = [key for key in annotations.value if isinstance(key, str)] if isinstance(annotations.value, dict) else []
        aliases = {name: annotations[ALIAS + name] for name in (*_READ, *_IDLE, *_LATER) if ALIAS + name in keys}
        ours = {key.removeprefix(PREFIX): annotations[key] for key in keys if key.startswith(PREFIX)}
        texts = {name: (field, field.text()) for name, field in {**aliases, **ours}.items()}
        self.fields = {name: field for name, (field, text) in texts.items() if field.value == text}
        self._absent = annotations

    def __getitem__(self, name: str) -> Field:
        return self.fields.get(name) or Field(None, self._absent[PREFIX + name].path, self._absent.faults)

    def texts(self) -> dict[str, str]:
        """All of them under weir.dev/."""
        return {PREFIX + name: field.text() for name, field in sorted(self.fields.items())}


def read_service(manifest: Field, root: Root, classes: Sequence[str]) -> ServiceObserved:
    """The Service as far as it can be read; of no use when faults were noted.

    What is not exposed through us is not ours to judge: its ports and annotations are read without noting faults.
    """
    labels = manifest["metadata"]["labels"].texts()
    exposed = _exposed(manifest, classes)
    if not exposed:
        manifest = manifest.unnoted()
    asked, unsupported = _Asked(manifest["metadata"]["annotations"]), list[Problem]()
    spec = manifest["spec"]
    families = _families(spec, asked, unsupported)
    return ServiceObserved(
        root=root,
        exposed=exposed,
        ports=_ports(spec["ports"]),
        families=families,
        requested=_requested(spec, asked, families),
        mode=_mode(asked["lbmode"], unsupported),
        algorithm=_algorithm(asked["epselect"], unsupported),
        idle_timeout_s=asked["timeout"].digits(0, _MOST_IDLE_S),
        probe=_probe(asked, unsupported),
        annotations=asked.texts(),
        labels=labels,
        unsupported=told(unsupported + _later(spec, asked)) if exposed else (),
    )


def _exposed(manifest: Field, classes: Sequence[str]) -> bool:
    spec = manifest["spec"]
    kind = spec["type"].word(("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"), "ClusterIP")
    chosen = spec["loadBalancerClass"].text()
    headless = spec["clusterIP"].value == "None"
    leaving = manifest["metadata"]["deletionTimestamp"].value is not None
    return kind == "LoadBalancer" and (not chosen or chosen in classes) and not headless and not leaving


# ── ports ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _ports(field: Field) -> tuple[ServicePort, ...]:
    items = field.items()
    if field.value in (None, []):
        field.fail("at least one port")
    ports: list[ServicePort] = []
    numbers: dict[tuple[int, str], str] = {}
    names: dict[str, str] = {}
    for item in items:
        faults = len(item.faults)
        port = _port(item)
        if item["name"].value is None and len(items) > 1:
            item["name"].fail("a name, since there are several ports")
        if port.port and (first := numbers.setdefault((port.port, port.protocol), item.path)) != item.path:
            item["port"].fail(f"each port and protocol once; {first} has it", f"{port.port}/{port.protocol}")
        if port.name and (first := names.setdefault(port.name, item.path)) != item.path:
            item["name"].fail(f"each name once; {first} has it")
        if len(item.faults) == faults:
            ports.append(port)
    return tuple(ports)


def _port(item: Field) -> ServicePort:
    number = item["port"].number(1, 65535)
    if item["port"].value is None:
        item["port"].fail("1-65535")
    return ServicePort(
        port=number,
        protocol=item["protocol"].word(_PROTOCOLS, "TCP"),
        name=item["name"].label_name(),
        target=_target(item["targetPort"]),
        node_port=item["nodePort"].number(0, 65535),
    )


def _target(field: Field) -> int | str:
    if not isinstance(field.value, str):
        return field.number(1, 65535)
    if _PORT_NAME.fullmatch(field.value):
        return field.value
    field.fail("1-65535, or a port's name (at most 15 of a-z, 0-9 and -, with a letter)")
    return 0


# ── addresses ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _families(spec: Field, asked: _Asked, unsupported: list[Problem]) -> tuple[Family, ...]:
    """As spec.ipFamilies and ipFamilyPolicy have it; both empty leaves the choice to the pools."""
    listed = [item.word(_FAMILIES, "IPv4") for item in spec["ipFamilies"].items()]
    families = list(dict.fromkeys(listed))
    if len(families) < len(listed):
        spec["ipFamilies"].fail("each family once")
    policy = spec["ipFamilyPolicy"].word(("SingleStack", "PreferDualStack", "RequireDualStack"), "SingleStack")
    if policy != "SingleStack":
        return tuple(dict.fromkeys([*families, *_FAMILIES]))
    family = asked["ipam"].word((*_IPAM, *_IPAM_LATER), "")
    if family in _IPAM_LATER:
        unsupported.append(_not_yet(asked["ipam"], _IPAM))
    return tuple(families[:1]) or ((_IPAM[family],) if family in _IPAM else ())


def _requested(spec: Field, asked: _Asked, families: tuple[Family, ...]) -> tuple[str, ...]:
    """At most one address per family, canonical; the same asked for in two ways is asked for once."""
    fields = [spec["loadBalancerIP"], asked["staticIP"]]
    ips = asked["ips"]
    fields += [Field(text.strip(), ips.path, ips.faults) for text in ips.text().split(",") if text.strip()]
    requested: dict[Family, str] = {}
    for field in fields:
        address = field.address() if field.value not in (None, "") else None
        if not address:
            continue
        family = family_of(str(address))
        if families and family not in families:
            field.fail(f"an address of {', '.join(families)}, as ipFamilies says")
        elif requested.setdefault(family, str(address)) != str(address):
            field.fail(f"one address per family; {requested[family]} is asked for already")
    return tuple(requested.values())


# ── how it is served ───────────────────────────────────────────────────────────────────────────────────────────────


def _mode(field: Field, unsupported: list[Problem]) -> Mode:
    word: Mode | Literal["dsr", "fullproxy", "hostonearm"] = field.word((*_MODES, *_MODES_LATER), "default")
    if word in _MODES:
        return word
    unsupported.append(_not_yet(field, _MODES))
    return "default"


def _algorithm(field: Field, unsupported: list[Problem]) -> Algorithm:
    word = field.word((*_ALGORITHMS, *_ALGORITHMS_LATER), "maglev")
    if word in _ALGORITHMS_LATER:
        unsupported.append(_not_yet(field, _ALGORITHMS))
    return _ALGORITHMS.get(word, "maglev")


def _probe(asked: _Asked, unsupported: list[Problem]) -> Probe | None:
    """A probe where liveness is yes; 0 stands for the default, as in kube-loxilb, where probetimeout is the period."""
    live = asked["liveness"].word(("yes", "no"), "no")
    kind = asked["probetype"].word((*_PROBES, *_PROBES_LATER), "tcp")
    interval_s = asked["probetimeout"].digits(0, _MOST_INTERVAL_S) or Probe().interval_s
    retries = asked["proberetries"].digits(0, _MOST_RETRIES) or Probe().retries
    if live == "no" or kind == "none":
        return None
    if kind in _PROBES_LATER:
        unsupported.append(_not_yet(asked["probetype"], _PROBES))
    return Probe(interval_s=interval_s, retries=retries)


def _later(spec: Field, asked: _Asked) -> list[Problem]:
    fields = [spec[name] for name, idle in _SPEC_LATER.items() if spec[name].value not in (None, [], idle)]
    fields += [asked[name] for name in _LATER if asked[name].value not in (None, *_OFF)]
    unknown = sorted(set(asked.fields) - {*_READ, *_IDLE, *_LATER})
    return [_not_yet(field, ()) for field in fields] + [_not_yet(asked[name], (), _READ) for name in unknown]


def _not_yet(field: Field, served: Sequence[str] | dict[str, Family] | dict[str, Algorithm], known: Sequence[str] = ()) -> Problem:
    if known:
        return Problem(field=field.path, got=show(field.value), accepted=f"one of {', '.join(known)} after {PREFIX}")
    return Problem(field=field.path, got=show(field.value), accepted=f"{', '.join(served) or 'nothing'} (not served yet)")
