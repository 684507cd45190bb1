"""BGP of others as BGPPeers and BGPAdvertisements: MetalLB's objects, and what kube-loxilb was started with."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from services.watcher.kinds.fields import Field
from weir.cli.migrate.manifests import Manifest, MigrateError

METALLB_KINDS: Final = ("BGPPeer", "BGPAdvertisement", "BFDProfile", "Community")
_SAME: Final = (
    *("myASN", "peerASN", "peerAddress", "interface", "peerPort", "sourceAddress", "ebgpMultiHop"),
    *("holdTime", "keepaliveTime", "connectTime"),
)
_NOT_SAID: Final = {  # of a BGPPeer of MetalLB
    "dynamicASN": "name the router's AS in peerASN",
    "password": "write it into a Secret, and name that in passwordSecret",
    "routerID": "a node's router id follows from its name",
    "vrf": "sessions are in the node's main network",
    "enableGracefulRestart": "graceful restart is off, so that routers do not keep the routes of a dead node",
    "dualStackAddressFamily": "a session carries the family of its address; give the router a BGPPeer for each",
}
_POOL_LABELS: Final = "ipAddressPoolSelectors"


def manifest(kind: str, name: str, spec: Mapping[str, Any]) -> Manifest:
    """A BGPPeer or BGPAdvertisement."""
    given = {key: value for key, value in spec.items() if value is not None}
    return {"apiVersion": "weir.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": given}


def of_metallb(objects: Sequence[Field], left_out: list[str]) -> Iterator[Manifest]:
    """Peers with their BFD profiles, and advertisements with the communities that they name.   left_out: gets what is not converted."""
    named = {
        kind: {each["metadata"]["name"].text(): each["spec"] for each in objects if each["kind"].value == kind} for kind in METALLB_KINDS
    }
    communities = {
        item["name"].text(): item["value"].text() for spec in named["Community"].values() for item in spec["communities"].items()
    }
    for each in (each for each in objects if each["kind"].value == "BGPPeer"):
        yield _peer(each, named["BFDProfile"], left_out)
    for name, spec in named["BGPAdvertisement"].items():
        if spec[_POOL_LABELS].value:
            left_out.append(f"BGPAdvertisement {name}: {_POOL_LABELS}: name the pools in spec.pools")
        else:
            yield _advertisement(name, spec, communities)


def _peer(peer: Field, profiles: Mapping[str, Field], left_out: list[str]) -> Manifest:
    spec, name = peer["spec"], peer["metadata"]["name"].text()
    left_out += [f"BGPPeer {name}: {field}: {why}" for field, why in _NOT_SAID.items() if spec[field].value]
    profile, secret = spec["bfdProfile"].text(), spec["passwordSecret"]
    if profile and profile not in profiles:
        left_out.append(f"BGPPeer {name}: its bfdProfile {profile}: give that file too")
    namespace = secret["namespace"].text() or peer["metadata"]["namespace"].text() or "metallb-system"
    password = {"namespace": namespace, "name": secret["name"].text()} if secret.value else None
    more = {
        "bfd": _bfd(profiles[profile]) if profile in profiles else None,
        "nodeSelectors": spec["nodeSelectors"].value or None,
        "passwordSecret": password,
    }
    return manifest("BGPPeer", name, {**{field: spec[field].value for field in _SAME}, **more})


def _bfd(profile: Field) -> dict[str, int]:
    """One interval for both directions: the longer."""
    interval = max(profile[field].number(10, 60_000, 300) for field in ("receiveInterval", "transmitInterval"))
    return {"interval": interval, "multiplier": profile["detectMultiplier"].number(2, 255, 3)}


def _advertisement(name: str, spec: Field, communities: Mapping[str, str]) -> Manifest:
    given = [communities.get(text, text).removeprefix("large:") for text in (item.text() for item in spec["communities"].items())]
    same = ("peers", "nodeSelectors", "aggregationLength", "aggregationLengthV6", "localPref")
    more = {"pools": spec["ipAddressPools"].value or None, "communities": given or None}
    return manifest("BGPAdvertisement", name, {**{field: spec[field].value or None for field in same}, **more})


def of_loxilb(given: Mapping[str, str], peers: Iterable[Field]) -> list[Manifest]:
    """What every loxilb of kube-loxilb has: sessions with all routers, which are told all VIPs.

    given: its flags; without setBGP there is none.   peers: BGPPeerServices.   Raises MigrateError for what cannot be understood.
    """
    asn = _number("setBGP", given.get("setBGP", "0"))
    if not asn:
        return []
    multihop = True if given.get("eBGPMultiHop") == "true" else None
    found = [_router(word) for word in given.get("extBGPPeers", "").split(",") if word.strip()]
    found += [(each["spec"]["ipAddress"].text(), each["spec"]["remoteAs"].value, each["spec"]["remotePort"].value) for each in peers]
    made = [
        manifest(
            "BGPPeer",
            address.replace(":", "-").replace(".", "-"),
            {"myASN": asn, "peerASN": remote, "peerAddress": address, "peerPort": port or None, "ebgpMultiHop": multihop},
        )
        for address, remote, port in dict.fromkeys(found)
    ]
    return [*made, manifest("BGPAdvertisement", "all", {})] if made else []


def _router(word: str) -> tuple[str, Any, Any]:
    address, _, asn = word.strip().rpartition(":")
    if not address:
        raise MigrateError(f"extBGPPeers: got {word.strip()!r}, expected ADDRESS:ASN")
    return address, _number("extBGPPeers", asn), None


def _number(flag: str, text: str) -> int:
    if not text.isdecimal():
        raise MigrateError(f"{flag}: got {text!r}, expected the number of an AS")
    return int(text)
