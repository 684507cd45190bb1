"""FRR's configuration: rendered from the plan, compared with what a daemon runs, and brought there by commands."""

from hypothesis import given
from hypothesis import strategies as st

from services.dataplane.bgp.config import Statement, changes, parse, text_of
from services.dataplane.bgp.render import concerns, doubled, passwords_in, render, told, unserved
from tests.unit.bgp_plans import PASSWORDS, ROOT, SESSION, planned, plans, route, world
from weir.events import AnyEvent, BgpSessionPlanned, FrontendPlanned, ListenerPlanned, VipPlanned, key_of
from weir.model import PROXY, Bfd, BgpOffer, BgpSession, Rejection


def lines(*events: AnyEvent, node: str = "lb-1") -> list[str]:
    return [" / ".join(each) for each in render(node, world(*events), PASSWORDS)["bgpd"]]


def networks(node: str, *events: AnyEvent) -> dict[str, int]:
    found = world(*events)
    return {str(net): rank for net, rank in told(node, found, found.of(BgpSessionPlanned)).items()}


def test_a_node_tells_of_what_is_its_own_by_its_place_in_the_order() -> None:
    events = planned(), route("203.0.113.1"), route("203.0.113.2", "lb-2", "lb-1"), route("203.0.113.3", "lb-2"), route("2001:db8::1")
    assert networks("lb-1", *events) == {"203.0.113.1/32": 0, "203.0.113.2/32": 1, "2001:db8::1/128": 0}
    assert networks("lb-2", *events) == {"203.0.113.1/32": 1, "203.0.113.2/32": 0, "203.0.113.3/32": 0, "2001:db8::1/128": 1}
    assert networks("lb-3", *events) == {}


def test_only_what_is_offered_is_told() -> None:
    ranged = BgpOffer(nodes=("lb-1",), ranges=("203.0.113.0/28", "2001:db8::1-2001:db8::4"))
    events = planned("tor", SESSION, ranged), route("203.0.113.15"), route("203.0.113.16"), route("2001:db8::4"), route("2001:db8::5")
    assert networks("lb-1", *events) == {"203.0.113.15/32": 0, "2001:db8::4/128": 0}
    assert networks("lb-2", *events) == {}, "this node does not offer it"


def test_vips_of_one_aggregate_are_told_as_one_and_as_the_best_of_them() -> None:
    offer = BgpOffer(nodes=("lb-1", "lb-2"), ranges=("203.0.113.0/25",), length=26)
    events = (
        planned("tor", SESSION, offer),
        route("203.0.113.70", "lb-2", "lb-1"),
        route("203.0.113.80"),
        route("203.0.113.5", "lb-2", "lb-1"),
    )
    assert networks("lb-1", *events) == {"203.0.113.64/26": 0, "203.0.113.0/26": 1}
    assert "ip prefix-list weir-tor:0 permit 203.0.113.0/25 ge 26 le 26" in lines(*events)


def test_the_range_of_a_pool_is_a_prefix_list_with_no_address_more() -> None:
    offer = BgpOffer(nodes=("lb-1",), ranges=("203.0.113.10-203.0.113.13",))
    assert [line for line in lines(planned("tor", SESSION, offer)) if "prefix-list weir-tor:0 permit" in line] == [
        "ip prefix-list weir-tor:0 permit 203.0.113.10/31 ge 32",
        "ip prefix-list weir-tor:0 permit 203.0.113.12/31 ge 32",
    ]


def test_attributes_are_said_as_frr_prints_them() -> None:
    communities = ("no-export", "65001:2", "65000:7", "65001:1:2", "graceful-shutdown")
    offer = BgpOffer(nodes=("lb-1",), med=7, prepend=2, communities=communities)
    found = lines(planned("tor", SESSION, offer))
    for said in (
        "set metric 7",
        "set community 65000:7 65001:2 graceful-shutdown no-export additive",
        "set large-community 65001:1:2 additive",
        "set as-path prepend 65001 65001",
    ):
        assert f"route-map weir-tor permit 10 / {said}" in found
    assert not [line for line in found if "local-preference" in line], "it goes to no other AS"


