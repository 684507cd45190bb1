"""The plan as a difference from the last: any order ends where planning from scratch does, and no flip costs more than it must."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.planner.core import Planner, plan
from services.planner.shared.backends import CHUNK_MOST, chunk_count, chunk_of
from weir.decider import Decided, Fact, Fold
from weir.events import (
    AnyEvent,
    AppliedThrough,
    BackendsPlanned,
    BackendsWithdrawn,
    ClaimSettled,
    EndpointDown,
    EndpointSliceGone,
    EndpointSliceObserved,
    EndpointUp,
    FrontendPlanned,
    ManifestAccepted,
    ManifestRejected,
    NodeAddressesObserved,
    NodeGone,
    NodeObserved,
    NodeSeen,
    ServiceGone,
    ServiceObserved,
    StatusPlanned,
    VipAllocated,
    VipDenied,
    VipFreed,
    VipPlanned,
    VipReleased,
    VipWithdrawn,
    key_of,
)
from weir.model import Backend, Endpoint, Family, Probe, Problem, Rejection, Root, ServicePort, SlicePort, Targets


def root(name: str, kind: str = "Service") -> Root:
    return Root(kind=kind, name=name, namespace="shop")


def service(
    name: str, *, exposed: bool = True, ports: int = 1, probe: Probe | None = None, targets: Targets = "endpoints", local: bool = False
) -> ServiceObserved:
    found = tuple(ServicePort(port=80 + n, target=8080, node_port=30080) for n in range(ports))
    return ServiceObserved(root=root(name), exposed=exposed, ports=found, probe=probe, targets=targets, local=local)


def node(name: str, *, ready: bool = True) -> NodeObserved:
    address = f"10.9.0.{name[1:]}"
    return NodeObserved(root=Root(kind="Node", name=name), addresses=(address,), internal=(address,), ready=ready)


def endpoint_slice(name: str, of: str, endpoints: Sequence[Endpoint], family: Family = "IPv4") -> EndpointSliceObserved:
    ports = (SlicePort(port=8080),)
    return EndpointSliceObserved(root=root(name, "EndpointSlice"), service=of, family=family, ports=ports, endpoints=tuple(endpoints))


def allocated(vip: str, name: str) -> VipAllocated:
    return VipAllocated(vip=vip, pool="lan", holders=(f"Service/shop/{name}",), root=root(name))


def bare(event: AnyEvent) -> tuple[object, ...]:
    """What an event says, without the object it goes back to."""
    return tuple(getattr(event, name) for name in event.__struct_fields__ if name != "root")


class Log:
    """The log and a planner on it."""

    def __init__(self, *events: AnyEvent) -> None:
        self.facts: list[Fact] = []
        self.fold = Fold(Planner(), "planner")
        self.causes: dict[tuple[str, str], int] = {}  # of the last decisions: name of the Service and type of the event
        for event in events:
            self.say(event)

    def say(self, *events: AnyEvent) -> list[AnyEvent]:
        """What follows from `events`, heard in one go."""
        return self._take(self.fold.hear([self._append(event) for event in events])[0])

    def miss(self, *events: AnyEvent) -> list[AnyEvent]:
        """What a new life owes after `events`, which the one before died of hearing."""
        for event in events:
            self._append(event)
        self.fold = Fold(Planner(), "planner")
        for fact in sorted({key_of(fact.event): fact for fact in self.facts}.values()):
            self.fold.load(fact)
        return self._take(self.fold.caught_up())

    def _take(self, decided: list[Decided]) -> list[AnyEvent]:
        self.fold.acked(decided, len(self.facts) + 1)
        self.causes = {(item.event.root.name, type(item.event).__name__): item.cause for item in decided}
        for item in decided:
            self.fold.hear([self._append(item.event)])
        return [item.event for item in decided]

    def restart(self) -> list[AnyEvent]:
        """A new life, begun from the last fact per entity; what it owes."""
        before = self.fold.world.facts
        self.fold = Fold(Planner(), "planner")
        for fact in sorted({key_of(fact.event): fact for fact in self.facts}.values()):
            self.fold.load(fact)
        assert self.fold.world.facts == before
        return [item.event for item in self.fold.caught_up()]

    def standing(self) -> dict[str, tuple[object, ...]]:
        """What the log says the plan is; a VIP that was freed is nobody's concern any more."""
        own = {key: fact.event for key, fact in self.fold.world.facts.items() if fact.event.author == "planner"}
        scratch = plan(self.fold.world)
        return {key: bare(event) for key, event in own.items() if key in scratch or not isinstance(event, VipWithdrawn)}

    def _append(self, event: AnyEvent) -> Fact:
        self.facts.append(Fact(len(self.facts) + 1, event))
        return self.facts[-1]


