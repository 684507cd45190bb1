"""Convert kube-loxilb's options: to VIPPools, options of the watcher, and a note on each flag without counterpart.

Flags and defaults are those of cmd/loxilb-agent/options.go; a file given with --config has the same names but for `setExclIPAM`.
"""

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_network
from itertools import dropwhile, groupby
from pathlib import PurePath
from typing import Final, NamedTuple

from services.watcher.kinds.fields import Field
from services.watcher.kinds.ranges import range_of
from services.watcher.settings import ALIASES, OURS, Settings
from weir.cli.migrate.bgp import of_loxilb
from weir.cli.migrate.manifests import Manifest, Migrated, MigrateError, vip_pool
from weir.cli.migrate.services import moved
from weir.model import parse_address

NAME: Final = "kube-loxilb"
DEFAULT_POOL: Final = "defaultPool"
(CLASS,) = ALIASES
SERVED: Final = (
    *("config", "externalCIDR", "cidrPools", "cidr6Pools", "setUniqueIP", "setLBMode", "monitor", "loxilbLoadBalancerClass"),
    *("zone", "noZoneName", "usePodNetwork", "useExternalEndpoint"),
    *("setBGP", "eBGPMultiHop", "extBGPPeers", "enableBGPCRDs"),
)
_ELECTION, _GATEWAY = "which node announces a VIP is not elected yet", "the Gateway API is not served yet"
_POLICY: Final = "write what routers are told into a BGPAdvertisement; nothing that they tell is taken over"
UNSERVED: Final[Mapping[str, str]] = {
    "loxiURL": "no load balancer is called: each follows the log. One outside the cluster joins by: weir install --join",
    "externalSecondaryCIDRs": "kube-loxilb's code does not have it; name further pools in cidrPools, and use them by weir.dev/more-pools",
    "setRoles": f"{_ELECTION}; in fullnat the source is the VIP itself",
    "excludeRoleList": _ELECTION,
    "listenBGPPort": "FRR listens on port 179",
    **dict.fromkeys(("gatewayAPI", "loxilbGatewayClass"), _GATEWAY),
    "numZoneInstances": "an installation is not divided into instances",
    "privateCIDR": "a cloud's own addresses are not moved between machines",
    "appendEPs": "endpoints of several clusters are not joined behind one address; the watcher follows several clusters by --cluster",
    "enableK8sMetadata": "nothing is pushed: the log names the objects of everything",
}
_YAML_NAMES: Final = {"setExclIPAM": "setUniqueIP"}
_SWITCHES: Final = {  # flags that take no word of their own
    *("setUniqueIP", "monitor", "noZoneName", "usePodNetwork", "useExternalEndpoint", "eBGPMultiHop", "enableBGPCRDs", "gatewayAPI"),
    *("appendEPs", "enableK8sMetadata"),
}
_MODES: Final = ("default", "onearm", "fullnat")
_MODES_LATER: Final = ("dsr", "fullproxy", "hostonearm")
_SHELLS: Final = ("sh", "bash", "ash", "dash", "busybox")
_ENDS: Final = ";&|<>()\n"  # of a command in a shell
_NO_CODE: Final = re.compile(r"\\\n|(?m:(?<!\S)#.*$)")  # there: lines that go on, and comments
_NO_POOL: Final = "no pool: kube-loxilb's defaults, 123.123.123.1/24 and 3ffe:cafe::1/96, are nobody's networks here"
_OFF: Final = ("", "0", "false")


class _Found(NamedTuple):
    """config: what files of --config have, by the flag's name.   others: objects of kube-loxilb's own kinds."""

    config: dict[str, str]
    flags: dict[str, str]
    services: list[Field]
    others: list[Field]