def test_the_first_node_is_preferred_where_one_is_to_be_active() -> None:
    inside = BgpSession(local_asn=65001, peer_asn=65001, address="192.0.2.1")
    found = lines(planned("tor", inside, BgpOffer(nodes=("lb-1",), active_backup=True, local_pref=15)))
    for rank, (metric, preference) in enumerate([(0, 15), (100, 5), (200, 0), (300, 0)]):
        entry = f"route-map weir-tor permit {rank * 10 + 10}"
        assert [f"{entry} / match metric {rank + 1}", f"{entry} / set metric {metric}", f"{entry} / set local-preference {preference}"] == [
            line for line in found if line.startswith(f"{entry} / ") and "prefix-list" not in line
        ]


def test_a_session_that_offers_nothing_tells_of_nothing() -> None:
    elsewhere = BgpOffer(nodes=("lb-2",))
    assert "route-map weir-tor deny 10" in lines(planned("tor", SESSION, elsewhere), route("203.0.113.1"))


def test_a_node_has_one_as_and_shows_routers_another_where_they_ask_for_it() -> None:
    other = BgpSession(local_asn=65009, peer_asn=65000, address="192.0.2.9")
    found = lines(planned("a"), planned("b", other))
    assert "router bgp 65001 / neighbor 192.0.2.9 local-as 65009 no-prepend replace-as" in found


def test_nothing_that_comes_in_is_taken_over() -> None:
    found = lines(planned(), planned("six", BgpSession(local_asn=65001, peer_asn=1, address="2001:db8::1")))
    assert [line for line in found if line.endswith(" in")] == [
        "router bgp 65001 / address-family ipv4 unicast / neighbor 192.0.2.1 route-map weir_none in",
        "router bgp 65001 / address-family ipv6 unicast / neighbor 2001:db8::1 route-map weir_none in",
    ]
    assert [line for line in found if "weir_none" in line and "map weir_none deny 10" in line] == ["route-map weir_none deny 10"]


def test_a_session_without_its_password_is_none() -> None:
    secret = BgpSession(local_asn=65001, peer_asn=65000, address="192.0.2.1", password="Secret/weir/tor")
    unknown = BgpSession(local_asn=65001, peer_asn=65000, address="192.0.2.2", password="Secret/weir/none")
    found = lines(planned("a", secret), planned("b", unknown), route("203.0.113.1"))
    assert "router bgp 65001 / neighbor 192.0.2.1 password hunter2!" in found
    assert not [line for line in found if "192.0.2.2" in line or "weir-b" in line]


def test_one_router_has_one_session_that_of_the_first_peer_by_name() -> None:
    twice = planned("b", BgpSession(local_asn=65001, peer_asn=65055, address="192.0.2.1"))
    assert lines(planned("a"), twice) == lines(planned("a"))
    assert (doubled(planned("a"), [planned("a"), twice]), doubled(twice, [planned("a"), twice])) == ("", "a")


def test_preference_is_among_the_nodes_that_offer_it() -> None:
    two = BgpOffer(nodes=("lb-4", "lb-5"), active_backup=True)
    events = planned("tor", SESSION, two), route("203.0.113.1", "lb-1", "lb-2", "lb-3", "lb-5", "lb-4")
    assert (networks("lb-5", *events), networks("lb-4", *events)) == ({"203.0.113.1/32": 0}, {"203.0.113.1/32": 1})


@given(st.text(min_size=1))
def test_a_router_id_is_that_of_a_host(node: str) -> None:
    here = BgpSessionPlanned(peer="tor", session=SESSION, nodes=(node,), root=ROOT)
    said = next(each[-1] for each in render(node, world(here), PASSWORDS)["bgpd"] if each[-1].startswith("bgp router-id "))
    assert 1 <= int(said.split()[-1].split(".")[0]) <= 126


def test_a_long_name_stays_a_word_that_frr_does_not_cut() -> None:
    names = [f"{'a' * 80}{number}" for number in range(2)]
    entries = {line for name in names for line in lines(planned(name)) if line.startswith("route-map weir-") and " / " not in line}
    assert (len(entries), max(map(len, entries)) < 80) == (2, True)


def test_many_vips_go_at_once_by_a_command_each() -> None:
    many = [route(f"203.0.{number // 250}.{number % 250 + 1}") for number in range(5000)]
    before, after = (render("lb-1", world(planned(), *routes), PASSWORDS)["bgpd"] for routes in (many, many[:1]))
    assert len([line for line in changes(before, after) if line.startswith("no network ")]) == 4999