def test_what_a_restart_owes_names_the_event_it_follows_from_not_the_last_of_the_log() -> None:
    first, then = endpoint_slice("s1", "a", [Endpoint(address="10.0.0.1")]), endpoint_slice("s1", "a", [Endpoint(address="10.0.0.2")])
    log = Log(service("a", probe=Probe()), first, allocated("192.0.2.1", "a"), allocated("2001:db8::1", "a"))
    at = len(log.facts)
    down = EndpointDown(node="n1", address="10.0.0.2", port=8080, protocol="TCP", reason="", failures=2)
    log.miss(then, service("b"), allocated("192.0.2.2", "b"), NodeSeen(node="n1", hook="tc", layout=1, interfaces=("eth0",)))
    assert log.causes == {
        **{("a", kind): at + 1 for kind in ("BackendsPlanned", "StatusPlanned")},
        **{("b", kind): at + 3 for kind in ("VipPlanned", "FrontendPlanned", "StatusPlanned")},
    }
    at = len(log.facts)
    log.miss(down, NodeSeen(node="n2", hook="tc", layout=1, interfaces=("eth0",)))
    assert log.causes[("a", "BackendsPlanned")] == at + 1


# ── any order ──────────────────────────────────────────────────────────────────────────────────────────────────────

NAMES = st.sampled_from(["a", "b"])
HOSTS = st.integers(1, 4)
ENDPOINTS = st.lists(
    st.builds(
        lambda host, ready, serving: Endpoint(
            address=f"10.0.0.{host}", ready=ready, serving=serving, terminating=not ready, node=f"n{host % 2 + 1}"
        ),
        HOSTS,
        *[st.booleans()] * 2,
    ),
    max_size=4,
)
NODES = st.sampled_from(["n1", "n2"])
SLICES = st.sampled_from(["s1", "s2"])
PROBES = st.sampled_from([None, Probe()])
REASON = Problem(field="spec", got="x", accepted="y")
SAID = st.one_of(
    st.builds(
        lambda name, exposed, ports, probe, targets, local: service(
            name, exposed=exposed, ports=ports, probe=probe, targets=targets, local=local
        ),
        NAMES,
        st.booleans(),
        st.integers(0, 2),
        PROBES,
        st.sampled_from(["endpoints", "nodes"]),
        st.booleans(),
    ),
    st.builds(lambda name, ready: node(name, ready=ready), NODES, st.booleans()),
    st.builds(lambda name: NodeGone(root=Root(kind="Node", name=name)), NODES),
    st.builds(lambda name: ServiceGone(root=root(name)), NAMES),
    st.builds(endpoint_slice, SLICES, NAMES, ENDPOINTS),
    st.builds(lambda name: EndpointSliceGone(root=root(name, "EndpointSlice")), SLICES),
    st.builds(lambda host: EndpointDown(node="n1", address=f"10.0.0.{host}", port=8080, protocol="TCP", reason="", failures=2), HOSTS),
    st.builds(lambda host: EndpointUp(node="n1", address=f"10.0.0.{host}", port=8080, protocol="TCP", reason=""), HOSTS),
    st.builds(lambda name: ManifestRejected(source=f"{name}.yaml", problems=(REASON,), root=root(name)), NAMES),
    st.builds(
        lambda name, of: ManifestRejected(
            source=f"{name}.yaml", problems=(REASON,), root=root(name, "EndpointSlice"), owner=f"Service/shop/{of}" if of else ""
        ),
        SLICES,
        st.sampled_from(["a", "b", ""]),
    ),
    st.builds(lambda name: ManifestAccepted(source=f"{name}.yaml"), st.one_of(NAMES, SLICES)),
    st.builds(
        lambda name, local: NodeSeen(node=name, hook="tc", layout=1, interfaces=("eth0",), local_backends=local), NODES, st.booleans()
    ),
    st.builds(
        lambda name, hosts: NodeAddressesObserved(node=name, addresses=tuple(f"10.0.0.{host}" for host in sorted(hosts))),
        NODES,
        st.sets(HOSTS, max_size=2),
    ),
    st.builds(
        lambda name: VipDenied(
            owner=f"Service/shop/{name}", family="IPv6", reason="NoPool", message="", holders=(), since=1, root=root(name)
        ),
        NAMES,
    ),
    st.builds(lambda name: ClaimSettled(owner=f"Service/shop/{name}", family="IPv6", root=root(name)), NAMES),
)
VIP = st.tuples(st.sampled_from(["192.0.2.1", "2001:db8::1"]), NAMES)
ACK = st.tuples(NODES, st.integers(0, 3), st.lists(st.integers(0, 50), max_size=2))
BEGUN: list[object] = [
    service("a", probe=Probe()),
    endpoint_slice("s1", "a", [Endpoint(address="10.0.0.1"), Endpoint(address="10.0.0.2")]),
    ("192.0.2.1", "a"),
    NodeSeen(node="n1", hook="tc", layout=1, interfaces=("eth0",)),
    ("n1", 0, []),
]
STEPS = st.tuples(st.sampled_from([[], BEGUN]), st.lists(st.one_of(SAID, SAID, VIP, ACK), min_size=5, max_size=25)).map(
    lambda parts: [*parts[0], *parts[1]]
)


