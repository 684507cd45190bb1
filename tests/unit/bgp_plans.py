"""Plans for routers: one by hand, or any."""

from hypothesis import strategies as st

from weir.decider import Fact, World
from weir.events import AnyEvent, BgpRoutePlanned, BgpSessionPlanned
from weir.model import Bfd, BgpOffer, BgpSession, Root

ROOT = Root(kind="BGPPeer", name="tor")
OFFER = BgpOffer(nodes=("lb-1", "lb-2"))
SESSION = BgpSession(local_asn=65001, peer_asn=65000, address="192.0.2.1")
COMMUNITIES = ("65001:2", "65000:7", "65001:1:2", "65001:1:1", "no-export", "no-advertise", "local-AS", "no-peer", "graceful-shutdown")
RANGES: list[tuple[str, ...]] = [(), ("203.0.113.0/30",), ("203.0.113.1-203.0.113.3", "2001:db8::/126"), ("203.0.113.2",)]
PASSWORDS = {"Secret/weir/tor": "hunter2!"}
ADDRESSES = {"a": ("192.0.2.1", "2001:db8:1::1", ""), "b": ("192.0.2.2",), "c": ("2001:db8:1::3",)}  # "": unnumbered


def planned(peer: str = "tor", session: BgpSession = SESSION, *offers: BgpOffer) -> BgpSessionPlanned:
    return BgpSessionPlanned(peer=peer, session=session, nodes=("lb-1", "lb-2"), offers=offers or (OFFER,), root=ROOT)


def route(vip: str, *nodes: str) -> BgpRoutePlanned:
    return BgpRoutePlanned(vip=vip, nodes=nodes or ("lb-1", "lb-2"), root=ROOT)


def world(*events: AnyEvent) -> World:
    found = World()
    for seq, event in enumerate(events, 1):
        found.evolve(Fact(seq, event))
    return found


@st.composite
def _sessions(draw: st.DrawFn, peer: str) -> BgpSession:
    local, remote = draw(st.sampled_from(((1, 1), (1, 3), (2, 3)) if peer == "a" else ((1, 3), (2, 3))))
    address = draw(st.sampled_from(ADDRESSES[peer]))
    hold_s = draw(st.sampled_from((3, 90, 180)))
    return BgpSession(
        local_asn=local,
        peer_asn=remote,
        address=address,
        interface="" if address else "eth0",
        port=draw(st.sampled_from((179, 1790))) if address else 179,
        hops=draw(st.sampled_from((1, 255))) if address else 1,
        source_address=draw(st.sampled_from(("", "2001:db8:1::9" if ":" in address else "192.0.2.9"))) if address else "",
        hold_s=hold_s,
        keepalive_s=hold_s // 3,
        connect_s=draw(st.sampled_from((1, 10, 120))),
        password=draw(st.sampled_from(("", *PASSWORDS))) if address else "",
        bfd=draw(st.sampled_from((None, Bfd(), Bfd(interval_ms=100, multiplier=4)))),
    )


@st.composite
def _offers(draw: st.DrawFn) -> BgpOffer:
    return BgpOffer(
        nodes=("lb-1",),
        ranges=draw(st.sampled_from(RANGES)),
        length=draw(st.sampled_from((32, 31, 24))),
        length_v6=draw(st.sampled_from((128, 64))),
        med=draw(st.sampled_from((0, 5))),
        local_pref=draw(st.sampled_from((100, 7))),
        prepend=draw(st.sampled_from((0, 2))),
        active_backup=draw(st.booleans()),
        communities=tuple(draw(st.lists(st.sampled_from(COMMUNITIES), unique=True))),
    )


@st.composite
def plans(draw: st.DrawFn) -> list[AnyEvent]:
    """Sessions of one node, `lb-1`, and VIPs.  An internal one has the node's own AS, that of the first: FRR refuses others."""
    peers = draw(st.lists(st.sampled_from("abc"), unique=True))
    sessions = [planned(peer, draw(_sessions(peer)), *draw(st.lists(_offers(), min_size=1, max_size=2))) for peer in sorted(peers)]
    vips = draw(st.lists(st.sampled_from(("203.0.113.1", "203.0.113.2", "2001:db8::2")), unique=True))
    return [*sessions, *(route(vip, *draw(st.sampled_from((("lb-1",), ("lb-2", "lb-1"))))) for vip in vips)]