def test_routers_are_not_told_of_a_vip_of_which_nothing_is_served() -> None:
    def frontend(vip: str, port: int, mode: str = "default") -> FrontendPlanned:
        return FrontendPlanned(vip=vip, port=port, protocol="TCP", owner="Service/a/b", sets=(), mode=mode, root=ROOT)

    web, dns, other = frontend("203.0.113.1", 80), frontend("203.0.113.1", 53), frontend("203.0.113.2", 80)
    edge = ListenerPlanned(owner="Gateway/a/b", port=80, vips=("203.0.113.3",), chains=(), root=ROOT)
    vips = [VipPlanned(vip=f"203.0.113.{number}", root=ROOT) for number in range(1, 5)]
    found = world(web, dns, other, edge, frontend("203.0.113.3", 80, PROXY), *vips, planned(), *(route(vip.vip) for vip in vips))

    def without(*events: AnyEvent) -> set[str]:
        return {*unserved(found, [Rejection(entity=key_of(event), reason="full") for event in events])}

    assert without() == without(web) == set(), "one port of a VIP is no reason to withdraw it"
    assert without(web, dns) == {"203.0.113.1"}
    assert without(other, edge, vips[3]) == {"203.0.113.2", "203.0.113.3", "203.0.113.4"}
    left = told("lb-1", found, found.of(BgpSessionPlanned), without(web, dns, edge))
    assert {str(net) for net in left} == {"203.0.113.2/32", "203.0.113.4/32"}


def test_a_password_that_frr_runs_with_is_found_again() -> None:
    secret = BgpSession(local_asn=65001, peer_asn=65000, address="192.0.2.1", password="Secret/weir/tor")
    text = text_of(render("lb-1", world(planned("a", secret)), PASSWORDS)["bgpd"])
    assert passwords_in([planned("a", secret), planned("b")], text) == PASSWORDS
    assert passwords_in([planned("a", secret)], "") == {}


def test_bfd_has_a_profile_for_each_router() -> None:
    session = BgpSession(local_asn=1, peer_asn=2, address="192.0.2.1", bfd=Bfd(interval_ms=100))
    assert text_of(render("lb-1", world(planned("tor", session)), PASSWORDS)["bfdd"]).split("\n")[:4] == [
        *("bfd", "profile weir-tor", "transmit-interval 100", "receive-interval 100")
    ]


# ── commands ───────────────────────────────────────────────────────────────────────────────────────────────────────

ROUTER = "router bgp 65001"
V4 = "address-family ipv4 unicast"


def test_what_is_running_needs_no_command() -> None:
    wanted = render("lb-1", world(planned(), route("203.0.113.1")), PASSWORDS)["bgpd"]
    assert changes(wanted, wanted) == []


def test_a_vip_costs_one_command() -> None:
    before = render("lb-1", world(planned(), route("203.0.113.1")), PASSWORDS)["bgpd"]
    after = render("lb-1", world(planned(), route("203.0.113.1"), route("203.0.113.2")), PASSWORDS)["bgpd"]
    told = "network 203.0.113.2/32 route-map weir_rank_0"
    assert changes(before, after) == [ROUTER, V4, told, "exit", "exit"]
    assert changes(after, before) == [ROUTER, V4, f"no {told}", "exit", "exit"]


def test_a_vip_whose_node_is_preferred_no_more_is_never_withdrawn() -> None:
    before = render("lb-1", world(planned(), route("203.0.113.1")), PASSWORDS)["bgpd"]
    after = render("lb-1", world(planned(), route("203.0.113.1", "lb-2", "lb-1")), PASSWORDS)["bgpd"]
    assert changes(before, after) == [ROUTER, V4, "network 203.0.113.1/32 route-map weir_rank_1", "exit", "exit"]


def test_a_router_of_another_as_is_another_neighbor() -> None:
    before = render("lb-1", world(planned()), PASSWORDS)["bgpd"]
    after = render("lb-1", world(planned("tor", BgpSession(local_asn=65001, peer_asn=65002, address="192.0.2.1"))), PASSWORDS)["bgpd"]
    commands = changes(before, after)
    assert commands[:2] == [ROUTER, "no neighbor 192.0.2.1"]
    assert [line for line in commands if "neighbor" in line][1:] == [each[-1] for each in after if each[-1].startswith("neighbor ")]