def meant(log: Log, step: object) -> AnyEvent | None:
    """A step as the event that its author would write now: ipam gives a VIP to one, a node acknowledges what there is."""
    match step:
        case (str(vip), str(name)):
            held = {event.vip: event for event in [*log.fold.world.of(VipAllocated), *log.fold.world.of(VipReleased)]}
            match held.get(vip):
                case VipAllocated(holders=services, root=at):
                    return VipReleased(vip=vip, pool="lan", holders=services, root=at)
                case VipReleased(holders=services, root=at):
                    return VipFreed(vip=vip, pool="lan", holders=services, root=at)
            return allocated(vip, name)
        case (str(node), int(behind), list(refused)):
            before = next((event.seq for event in log.fold.world.of(AppliedThrough) if event.node == node), 0)
            entities = sorted(key for key in plan(log.fold.world) if ".status." not in key)
            rejected = sorted({entities[at % len(entities)] for at in refused}) if entities else []
            seq = max(before, len(log.facts) - behind)
            return AppliedThrough(node=node, seq=seq, rejected=tuple(Rejection(entity=entity, reason="full") for entity in rejected))
    return step  # type: ignore[return-value]


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_any_order_ends_where_planning_from_scratch_does(steps: list[object]) -> None:
    log = Log()
    for step in steps:
        event = meant(log, step)
        assert event
        log.say(event)
        assert log.standing() == {key: bare(planned) for key, planned in plan(log.fold.world).items()}
        if not isinstance(event, VipReleased | AppliedThrough):
            assert log.say(event) == [], "a repeated event must yield nothing new"
    assert log.restart() == [], "a restart owes nothing"


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=6), st.booleans())
def test_facts_that_come_together_end_where_planning_from_scratch_does(batches: list[list[object]], missed: bool) -> None:
    log = Log()
    for batch in batches:
        events = [event for step in batch if (event := meant(log, step))]
        _ = log.miss(*events) if missed else log.say(*events)
        assert log.standing() == {key: bare(planned) for key, planned in plan(log.fold.world).items()}
    assert log.restart() == [], "a restart owes nothing"


@pytest.mark.parametrize(("first", "then"), [("a", "b"), ("b", "a")])
def test_vip_that_passes_on_while_nobody_plans_is_the_new_holders(first: str, then: str) -> None:
    log = Log(service("a"), service("b"), allocated("192.0.2.1", first))
    log.miss(allocated("192.0.2.1", then))
    assert [frontend.owner for frontend in log.fold.world.of(FrontendPlanned)] == [f"Service/shop/{then}"]


def test_the_cause_of_a_plan_is_never_what_a_node_says_it_holds() -> None:
    log = Log(service("a", probe=Probe()), endpoint_slice("s1", "a", [Endpoint(address="10.0.0.1")]), allocated("192.0.2.1", "a"))
    log.say(NodeSeen(node="n1", hook="tc", layout=1, interfaces=("eth0",)))
    down = EndpointDown(node="n1", address="10.0.0.1", port=8080, protocol="TCP", reason="", failures=2)
    heard = [log._append(event) for event in (down, AppliedThrough(node="n1", seq=len(log.facts)))]
    decided, _ = log.fold.hear(heard)
    causes = {type(item.event): item.cause for item in decided}
    assert causes == {BackendsPlanned: heard[0].seq, StatusPlanned: heard[1].seq}


