"""BGPPeer: a router that LB nodes tell of VIPs.  Its fields are named as MetalLB's, which people know."""

import re
from typing import Final

from services.watcher.kinds.fields import Field
from services.watcher.kinds.kind import Kind
from services.watcher.kinds.routes import DECODE, duration_ms
from services.watcher.kinds.schema import SELECTOR, fields, of_kind
from services.watcher.kinds.selector import read_selector
from services.watcher.settings import Settings
from weir.events import BgpPeerGone, BgpPeerObserved
from weir.model import Bfd, BgpSession, Root, Selector, name_in, owner_of

MOST_ASN: Final = 2**32 - 1
_INTERFACE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,14}")
_HOPS: Final = 255


def _read(manifest: Field, root: Root, _: Settings) -> BgpPeerObserved | None:
    spec = manifest["spec"]
    event = BgpPeerObserved(root=root, session=_session(spec, root.source), nodes=node_selectors(spec))
    return None if manifest.faults else event


def _session(spec: Field, source: str) -> BgpSession:
    address, own, interface = spec["peerAddress"].address(), spec["sourceAddress"].address(), _interface(spec["interface"])
    if not address and not interface and not spec["interface"].value:
        spec["peerAddress"].fail("an address, or an interface in spec.interface")
    if address and interface:
        spec["interface"].fail(f"nothing beside spec.peerAddress {address}")
    if address and own and address.version != own.version:
        spec["sourceAddress"].fail(f"an IPv{address.version} address, as spec.peerAddress")
    hold_s, keepalive_s = _times(spec)
    return BgpSession(
        local_asn=_asn(spec["myASN"]),
        peer_asn=_asn(spec["peerASN"]),
        address=str(address or ""),
        interface=interface,
        port=spec["peerPort"].number(1, 65535, 179),
        source_address=str(own or ""),
        hops=_HOPS if spec["ebgpMultiHop"].flag(absent=False) else 1,
        hold_s=hold_s,
        keepalive_s=keepalive_s,
        connect_s=_seconds(spec["connectTime"], 1, 65535, 10),
        bfd=_bfd(spec["bfd"]),
        password=_secret(spec["passwordSecret"], source),
    )


def _asn(field: Field) -> int:
    if field.value is None:
        field.fail(f"1-{MOST_ASN}")
    return field.number(1, MOST_ASN, 1)


def _interface(field: Field) -> str:
    text = field.text()
    if text and not _INTERFACE.fullmatch(text):
        field.fail("the name of an interface")
        return ""
    return text


def _times(spec: Field) -> tuple[int, int]:
    """The hold time, and that between keepalives, a third of it where it is not given (RFC 4271, 10)."""
    hold_s = _seconds(spec["holdTime"], 3, 65535, 90)
    keepalive_s = _seconds(spec["keepaliveTime"], 1, 65535, max(hold_s // 3, 1))
    if keepalive_s > hold_s // 3:
        spec["keepaliveTime"].fail(f"at most a third of the hold time of {hold_s} s")
    return hold_s, keepalive_s


def _seconds(field: Field, low: int, high: int, absent: int) -> int:
    found = duration_ms(field)
    if found is None:
        return absent
    if found % 1000 or not low <= found // 1000 <= high:
        field.fail(f"whole seconds, {low}s-{high}s")
        return absent
    return found // 1000


def _bfd(field: Field) -> Bfd | None:
    if field.value is None:
        return None
    return Bfd(interval_ms=field["interval"].number(10, 60_000, 300), multiplier=field["multiplier"].number(2, 255, 3))


def _secret(field: Field, source: str) -> str:
    """The Secret that has the password, by its owner text; its name alone is in the log."""
    if field.value is None:
        return ""
    namespace, name = field["namespace"].domain_name(), field["name"].domain_name()
    for part, given in (("namespace", namespace), ("name", name)):
        if not given and field[part].value is None:
            field[part].fail(f"the {part} of a Secret")
    return owner_of("Secret", name_in(source, namespace), name)


def node_selectors(spec: Field) -> tuple[Selector, ...]:
    """`nodeSelectors`: one of them is to match; none selects all nodes."""
    return tuple(found for item in spec["nodeSelectors"].items() if (found := read_selector(item)))


BGPPEER: Final = Kind(
    word="BGPPeer",
    plural="bgppeers",
    group="weir.dev",
    versions=("v1alpha1",),
    namespaced=False,
    optional=True,
    decode=DECODE,
    read=_read,
    observed=BgpPeerObserved,
    gone=BgpPeerGone,
    fields=of_kind(
        spec=fields(
            "connectTime ebgpMultiHop holdTime interface keepaliveTime myASN peerASN peerAddress peerPort sourceAddress",
            bfd=fields("interval multiplier"),
            passwordSecret=fields("name namespace"),
            nodeSelectors=SELECTOR,
        ),
    ),
)
