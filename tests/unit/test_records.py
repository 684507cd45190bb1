"""Records of addresses in a cluster: the log takes them only where it has lost what they name."""

from typing import Any

import pytest

from services.watcher.core import Watcher, differences
from services.watcher.inventory import Observation
from services.watcher.kinds.reader import Document
from weir.decider import Fact, Fold
from weir.events import AnyEvent, RecordGone, RecordObserved, ServiceObserved, VipAllocated, VipFreed, VipReleased, key
from weir.model import Root

SCOPE = "@kube"
RECORD, SERVICE = f"{SCOPE}/LBService/shop/web", f"{SCOPE}/Service/shop/web"
PLACE = {"namespace": "shop", "name": "web"}
HELD: dict[str, Any] = {"pool": "p", "holders": ("Service/shop/web",), "root": Root(kind="Service", namespace="shop", name="web")}


class Log:
    """The log of one cluster's watcher, and what it appends."""

    def __init__(self) -> None:
        self.seq = 0
        self.start()

    def start(self) -> None:
        """A watcher that knows nothing yet."""
        self.watcher = Watcher(scopes=[SCOPE])
        self.fold = Fold(self.watcher, "watcher")

    def see(self, *documents: Document, complete: bool = False) -> list[AnyEvent]:
        """What the watcher appends when the cluster shows these."""
        said, units = self.watcher.inventory, {document.place: (document,) for document in documents}
        touched = said.take(said.read(Observation(units, complete, scope=SCOPE)))
        events = differences(self.fold.world, said, touched)
        self._append(*events)
        assert differences(self.fold.world, said) == []
        return events

    def hear(self, event: AnyEvent) -> list[AnyEvent]:
        """What the watcher decides on an event of another service."""
        self.seq += 1
        decided, _ = self.fold.hear([Fact(self.seq, event)])
        return [each.event for each in decided]

    def restart(self) -> None:
        """Another watcher, which knows what the log says."""
        world = self.fold.world
        self.start()
        for fact in world.facts.values():
            self.fold.load(fact)

    def _append(self, *events: AnyEvent) -> None:
        for event in events:
            self.seq += 1
            self.fold.load(Fact(self.seq, event))


def record(*vips: str, healthy: int = 0) -> Document:
    head = {"apiVersion": "weir.dev/v1alpha1", "kind": "LBService", "metadata": PLACE}
    return Document(RECORD, {**head, "status": {"vips": list(vips), "healthy": healthy}})


def service(port: int = 80) -> Document:
    spec = {"type": "LoadBalancer", "ports": [{"port": port}]}
    return Document(SERVICE, {"apiVersion": "v1", "kind": "Service", "metadata": PLACE, "spec": spec})


def allocated(*vips: str) -> list[VipAllocated]:
    return [VipAllocated(vip=vip, **HELD) for vip in vips]


def released(vip: str) -> list[AnyEvent]:
    return [VipReleased(vip=vip, **HELD), VipFreed(vip=vip, **HELD)]


@pytest.mark.parametrize("steps", [1, 2], ids=["releasing", "free"])
@pytest.mark.parametrize("restarted", [False, True])
def test_an_address_that_a_service_loses_is_not_kept_for_it_by_a_record_that_still_names_it(steps: int, restarted: bool) -> None:
    """The record is emptied after the release; meanwhile it may change otherwise, and another watcher may read it."""
    log = Log()
    log.see(service(), record(), complete=True)
    log.hear(allocated("192.0.2.1")[0])
    log.see(record("192.0.2.1"))
    for event in released("192.0.2.1")[:steps]:
        log.hear(event)
    if restarted:
        log.restart()
    assert log.see(service(), record("192.0.2.1", healthy=1), complete=restarted) == []


def test_a_lost_log_takes_a_record_before_its_service_and_keeps_it_until_the_service_holds_all_it_names() -> None:
    log = Log()
    both = "192.0.2.1", "2001:db8::1"
    assert [type(event) for event in log.see(record(*both), service(), complete=True)] == [RecordObserved, ServiceObserved]
    assert [type(event) for event in log.see(record(*both, healthy=1), service(81))] == [ServiceObserved]
    v4, v6 = allocated(*both)
    assert log.hear(v4) == []
    (gone,) = log.hear(v6)
    assert isinstance(gone, RecordGone)
    log.hear(released("192.0.2.1")[0])
    assert log.see(record(*both, healthy=2)) == [], "it is lost in this log"


def test_a_record_that_this_log_has_written_is_not_one_of_a_lost_log() -> None:
    """The Service got another address than the one recorded, and lost that too."""
    log = Log()
    log.see(record("192.0.2.1"), service(), complete=True)
    log.hear(allocated("192.0.2.2")[0])
    log.hear(released("192.0.2.2")[0])
    assert [type(event) for event in log.see(record("192.0.2.2"))] == [RecordGone]
    assert log.fold.world.get(key("watcher", "record", "shop", "web")) is None
