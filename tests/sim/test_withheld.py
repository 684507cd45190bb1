"""A writer whose event a reader would not understand: the real runner on a model of the log."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest

from tests.sim.faulty_log import Connection, Life, Log
from tests.sim.test_runner import Numbers, service
from tests.sim.virtual_time import run
from weir.events import AnyEvent, NodeLeft, NodeRetired, NodeSeen, ReaderAnnounced, ServiceObserved, VipAllocated, VipFreed
from weir.model import Root
from weir.service.report import Report
from weir.service.runner import Runner
from weir.where import Where

YESTERDAY = ReaderAnnounced(writer="dataplane-n1", lbnode="n1", kinds=("vip",), knows=("vip_freed",))
TODAY = ReaderAnnounced(writer="dataplane-n1", lbnode="n1", kinds=("vip",), knows=("vip_allocated", "vip_freed"))
SEEN = NodeSeen(node="n1", hook="tc", layout=3, interfaces=("eth0",))


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Report, "write", lambda *_: None)


def played(*after: tuple[str, AnyEvent], there: Sequence[tuple[str, AnyEvent]] = ()) -> tuple[list[AnyEvent], str, str]:
    """What a service appends for one Service while an older reader is there and then `after` is appended; its report before and after."""

    async def scenario() -> tuple[list[AnyEvent], str, str]:
        log = Log(random.Random(0), rate=0)

        async def connect(_: str, __: str) -> Any:
            return Connection(log, Life())

        runner = Runner("ipam", Numbers(), (ServiceObserved, VipAllocated), Where("weir-sim"), connect=connect)
        for author, event in (*there, ("dataplane-n1", SEEN), ("dataplane-n1", YESTERDAY), ("watcher", service("s1"))):
            log.observe(author, event)
        task = asyncio.create_task(runner.run())
        await asyncio.sleep(10)
        before = runner._report.now().reason
        for author, event in after:
            log.observe(author, event)
            await asyncio.sleep(10)
        task.cancel()
        own = [entry.fact.event for entry in log.entries if entry.key.startswith("ipam.")]
        return own, before, runner._report.now().reason

    return run(scenario())


def allocated(events: list[AnyEvent]) -> bool:
    return any(isinstance(event, VipAllocated) for event in events)


def test_an_event_that_a_reader_does_not_know_is_withheld_and_says_for_whom() -> None:
    own, why, _ = played()
    assert not allocated(own)
    assert why == "withholds 1 vip_allocated: not known to dataplane-n1; upgrade it, or retire its node"


@pytest.mark.parametrize(
    "released",
    [
        [("dataplane-n1", TODAY)],
        [("watcher", NodeRetired(lbnode="n1", reason="its Node was deleted"))],
        [("operator", NodeLeft(lbnode="n1"))],
    ],
)
def test_it_is_appended_once_the_reader_knows_it_or_its_node_is_retired(released: list[tuple[str, AnyEvent]]) -> None:
    own, _, after = played(*released)
    assert allocated(own)
    assert not after


def test_a_retired_node_that_reports_itself_again_counts_again() -> None:
    own, _, after = played(("operator", NodeLeft(lbnode="n1")), ("dataplane-n1", SEEN), ("watcher", service("s2")))
    assert [event.holders for event in own if isinstance(event, VipAllocated)] == [("s1",)]
    assert "dataplane-n1" in after


def test_what_all_readers_know_passes_meanwhile() -> None:
    stale = VipAllocated(vip="9", pool="", holders=("s5",), root=Root(kind="Service", name="s5"))
    own, _, _ = played(there=(("ipam", stale),))
    assert [type(event) for event in own if isinstance(event, VipAllocated | VipFreed)] == [VipAllocated, VipFreed]


def test_a_session_announces_what_it_knows_once() -> None:
    own, _, _ = played(("dataplane-n1", TODAY))
    (announced,) = [event for event in own if isinstance(event, ReaderAnnounced)]
    assert announced.kinds == ("lbnode", "left", "reader", "retired", "service", "vip")
    assert {"vip_allocated", "vip_released", "vip_freed", "service_observed", "reader_announced"} <= {*announced.knows}
