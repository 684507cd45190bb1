"""What must hold once everything was said and nothing fails: nothing is appended any more, and all agree with the log read from scratch."""

import asyncio

from services.dataplane.core import INDEXES, planned
from services.dataplane.l4.apply import Applier
from services.ipam.core import Ipam
from services.planner.core import Planner, plan
from services.planner.shared.difference import same
from services.watcher.core import Watcher
from services.watcher.settings import DEFAULT
from tests.sim.installation import Installation
from tests.sim.machine import Machine
from tests.unit.test_apply import Node
from weir.decider import Core, Fact, World
from weir.events import ENCODE, BackendsPlanned, EndpointDown, FrontendPlanned, StatusPlanned, VipPlanned, VipReleased, VipWithdrawn
from weir.lbnodes import counted, heard, is_silent
from weir.model import endpoint_name

PLANNED = (VipPlanned, VipWithdrawn, FrontendPlanned, BackendsPlanned, StatusPlanned)
SETTLES_S, RESTS_S = 160.0, 45.0


async def comes_to_rest(here: Installation) -> None:
    """Without faults everything settles; then no event follows from no event."""
    here.log.faulty = False
    for machine in here.machines.values():
        machine.heal()
    while here.log.late:
        here.log.land_late(1)
    await asyncio.sleep(SETTLES_S)
    length = len(here.log.entries)
    await asyncio.sleep(RESTS_S)
    more = [entry.fact for entry in here.log.entries[length:]]
    assert not more, f"still appended after {SETTLES_S} s: {more[:3]}"


def check_at_rest(here: Installation) -> None:
    """See the module."""
    for core in (Ipam(), Planner(), _watcher(here)):
        world, state = _history(here, core), _state(here, core)
        assert world.facts == state.facts, "the last event of each entity and the whole history fold to different worlds"
        owed = list(core.reconcile(world))
        assert not owed, f"{type(core).__name__} owes {owed[:3]}"
    _check_plan(_history(here, Planner()), _state(here, Planner()))
    _check_services(_history(here, Planner()))
    _check_runners(here)
    _check_nodes(here, _history(here, Planner()))
    for machine in here.machines.values():
        _check_kernel(machine)


def _watcher(here: Installation) -> Watcher:
    core = Watcher(DEFAULT, [here.cluster.scope], lambda: here.cluster.scope.lstrip("@"))
    core.inventory.take(core.inventory.read(here.cluster.whole()))
    return core


def _history(here: Installation, core: Core) -> World:
    """WEIR, folded from its first event."""
    world = World(core.indexes)
    for entry in here.log.entries:
        world.evolve(entry.fact)
    return world


def _state(here: Installation, core: Core) -> World:
    """STATE, folded."""
    world = World(core.indexes)
    for entry in sorted({entry.key: entry for entry in here.log.entries}.values(), key=lambda entry: entry.fact.seq):
        world.evolve(entry.fact)
    return world


def _check_plan(history: World, state: World) -> None:
    """Promise 2, the log is the truth: same log, same plan, byte for byte; and what is planned is this plan."""
    wanted = plan(history)
    assert ENCODE(list(wanted.values())) == ENCODE(list(plan(state).values())), "history and state give different plans"
    stands = {key: fact.event for key, fact in history.facts.items() if isinstance(fact.event, PLANNED)}
    over = [key for key in stands.keys() - wanted.keys() if not isinstance(stands[key], VipWithdrawn)]  # that of a freed VIP stays
    different = [key for key, event in wanted.items() if not same(event, stands.get(key))]
    assert over + different == [], f"planned otherwise than from scratch: {over}, {different}"


def _check_services(world: World) -> None:
    """Liveness: nobody waits for an acknowledgement or a release that nothing holds up; one holder for each address and port."""
    silent = [seen.node for seen in counted(world) if is_silent(world, seen.node)]
    released = world.of(VipReleased)
    assert silent or not released, f"never freed: {released}"
    for status in world.of(StatusPlanned):
        pending = [each for each in status.conditions if each.reason == "Pending"]
        assert not pending, f"{status.owner}: {pending}"
    owners: dict[tuple[str, int, str], str] = {}
    for each in world.of(FrontendPlanned):
        owner = owners.setdefault((each.vip, each.port, each.protocol), each.owner)
        assert owner == each.owner, f"{each} beside {owner}"


def _check_runners(here: Installation) -> None:
    """Each leader holds what the log says."""
    last: dict[str, Fact] = {entry.key: entry.fact for entry in here.log.entries}
    for name in here.replicas:
        runner = here.acting(name)
        assert runner, f"no {name} acts"
        kept = {key: fact for key, fact in last.items() if fact.event.kind in runner._kinds and not fact.event.gone}
        assert runner.world.facts == kept, f"{name} holds another world than the log"


def _check_nodes(here: Installation, world: World) -> None:
    """Each machine that runs counts and is heard, each other that counts is silent; the log has the verdicts of its probes."""
    assert set(heard(world)) == here.machines.keys(), f"heard: {heard(world)}, running: {sorted(here.machines)}"
    for name, machine in here.machines.items():
        dead = {endpoint_name(*target) for target in machine.probed() if target in here.dead}
        down = {endpoint_name(each.address, each.port, each.protocol) for each in world.of(EndpointDown) if each.node == name}
        assert down == dead, f"{name}: down in the log {down}, dead {dead}"


def _check_kernel(machine: Machine) -> None:
    """Promise 3: the kernel holds what a first application of the plan would put there."""
    agent = machine.agent
    assert agent, machine.name
    if agent._kept:  # the log was restored, and nothing is planned in it: the node keeps what it forwards
        return
    world = World(INDEXES)
    for fact in agent._plan.facts.values():
        world.evolve(fact)
    fresh, real = Node(), Node()
    fresh.applier = Applier(fresh.maps, machine.name)
    fresh.applier.apply_all(world)
    real.maps = machine.maps  # type: ignore[assignment]
    assert real.content() == fresh.content(), f"{machine.name} holds another plan: {planned(world)}"