def migrate(manifests: Iterable[Field], *, keep: bool = False) -> Migrated:
    """From Deployments and files of --config; keep: Services request the addresses they have.

    Raises MigrateError where there is neither, or a pool cannot be understood.
    """
    config, flags, of_cluster, others = _read(manifests)
    given = {**config, **flags}
    listed = [pool for other in others for pool in _listed(other)]
    pools = _pools(given, listed)
    services = moved(of_cluster, str, _settings(given), pools, keep=keep)
    absent = [f"--config={given['config']}: give that file too"] if "config" in given and not config else []
    peers = [other for other in others if other["kind"].value == "BGPPeerService"]
    routers = of_loxilb(given, peers)
    pooled = [_told(other) for other in others if _listed(other)]
    converted = peers if routers else []
    left_out = [*_unserved(given), *absent, *(_told(other) for other in others if not _listed(other) and other not in converted)]
    notes = [*pooled, *services.notes] if pools else [_NO_POOL, *pooled, *services.notes]
    made = [*pools, *routers]
    return Migrated([*services.services, *made] if keep else made, _options(given), notes, left_out)


# ── what it was started with ───────────────────────────────────────────────────────────────────────────────────────


def _read(manifests: Iterable[Field]) -> _Found:
    read, started = _Found({}, {}, [], []), False
    for manifest in manifests:
        kind, group = manifest["kind"].value, manifest["apiVersion"].value
        if kind is None and group is None:
            read.config.update(_config(manifest))
            started = True
        elif kind == "Service":
            read.services.append(manifest)
        elif str(group).partition("/")[0].endswith(".loxilb.io"):
            read.others.append(manifest)
        for words in _args(manifest):
            read.flags.update(_flags(words))
            started = True
    if not started:
        raise MigrateError("found neither a container of kube-loxilb nor a file for its --config")
    return read


def _args(manifest: Field) -> Iterator[list[str]]:
    """The words behind its name, of each container that starts it."""
    for container in manifest["spec"]["template"]["spec"]["containers"].items() if isinstance(manifest["spec"].value, dict) else ():
        fields = [word for name in ("command", "args") for word in container[name].items()]
        words = [word.value for word in fields if isinstance(word.value, str)]
        if not any(NAME in word for word in (container["image"].text(), container["name"].text(), *words)):
            continue
        if not any(PurePath(word).name in _SHELLS for word in words):
            yield [word.text() for word in fields]
        elif (behind := _of_script(next((word for word in words if NAME in word), ""))) is not None:
            yield behind


def _of_script(script: str) -> list[str] | None:
    """The words behind its name in a shell's script, up to the command's end; None where it is not started there."""
    words = shlex.shlex(_NO_CODE.sub(" ", script), posix=True, punctuation_chars=_ENDS)
    words.whitespace, words.whitespace_split, words.commenters = " \t\r", True, ""
    try:
        found = list(words)
    except ValueError as error:
        raise MigrateError(f"the script that starts {NAME}: {error}") from error
    commands = [list(command) for ends, command in groupby(found, lambda word: bool(word) and not word.strip(_ENDS)) if not ends]
    starting = [command for command in commands if NAME in (PurePath(word).name for word in command)]
    return [word for command in starting for word in dropwhile(lambda word: PurePath(word).name != NAME, command)] if starting else None


def _flags(words: Sequence[str]) -> dict[str, str]:
    flags: dict[str, str] = {}
    waiting = ""
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        if waiting and not word.startswith("--"):
            flags[waiting] = word
        elif word.startswith("--"):
            flags[name] = value if equals else "true"
        waiting = name if word.startswith("--") and not equals and name not in _SWITCHES else ""
    return flags


def _config(manifest: Field) -> dict[str, str]:
    keys = [key for key in manifest.value if isinstance(key, str)] if isinstance(manifest.value, dict) else []
    return {_YAML_NAMES.get(key, key): _word(manifest[key].value) for key in keys}


def _word(value: object) -> str:
    """As the flag would be written."""
    if isinstance(value, list):
        return ",".join(map(_word, value))
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


# ── what becomes of it ─────────────────────────────────────────────────────────────────────────────────────────────


def _listed(other: Field) -> list[str]:
    """The pools, NAME=RANGE, of a LoxiURL of type cidrpool; one without a name is called as the object."""
    if other["kind"].value != "LoxiURL" or other["spec"]["type"].text() != "cidrpool":
        return []
    parts = [part.strip().rpartition("=") for part in other["spec"]["loxiURL"].text().split(",")]
    if not all(range_of(text.strip()) for *_, text in parts):
        return []
    return [f"{name or other['metadata']['name'].text()}={text.strip()}" for name, _, text in parts]


