"""What seeds have found, step by step and without other faults."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from tests.sim.cluster_state import Content
from tests.sim.installation import Installation, isolate
from tests.sim.virtual_time import run
from weir.events import StatusPlanned, VipFreed

VIP = "203.0.113.1"


async def installation() -> Installation:
    """One machine, and a Service that it serves."""
    here = Installation(random.Random(0))
    here.log.faulty, here.log.restored = False, True
    pool = {"apiVersion": "weir.dev/v1alpha1", "kind": "VIPPool", "metadata": {"name": "a"}, "spec": {"addresses": [f"{VIP}/32"]}}
    here.cluster.put("VIPPool", "a", pool)
    here.cluster.put("Service", "shop/web", service(80))
    here.join("n1")
    await asyncio.sleep(30)
    assert programmed(here)
    return here


def service(port: int) -> Content:
    spec = {"type": "LoadBalancer", "ports": [{"port": port}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": "web"}, "spec": spec}


def programmed(here: Installation) -> bool:
    status = next((entry.fact.event for entry in reversed(here.log.entries) if isinstance(entry.fact.event, StatusPlanned)), None)
    return isinstance(status, StatusPlanned) and any(each.type == "Programmed" and each.status for each in status.conditions)


async def _a_log_from_before_the_node_joined() -> None:
    here = await installation()
    here.log.restore(0)
    await asyncio.sleep(120)
    assert programmed(here), "the node does not report itself, so no address is allocated, and the node waits for a plan"


async def _a_reboot_after_the_withdrawal_of_a_vip() -> None:
    here = await installation()
    here.cluster.put("Service", "shop/web", service(81))
    await asyncio.sleep(0.5)  # the plan was just saved, and is saved again after a while
    assert here.machines["n1"].serves(VIP)
    here.cluster.delete("Service", "shop/web")
    while not isinstance(here.log.entries[-1].fact.event, VipFreed):
        await asyncio.sleep(0.01)
    here.reboot("n1")
    assert not here.machines["n1"].serves(VIP), "it was acknowledged as withdrawn, so another Service may have it"


@pytest.mark.parametrize("scenario", [_a_log_from_before_the_node_joined, _a_reboot_after_the_withdrawal_of_a_vip])
def test_what_a_seed_has_found(scenario: Callable[[], Awaitable[None]], monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(monkeypatch)
    run(scenario())  # type: ignore[arg-type]