def test_the_cause_of_a_part_is_a_change_of_its_own_family_and_vip() -> None:
    def slices(last: str) -> list[AnyEvent]:
        four, six = [Endpoint(address=f"10.0.0.{last}")], [Endpoint(address=f"fd00::{last}")]
        return [endpoint_slice("s4", "a", four), endpoint_slice("s6", "a", six, "IPv6")]

    def causes(decided: list[Decided]) -> dict[str, int]:
        parts = (item for item in decided if isinstance(item.event, FrontendPlanned | BackendsPlanned))
        return {getattr(item.event, "vip", "") or item.event.set.rpartition(":")[2]: item.cause for item in parts}

    log = Log(service("a"), *slices("1"))
    heard = [log._append(allocated(vip, "a")) for vip in ("192.0.2.1", "192.0.2.2", "2001:db8::1")]
    first, second, other = (fact.seq for fact in heard)
    expected = {"192.0.2.1": first, "192.0.2.2": second, "2001:db8::1": other, "IPv4": second, "IPv6": other}
    assert causes(log.fold.hear(heard)[0]) == expected

    log = Log(service("a"), *slices("1"), allocated("192.0.2.1", "a"), allocated("2001:db8::1", "a"))
    heard = [log._append(event) for event in slices("2")]
    assert causes(log.fold.hear(heard)[0]) == {"IPv4": heard[0].seq, "IPv6": heard[1].seq}


def test_transition_reaches_the_status_of_a_service_without_a_vip() -> None:
    log = Log(service("a", probe=Probe()), endpoint_slice("s1", "a", [Endpoint(address="10.0.0.1")]))
    log.say(EndpointDown(node="n1", address="10.0.0.1", port=8080, protocol="TCP", reason="", failures=2))
    assert log.standing() == {key: bare(planned) for key, planned in plan(log.fold.world).items()}
    assert log.restart() == [], "a restart owes nothing"


def test_a_port_or_a_family_without_an_endpoint_is_named_though_others_are_served() -> None:
    log = Log(service("a"), endpoint_slice("s1", "a", [Endpoint(address="10.0.0.1")]), allocated("192.0.2.1", "a"))
    assert serving(log) == ("Serving", "")
    log.say(allocated("2001:db8::1", "a"))
    assert serving(log) == ("NoEndpoints", "no ready endpoint serves 80/TCP over IPv6; the rest is served")
    log.say(endpoint_slice("s2", "a", [Endpoint(address="fd00::1")], "IPv6"))
    assert serving(log) == ("Serving", "")


def test_where_nodes_take_their_own_endpoints_only_one_of_these_must_be_on_a_node_that_forwards() -> None:
    seen = NodeSeen(node="n1", hook="tc", layout=1, interfaces=("eth0",))
    elsewhere, here = Endpoint(address="10.0.0.2", node="n2"), Endpoint(address="10.0.0.1", node="n1")
    log = Log(seen, node("n1"), service("a", local=True), endpoint_slice("s1", "a", [elsewhere]), allocated("192.0.2.1", "a"))
    assert serving(log)[0] == "NoLocalEndpoints"
    log.say(endpoint_slice("s1", "a", [elsewhere, here]))
    assert serving(log) == ("Serving", "")


def serving(log: Log) -> tuple[str, str]:
    """Reason and message of the only Service's condition."""
    (status,) = log.fold.world.of(StatusPlanned)
    return next((each.reason, each.message) for each in status.conditions if each.type == "Serving")


@settings(max_examples=40, deadline=None)
@given(st.permutations([
    service("a", probe=Probe()), endpoint_slice("s1", "a", [Endpoint(address="10.0.0.1"), Endpoint(address="10.0.0.2")]),
    endpoint_slice("s2", "a", [Endpoint(address="10.0.0.3", ready=False, terminating=True)]), allocated("192.0.2.1", "a"),
    EndpointDown(node="n1", address="10.0.0.2", port=8080, protocol="TCP", reason="", failures=2),
    NodeSeen(node="n1", hook="tc", layout=1, interfaces=("eth0",)), service("b"), endpoint_slice("s3", "b", [Endpoint(address="10.0.0.2")]),
    allocated("192.0.2.2", "b"),
]))  # fmt: skip
def test_order_of_the_same_facts_does_not_matter(events: list[AnyEvent]) -> None:
    assert Log(*events).standing() == Log(*sorted(events, key=key_of)).standing()


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_programmed_only_when_every_node_has_read_everything_back(steps: list[object]) -> None:
    log = Log()
    for step in steps:
        log.say(meant(log, step))  # type: ignore[arg-type]
    world = log.fold.world
    nodes = {seen.node for seen in world.of(NodeSeen)}
    applied = {event.node: event for event in world.of(AppliedThrough)}
    for status in world.of(StatusPlanned):
        mine: list[AnyEvent] = [event for event in world.of(FrontendPlanned) if event.owner == status.owner]
        mine += [event for event in world.of(VipPlanned) if event.vip in status.vips]
        mine += [event for event in world.of(BackendsPlanned) if event.set.startswith(f"{status.root.path}:")]
        refused = {rejection.entity for node in nodes & set(applied) for rejection in applied[node].rejected}
        through = all(node in applied and applied[node].seq >= world.seq(event) for node in nodes for event in mine)
        served = any(isinstance(event, FrontendPlanned) for event in mine)  # without a port nothing is
        true = bool(nodes and served and through and not refused & {key_of(event) for event in mine})
        assert [found.status for found in status.conditions if found.type == "Programmed"] == [true]


