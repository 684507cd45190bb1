"""ipam against a model that only reads the log, in any order of events."""

import os
import subprocess
import sys
from ipaddress import ip_address, ip_network
from itertools import combinations, product
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from ipam_log import NOT_TIER, SHOP, TEAM, TIER, Log, addresses, gone, node, pool, pool_gone, root, service

from weir.events import (
    AnyEvent,
    AppliedThrough,
    ClaimSettled,
    NamespaceGone,
    NamespaceObserved,
    NodeAddressesObserved,
    NodeLeft,
    NodeSeen,
    PoolGone,
    PoolObserved,
    ServiceGone,
    ServiceObserved,
    VipAllocated,
    VipDenied,
    VipFreed,
    VipReleased,
    VipWithdrawn,
)
from weir.model import Family, FamilyPolicy, Root, ServicePort, family_of

SERVICES = st.sampled_from(["shop/a", "shop/b", "shop/c", "blog/d"])
NODES = ("n1", "n2")
V4, V6 = "192.0.2.", "2001:db8::"
RANGES = st.lists(
    st.sampled_from([f"{V4}0/31", f"{V4}2-{V4}3", f"{V4}4/32", f"{V6}/127", f"{V6}4-{V6}5", "198.51.100.0/32"]), min_size=1, max_size=3
).map(lambda ranges: tuple(dict.fromkeys(ranges)))
ASKED = st.lists(st.sampled_from([f"{V4}{n}" for n in range(5)] + [f"{V6}4", "203.0.113.9"]), max_size=2, unique=True).map(tuple)
MACHINES = st.lists(st.sampled_from([f"{V4}0", f"{V4}2", f"{V6}4", "198.51.100.9"]), max_size=2, unique=True)
FAMILIES = st.sampled_from([(), ("IPv4",), ("IPv6",), ("IPv4", "IPv6"), ("IPv6", "IPv4")])
POLICIES: st.SearchStrategy[FamilyPolicy] = st.sampled_from(["SingleStack", "PreferDualStack", "RequireDualStack"])
NAMED = st.sampled_from([(), (), ("p",), ("q", "p")])
MORE = st.sampled_from([(), (), (), ("q",), ("p", "q")])
PORTS = st.sets(st.sampled_from([(80, "TCP"), (443, "TCP"), (80, "UDP")]), min_size=1).map(
    lambda ports: tuple(ServicePort(port=port, protocol=protocol) for port, protocol in sorted(ports))
)