def _told(other: Field) -> str:
    """What becomes of an object of kube-loxilb's own kinds."""
    kind, name = other["kind"].text(), other["metadata"]["name"].text()
    if pools := _listed(other):
        return f"{kind} {name}: converted to VIPPools ({', '.join(pools)}); kube-loxilb itself allocates none of them"
    if other["spec"]["type"].value == "cidrpool":
        return f"{kind} {name}: type cidrpool without a pool in its loxiURL; write its addresses as a VIPPool"
    words = {"LoxiURL": UNSERVED["loxiURL"], "BGPPeerService": "give kube-loxilb's --setBGP, the AS of the nodes, with it"}
    return f"{kind} {name}: {words.get(kind) or (_POLICY if kind.startswith('BGP') else 'not served')}"


def _pools(given: Mapping[str, str], more: Sequence[str]) -> list[Manifest]:
    """By name, those of both families together.  Unasked, addresses are given from the default pool alone."""
    external = given.get("externalCIDR")
    listed = [f"{DEFAULT_POOL}={external}"] if external else given.get("cidrPools", "").split(",")
    addresses: dict[str, list[str]] = {}
    for pool in filter(None, (*listed, *given.get("cidr6Pools", "").split(","), *more)):
        name, _, text = (part.strip() for part in pool.partition("="))
        addresses.setdefault(name, []).append(_range(text, pool))
    share = "key" if given.get("setUniqueIP") == "true" else "ports"
    return [vip_pool(name.lower(), found, autoAssign=name == DEFAULT_POOL, share=share) for name, found in addresses.items()]


def _range(text: str, pool: str) -> str:
    """The addresses that kube-loxilb gives from a CIDR: from its host bits on, else without first and last where it ends at an octet."""
    if "-" in text:
        return text
    try:
        network, first = ip_network(text, strict=False), parse_address(text.partition("/")[0])
    except ValueError as error:
        raise MigrateError(f"pool {pool}: got {text!r}, expected NAME=CIDR or NAME=FIRST-LAST") from error
    whole = network.prefixlen == network.max_prefixlen or first is None
    if whole or ((network.version == 6 or first == network[0]) and network.prefixlen % 8):
        return str(network)
    begin = network[1] if network.version == 6 or first == network[0] else first
    return f"{begin}-{max(network[-2], network[1])}"


def _settings(given: Mapping[str, str]) -> Settings:
    """By which the watcher will know its Services."""
    chosen = given.get("loxilbLoadBalancerClass", CLASS)
    return Settings(classes=(OURS, chosen), default_class=False)


def _options(given: Mapping[str, str]) -> list[str]:
    """Of the watcher.  Unlike Weir, kube-loxilb leaves Services without a class alone and takes nodes for targets."""
    words = ["--no-default-class"]
    if (name := given.get("loxilbLoadBalancerClass", CLASS)) != CLASS:
        words += ["--class", name]
    mode = given.get("setLBMode", "0")
    words += ["--mode", dict(zip("012", _MODES, strict=True)).get(mode, "default")]
    pods = "true" in (given.get("usePodNetwork"), given.get("useExternalEndpoint"))
    words += ["--targets", "endpoints" if pods else "nodes"]
    if given.get("monitor") == "true":
        words.append("--liveness")
    if given.get("noZoneName") != "true":
        words += ["--status-hostname", given.get("zone") or "llb"]
    return words


def _unserved(given: Mapping[str, str]) -> Iterator[str]:
    for name, value in given.items():
        if name in UNSERVED and value not in _OFF and (name, value) != ("numZoneInstances", "1"):
            yield f"--{name}={value}: {UNSERVED[name]}"
        elif name not in UNSERVED and name not in SERVED:
            yield f"--{name}={value}: kube-loxilb has no such flag"
    mode = given.get("setLBMode", "0")
    if mode not in ("0", "1", "2"):
        later = dict(zip("345", _MODES_LATER, strict=True)).get(mode, "no mode of kube-loxilb")
        yield f"--setLBMode={mode}: {later}; served are {', '.join(_MODES)}"