# ── chunks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def many(count: int, *, down: int = -1) -> list[Endpoint]:
    return [Endpoint(address=f"10.1.{n // 250}.{n % 250}", ready=n != down, terminating=n == down) for n in range(count)]


def test_one_flip_of_a_thousand_rewrites_one_chunk() -> None:
    log = Log(service("a"), allocated("192.0.2.1", "a"), endpoint_slice("s1", "a", many(1000)))
    (changed,) = log.say(endpoint_slice("s1", "a", many(1000, down=617)))
    assert isinstance(changed, BackendsPlanned)
    assert len(changed.backends) < CHUNK_MOST
    assert [backend.state for backend in changed.backends if backend.address == "10.1.2.117"] == ["draining"]


def test_one_more_of_a_thousand_rewrites_one_chunk() -> None:
    log = Log(service("a"), allocated("192.0.2.1", "a"), endpoint_slice("s1", "a", many(1000)))
    (changed,) = log.say(endpoint_slice("s1", "a", many(1001)))
    assert isinstance(changed, BackendsPlanned)


def test_set_cut_anew_is_planned_before_the_frontend_and_withdrawn_after() -> None:
    log = Log(service("a"), allocated("192.0.2.1", "a"), endpoint_slice("s1", "a", many(100)))
    kinds = [type(event) for event in log.say(endpoint_slice("s1", "a", many(101)))]
    assert kinds == [BackendsPlanned] * kinds.count(BackendsPlanned) + [FrontendPlanned, BackendsWithdrawn]


@pytest.mark.parametrize(
    ("backends", "chunks"), [(0, 1), (1, 1), (100, 1), (101, 4), (200, 4), (201, 8), (400, 8), (401, 16), (10_000, 256)]
)
def test_count_of_chunks_is_one_or_a_power_of_two(backends: int, chunks: int) -> None:
    assert chunk_count(backends) == chunks


@given(st.integers(0, 255), st.sampled_from([4, 8, 256]))
def test_chunk_of_a_backend_follows_from_its_address_alone(host: int, chunks: int) -> None:
    backends = [Backend(address=f"10.0.0.{host}", port=80, state=state) for state in ("active", "draining", "down")]  # type: ignore[arg-type]
    assert len({chunk_of(backend, chunks) for backend in backends}) == 1
    assert 0 <= chunk_of(backends[0], chunks) < chunks


def test_nodes_that_come_and_go_concern_those_alone_whose_targets_they_are() -> None:
    slices = [endpoint_slice(f"s{name}", name, [Endpoint(address="10.0.0.1", node="n1")]) for name in "abc"]
    services = [service("a"), service("b", targets="nodes"), service("c", local=True)]
    vips = [allocated(f"192.0.2.{at}", name) for at, name in enumerate("abc")]
    log = Log(NodeSeen(node="n9", hook="tc", layout=1, interfaces=("eth0",)), *services, *slices, *vips)
    assert {event.root.name for event in log.say(node("n1"), node("n2"))} == {"b"}
    assert {event.root.name for event in log.say(node("n9"))} == {"b", "c"}, "it forwards, so that who is local is so from now on"
    assert {event.root.name for event in log.say(node("n1", ready=False))} == {"b"}
    assert log.say(NodeGone(root=Root(kind="Node", name="n1"))) == []


def test_edit_that_changes_nothing_in_the_plan_writes_nothing() -> None:
    log = Log(service("a"), allocated("192.0.2.1", "a"), endpoint_slice("s1", "a", many(3)))
    assert (
        log.say(
            ServiceObserved(root=Root(kind="Service", name="a", namespace="shop", generation=9), exposed=True, ports=service("a").ports)
        )
        == []
    )


def test_it_hears_what_it_decides_on() -> None:
    decided_on = (
        *(EndpointSliceGone, EndpointUp, ServiceGone, NodeGone, ClaimSettled, VipFreed, VipReleased, ManifestAccepted),
        VipWithdrawn,
    )
    assert {event.kind for event in decided_on} <= {event.kind for event in Planner().subscribes}