class Model:
    """What the log itself says, read without ipam's code."""

    def __init__(self) -> None:
        self.held: dict[str, VipAllocated] = {}
        self.released: dict[str, int] = {}  # VIP -> sequence
        self.withdrawn: dict[str, tuple[int, int]] = {}  # VIP -> release it answers, own sequence
        self.nodes: set[str] = set()
        self.machines: dict[str, NodeAddressesObserved] = {}
        self.applied: dict[str, int] = {}  # node -> applied through
        self.exposed: dict[str, ServiceObserved] = {}
        self.pools: dict[str, PoolObserved] = {}
        self.namespaces: dict[str, dict[str, str]] = {}
        self.waiting: dict[tuple[str, Family], int] = {}  # Service and family -> since
        self.settled: dict[str, int] = {}  # Service -> since, of claims settled by the decision under way
        self.speaker = ""  # the Service whose fact led to the decision under way

    def read(self, seq: int, event: AnyEvent) -> None:
        if event.author != "ipam":
            self.settled.clear()
            self.speaker = event.root.owner if isinstance(event, ServiceObserved | ServiceGone) else ""
        match event:
            case ServiceObserved(exposed=True):
                self.exposed[event.root.owner] = event
            case ServiceObserved() | ServiceGone():
                self.exposed.pop(event.root.owner, None)
            case PoolObserved():
                self.pools[event.root.name] = event
            case PoolGone():
                self.pools.pop(event.root.name, None)
            case NamespaceObserved(root=root, labels=labels):
                self.namespaces[root.name] = labels
            case NamespaceGone(root=root):
                self.namespaces.pop(root.name, None)
            case NodeSeen(node=name):
                self.nodes.add(name)
            case NodeAddressesObserved(node=name):
                self.machines[name] = event
            case NodeLeft(lbnode=name):
                self.nodes.discard(name)
            case AppliedThrough(node=name, seq=through):
                self.applied[name] = through
            case VipWithdrawn(vip=vip, release=release):
                self.withdrawn[vip] = (release, seq)
            case VipAllocated():
                self.allocated(event)
            case VipReleased(vip=vip, holders=services):
                before = self.held.pop(vip)
                assert before.holders == services, f"{vip} was not {services}'s"
                self.lost(vip, set(services))
                self.released[vip] = seq
            case VipFreed(vip=vip):
                release, withdrawn = self.withdrawn[vip]
                assert release == self.released.pop(vip), f"{vip}: the planner answered another release"
                assert all(self.applied.get(node, 0) >= withdrawn for node in self.nodes), f"a node may still forward for {vip}"
            case VipDenied(owner=name, family=family, since=since):
                assert since in {at for (other, _), at in self.waiting.items() if other == name} or name not in {
                    other for other, _ in self.waiting
                }, "lost its turn"
                self.waiting[name, family] = since
            case ClaimSettled(owner=name, family=family):
                self.settled[name] = self.waiting.pop((name, family))

    def lost(self, vip: str, services: set[str]) -> None:
        silent = {name for name in services - {self.speaker} if not self.moves(name, vip)}
        assert not silent, f"{vip} was pulled from {silent}, who said nothing"

    def moves(self, name: str, vip: str) -> bool:
        """Whether it kept `vip` for want of an address that it asks for by name, and that a pool offers now."""
        observed = self.exposed[name]
        asked = {*observed.requested, *observed.more_requested}
        missing = asked - {held for held, event in self.held.items() if name in event.holders}
        return vip not in asked and any(other in addresses_of(pool) for other in missing for pool in self.pools.values())

    def allocated(self, event: VipAllocated) -> None:
        before = self.held.get(event.vip)
        assert event != before, "said twice"
        assert event.vip not in self.released, f"{event.vip} was given before every node had let go"
        kept = tuple(name for name in (before.holders if before else ()) if name in event.holders)
        assert event.holders[: len(kept)] == kept, "the oldest holder comes first"
        self.lost(event.vip, set(before.holders if before else ()) - set(event.holders))
        for holder in set(event.holders) - set(kept):
            self.came(holder, event, fresh=before is None)
        self.held[event.vip] = event

    def came(self, holder: str, event: VipAllocated, *, fresh: bool) -> None:
        pool = self.pools[event.pool]
        assert event.vip in addresses_of(pool)
        assert self.wants(self.exposed[holder], event.vip, pool), f"{holder} did not ask for {event.vip}"
        mine = min([since for (name, _), since in self.waiting.items() if name == holder], default=self.settled.get(holder, 2**63))
        for (name, family), since in self.waiting.items() if fresh else ():  # nobody who would have taken it has waited longer
            other = self.exposed[name]
            would = family == family_of(event.vip) and not self.whole(name) and self.wants(other, event.vip, pool, missing=True)
            assert not would or (since, name) >= (mine, holder), f"{name} has waited longer than {holder}"

    def whole(self, name: str) -> bool:
        """It gets all or nothing."""
        return self.exposed[name].family_policy == "RequireDualStack" and not self.vips(name)

    def vips(self, name: str) -> set[str]:
        return {vip for vip, event in self.held.items() if name in event.holders}

    def wants(self, observed: ServiceObserved, vip: str, pool: PoolObserved, *, missing: bool = False) -> bool:
        """Whether it may be given `vip`; missing: which it is sure to lack."""
        if not self.selected(pool, observed):
            return False
        if self.occupied(vip) and not (vip in observed.requested and pool.share_with_nodes and self.owned(vip)):
            return False
        mine, family = self.vips(observed.root.owner), family_of(vip)
        asked = [address for address in observed.requested if family_of(address) == family]
        drawable = not (pool.avoid_buggy_ips and vip.endswith(".0"))
        if vip in observed.requested:
            return True
        if not missing and pool.root.name in observed.more_pools:
            return drawable
        named = pool.root.name in observed.pools if observed.pools else pool.auto_assign
        lacks = not missing or not any(family_of(held) == family for held in mine)
        possible = family in (observed.families or map(family_of, observed.requested) or (family,))
        possible |= observed.family_policy != "SingleStack" or not (observed.families or observed.requested)
        return possible and not asked and named and drawable and lacks

    def selected(self, pool: PoolObserved, observed: ServiceObserved) -> bool:
        namespace = observed.root.namespace
        labels = {**self.namespaces.get(namespace, {}), "kubernetes.io/metadata.name": namespace}
        web, in_shop, has_team = observed.labels.get("tier") == "web", namespace == "shop", "team" in labels
        rules = [(TIER, web), (NOT_TIER, not web), (SHOP, in_shop), (TEAM, has_team)]
        return all(met for selector, met in rules if selector in (pool.service_selector, pool.namespace_selector))

    def owned(self, vip: str) -> bool:
        """Whether it is an address of an LB node's own."""
        return any(vip in machine.addresses for name, machine in self.machines.items() if name in self.nodes)

    def occupied(self, vip: str) -> bool:
        """Whether a machine has it."""
        return self.owned(vip) or any(vip in machine.gateways for name, machine in self.machines.items() if name in self.nodes)

    def free(self) -> list[tuple[str, PoolObserved]]:
        """Addresses that nobody holds, and their pools."""
        offered = [(vip, pool) for pool in self.pools.values() for vip in sorted(addresses_of(pool))]
        return [(vip, pool) for vip, pool in offered if vip not in self.held and vip not in self.released]