def test_what_a_daemon_prints_is_read_back() -> None:
    running = """frr version 8.4.4
frr defaults traditional
!
hostname lb
!
router bgp 65001
 bgp router-id 1.2.3.4
 neighbor 192.0.2.1 remote-as 65000
 !
 address-family ipv4 unicast
  network 203.0.113.1/32 route-map weir_rank_0
 exit-address-family
exit
!
ip prefix-list weir-tor:0 seq 5 permit 203.0.113.0/28 ge 32
!
route-map weir-tor permit 10
 match ip address prefix-list weir-tor:0
exit
"""
    assert parse(running) == [
        (ROUTER,),
        (ROUTER, "bgp router-id 1.2.3.4"),
        (ROUTER, "neighbor 192.0.2.1 remote-as 65000"),
        (ROUTER, V4, "network 203.0.113.1/32 route-map weir_rank_0"),
        ("ip prefix-list weir-tor:0 permit 203.0.113.0/28 ge 32",),
        ("route-map weir-tor permit 10",),
        ("route-map weir-tor permit 10", "match ip address prefix-list weir-tor:0"),
    ]


class Daemon:
    """What commands make of a configuration, as FRR does it."""

    def __init__(self, running: list[Statement]) -> None:
        self.running = dict.fromkeys(running)

    def run(self, commands: list[str]) -> None:
        path: Statement = ()
        for line in commands:
            if line == "exit":
                path = path[:-1]
            elif line.startswith("no ") and line not in ("no bgp default ipv4-unicast", "no bgp network import-check"):
                self._remove(path, line.removeprefix("no "))
            else:
                self._set((*path, line))
                context = line.startswith(("router bgp ", "address-family ", "route-map ")) and " address-family " not in line
                path = (*path, line) if context else path
        assert path == ()

    def _set(self, statement: Statement) -> None:
        head = statement[-1].split(" ")[:2]
        if head[0] == "network":
            for other in [each for each in self.running if each[:-1] == statement[:-1] and each[-1].split(" ")[:2] == head]:
                del self.running[other]
        for length in range(1, len(statement) + 1):
            if not statement[length - 1].startswith("address-family "):
                self.running.setdefault(statement[:length])

    def _remove(self, path: Statement, line: str) -> None:
        words = line.split(" ")
        for each in list(self.running):
            inside = each[: len(path)] == path
            whole = inside and each[len(path) : len(path) + 1] == (line,)
            one = words[0] == "neighbor" and (len(words) == 2 or words[2:] == ["interface"])
            neighbor = one and inside and each[-1].startswith(f"neighbor {words[1]} ")
            prepended = inside and line == "set as-path prepend" and each[-1].startswith(line)
            if whole or neighbor or prepended:
                del self.running[each]


@given(plans(), plans())
def test_commands_lead_from_any_plan_to_any_other(before: list[AnyEvent], after: list[AnyEvent]) -> None:
    daemon = Daemon(render("lb-1", world(*before), PASSWORDS)["bgpd"])
    wanted = render("lb-1", world(*after), PASSWORDS)["bgpd"]
    running = list(daemon.running)
    daemon.run(changes(running, wanted))
    assert {*daemon.running} == {*wanted}
    assert changes(list(daemon.running), wanted) == []


def test_a_statement_is_about_the_session_that_it_names() -> None:
    both = world(planned("tor"), planned("tor-1", BgpSession(local_asn=65001, peer_asn=1, address="2001:db8::1")))
    found = render("lb-1", both, PASSWORDS)["bgpd"]
    about = {each[-1]: concerns(each) for each in found}
    assert about["neighbor 2001:db8::1 timers 30 90"] == {"2001:db8::1"}
    assert about["ipv6 prefix-list weir-tor-1:0 permit ::/0 ge 128"] == {"weir-tor-1"}
    assert about["neighbor 192.0.2.1 route-map weir-tor out"] == {"192.0.2.1", "weir-tor"}
    assert about["no bgp default ipv4-unicast"] == about["set metric 2"] == about["route-map weir_none deny 10"] == set()


def test_names_are_words_of_frr() -> None:
    assert "route-map weir-east_tor.rack-1 permit 10" in lines(planned("east:tor.rack-1"))