def addresses_of(pool: PoolObserved) -> set[str]:
    found: set[str] = set()
    for text in pool.addresses:
        if "-" in text:
            first, last = map(ip_address, text.split("-"))
            found |= {
                str(ip_address(number) if first.version == 4 else first.__class__(number)) for number in range(int(first), int(last) + 1)
            }
        else:
            found |= {str(address) for address in ip_network(text)}
    return found


class Machine(RuleBasedStateMachine):
    """Everything that may happen to ipam, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.log, self.model, self.read = Log(), Model(), 0

    def feed(self, event: AnyEvent) -> None:
        self.log.say(event)
        self.follow()
        assert self.log.say(event) == [], "a repeated event must yield nothing new"
        self.follow()

    def follow(self) -> None:
        for fact in self.log.facts[self.read :]:
            self.model.read(*fact[:2])
        self.read = len(self.log.facts)

    @rule(
        path=SERVICES,
        asked=ASKED,
        families=FAMILIES,
        policy=POLICIES,
        pools=NAMED,
        more_pools=MORE,
        share_key=st.sampled_from(["", "k", "k", "l"]),
        exclusive=st.sampled_from([False, False, True]),
        ports=PORTS,
        web=st.booleans(),
    )
    def expose(
        self, path: str, asked: tuple[str, ...], families: tuple[Family, ...], policy: FamilyPolicy, web: bool, **fields: Any
    ) -> None:
        if families and policy == "SingleStack":  # as the watcher refuses the rest
            asked = tuple(address for address in asked if family_of(address) in families)
        observed = service(path, *asked, families=families, family_policy=policy, labels={"tier": "web"} if web else {}, **fields)
        self.feed(observed)

    @rule(path=SERVICES, remove=st.booleans())
    def withdraw(self, path: str, remove: bool) -> None:
        self.feed(gone(path) if remove else service(path, exposed=False))

    @rule(
        name=st.sampled_from(["p", "q"]),
        ranges=RANGES,
        auto_assign=st.booleans(),
        avoid_buggy_ips=st.booleans(),
        priority=st.integers(0, 1),
        share=st.sampled_from(["key", "key", "ports"]),
        share_with_nodes=st.booleans(),
        service_selector=st.sampled_from([None, None, TIER, NOT_TIER]),
        namespace_selector=st.sampled_from([None, None, SHOP, TEAM]),
    )
    def offer(self, name: str, ranges: tuple[str, ...], **fields: Any) -> None:
        others = {address for pool in self.model.pools.values() if pool.root.name != name for address in addresses_of(pool)}
        apart = [text for text in ranges if not others & addresses_of(pool(name, text))]  # the watcher refuses overlaps
        if apart:
            self.feed(pool(name, *apart, **fields))

    @rule(name=st.sampled_from(["p", "q"]))
    def remove_pool(self, name: str) -> None:
        self.feed(pool_gone(name))

    @rule(name=st.sampled_from(["shop", "blog"]), team=st.booleans(), remove=st.booleans())
    def label_namespace(self, name: str, team: bool, remove: bool) -> None:
        root = Root(kind="Namespace", name=name)
        self.feed(NamespaceGone(root=root) if remove else NamespaceObserved(root=root, labels={"team": "x"} if team else {}))

    @rule(name=st.sampled_from(NODES))
    def node_comes(self, name: str) -> None:
        self.feed(node(name))

    @rule(name=st.sampled_from(NODES), own=MACHINES, gateways=MACHINES)
    def node_reports_its_addresses(self, name: str, own: list[str], gateways: list[str]) -> None:
        self.feed(addresses(name, *own, gateways=gateways))

    @rule(name=st.sampled_from(NODES))
    def node_leaves(self, name: str) -> None:
        self.feed(NodeLeft(lbnode=name))

    @rule(name=st.sampled_from(NODES), behind=st.integers(0, 4))
    def node_applies(self, name: str, behind: int) -> None:
        self.feed(AppliedThrough(node=name, seq=max(0, len(self.log.facts) - behind)))

    @rule()
    def planner_follows(self) -> None:
        for vip, seq in sorted(self.model.released.items()):
            if self.model.withdrawn.get(vip, (0, 0))[0] != seq:
                self.feed(VipWithdrawn(vip=vip, release=seq, root=root("any")))

    @rule(data=st.data())
    def event_repeats(self, data: st.DataObject) -> None:
        """The last word of any entity once more, as a source says it that has forgotten."""
        said = [fact.event for fact in self.log.fold.world.facts.values() if fact.event.author != "ipam"]
        said = [event for event in said if not isinstance(event, VipWithdrawn | NodeLeft | NodeSeen)]  # each means what came before it
        if said:
            assert self.log.say(data.draw(st.sampled_from(said))) == []
            self.follow()

    @rule()
    def restart(self) -> None:
        assert self.log.restart() == [], "a restart owes nothing"

    @invariant()
    def world_is_what_the_log_says(self) -> None:
        assert {event.vip: event for event in self.log.fold.world.of(VipAllocated)} == self.model.held
        assert {vip.vip for vip in self.log.fold.world.of(VipReleased)} == set(self.model.released)
        assert {(claim.owner, claim.family) for claim in self.log.fold.world.of(VipDenied)} == set(self.model.waiting)

    @invariant()
    def every_exposed_service_is_served_or_waits(self) -> None:
        for name, observed in self.model.exposed.items():
            vips = self.model.vips(name)
            waits = {family for holder, family in self.model.waiting if holder == name}
            if self.model.whole(name):
                assert waits
                continue
            assert all(address in vips or family_of(address) in waits for address in self.asked(observed))
            families = observed.families or tuple(map(family_of, observed.requested))
            needed = families[:1] if observed.family_policy == "PreferDualStack" else families
            assert {family_of(vip) for vip in vips} | waits >= set(needed)
            assert vips or waits
        assert {name for vip in self.model.held.values() for name in vip.holders} <= set(self.model.exposed)

    @staticmethod
    def asked(observed: ServiceObserved) -> list[str]:
        families = {family_of(vip) for vip in observed.requested} if not observed.families else set(observed.families)
        return [vip for vip in observed.requested if family_of(vip) in families]

    @invariant()
    def nobody_waits_for_what_is_free(self) -> None:
        for name, observed in self.model.exposed.items():
            needs = {family for holder, family in self.model.waiting if holder == name}
            if observed.family_policy == "PreferDualStack":
                needs |= {"IPv4", "IPv6"} - {family_of(vip) for vip in self.model.vips(name)}
            for vip, offered in self.model.free() if not self.model.whole(name) else ():
                assert family_of(vip) not in needs or not self.model.wants(observed, vip, offered, missing=True), f"{name} could have {vip}"

    @invariant()
    def those_on_one_vip_agreed_to_share_it(self) -> None:
        for vip in self.model.held.values():
            holders = [self.model.exposed[name] for name in vip.holders]
            for one, other in combinations(holders, 2):
                assert vip.share == "ports" or one.root.namespace == other.root.namespace
                assert vip.share == "ports" or one.share_key == other.share_key == vip.share_key != ""
                assert not one.exclusive
                assert not other.exclusive
                assert not set(one.ports) & set(other.ports)

    @invariant()
    def nobody_waits_for_a_vip_that_its_pool_lets_it_share(self) -> None:
        for (name, family), vip in product(self.model.waiting, self.model.held.values()):
            observed, pool = self.model.exposed[name], self.model.pools.get(vip.pool)
            if not pool or pool.share == "key" or vip.orphaned or family_of(vip.vip) != family or self.model.whole(name):
                continue
            holders = [self.model.exposed[holder] for holder in vip.holders]
            free = not any({*observed.ports} & {*holder.ports} or holder.exclusive for holder in holders) and not observed.exclusive
            lacks = name not in vip.holders and self.model.wants(observed, vip.vip, pool, missing=True)
            assert not (free and lacks), f"{name} could stand on {vip.vip}"

    @invariant()
    def what_a_machine_has_is_marked_and_shared_where_its_pool_grants_it(self) -> None:
        for vip in self.model.held.values():
            assert bool(vip.in_use_by) is self.model.occupied(vip.vip)
            if not vip.orphaned:
                assert vip.shared_with_node is (self.model.pools[vip.pool].share_with_nodes and self.model.owned(vip.vip))

    @invariant()
    def orphans_are_marked(self) -> None:
        for vip in self.model.held.values():
            pool = self.model.pools.get(vip.pool)
            holders = [self.model.exposed[name] for name in vip.holders]
            offered = bool(pool) and vip.vip in addresses_of(pool) and all(self.model.selected(pool, holder) for holder in holders)
            assert vip.orphaned is not offered


Machine.TestCase.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
TestMachine = Machine.TestCase

STORY = f"""
import sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
from ipam_log import *
from weir.events import ENCODE
log = Log(pool("p", "192.0.2.0/29"), pool("q", "2001:db8::/126", priority=3), node("n1"), node("n2"))
for number in range(12):
    log.say(service(f"s{{number}}", families=("IPv4", "IPv6") if number % 3 else ()))
for number in range(0, 12, 2):
    log.say(gone(f"s{{number}}"))
for released in log.fold.world.of(VipReleased):
    log.withdraw(released.vip)
log.applied("n1"), log.applied("n2"), log.restart()
sys.stdout.buffer.writelines(ENCODE(fact.event) + b"\\n" for fact in log.facts)
"""


def test_log_is_the_same_byte_for_byte_under_any_hash_seed() -> None:
    def told(seed: str) -> bytes:
        return subprocess.run(
            [sys.executable, "-c", STORY], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout

    assert told("1") == told("2")
    assert b"vip_freed" in told("3")
