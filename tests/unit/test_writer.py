"""The writer brings about what status hooks want, against a cluster that records its requests."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from services.watcher.core import Watcher
from services.watcher.kinds.ingress import INGRESS
from services.watcher.kinds.lbnode import LBNODE
from services.watcher.kinds.registry import KINDS
from services.watcher.kinds.service import SERVICE
from services.watcher.sources.api import ApiError
from services.watcher.sources.kube import Kube
from services.watcher.writer import writer
from services.watcher.writer.queue import Marks
from services.watcher.writer.writer import FINALIZER, Writer
from weir.decider import Change, Fact, World
from weir.events import AnyEvent, GatewayStatusPlanned, NodeSeen, ServiceObserved, StatusPlanned, VipAllocated, key_of
from weir.model import Condition, Root, ServicePort

ROOT = Root(kind="Service", namespace="shop", name="web", place="@kube/Service/shop/web")
VIP = "203.0.113.10"
NODE = NodeSeen(node="lb-1", hook="tc", layout=2, interfaces=("front",))
OBSERVED = ServiceObserved(root=ROOT, exposed=True, ports=(ServicePort(port=80),))
HELD = VipAllocated(vip=VIP, pool="p", holders=("Service/shop/web",), root=ROOT)


def planned(*, programmed: bool) -> StatusPlanned:
    reason = "Programmed" if programmed else "Pending"
    return StatusPlanned(
        owner="Service/shop/web", vips=(VIP,), conditions=(Condition(type="Programmed", status=programmed, reason=reason),), root=ROOT
    )


class Api:
    """Keeps what is applied; refuses what `refuse` says."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.refuse: Callable[[str], ApiError | None] = lambda _: None

    async def apply(self, path: str, body: dict[str, Any]) -> bytes:
        self.note("apply", path)
        found = self.objects.setdefault(path.removesuffix("/status"), {"metadata": {"uid": "1"}})
        found["metadata"] |= body["metadata"] | {"resourceVersion": str(len(self.requests))}
        if "status" in body:
            found["status"] = body["status"]
        return msgspec.json.encode(found)

    async def create(self, path: str, body: dict[str, Any]) -> bytes:
        self.note("create", path)
        return msgspec.json.encode(body)

    async def delete(self, path: str) -> bytes:
        self.note("delete", path)
        return b"{}"

    def note(self, verb: str, path: str) -> None:
        self.requests.append(f"{verb} {path.partition('/namespaces/')[2] or path.rpartition('v1alpha1/')[2]}")
        if error := self.refuse(self.requests[-1]):
            raise error


class Here:
    """A cluster, its writer and a log; `turn` lets the writer work until nothing is due."""

    following = True

    def __init__(self) -> None:
        self.marks = Marks()
        self.cluster = Kube("kube", None, self.marks)
        self.api = self.cluster.api = Api()  # type: ignore[assignment]
        self.writer = Writer(self.marks)
        self.world = World(Watcher(scopes=["@kube"]).indexes)
        self.stated: list[AnyEvent] = []
        for kind in KINDS:
            self.cluster.known(kind)

    async def hear(self, *events: AnyEvent) -> None:
        changes: list[Change] = [self.world.evolve(Fact(len(self.world.facts) + 1, event)) for event in events]
        await self.marks.heard(self.world, changes, 0)

    async def propose(self, decide: Callable[[World], list[AnyEvent]]) -> None:
        self.stated += decide(self.world)

    async def turn(self, until: Callable[[], bool]) -> None:
        running = asyncio.create_task(self.writer.run(self))  # type: ignore[arg-type]
        async with asyncio.timeout(10):
            while not until():
                await asyncio.sleep(0.01)
        running.cancel()

    def appear(self, **metadata: Any) -> None:
        """The Service is seen in the cluster."""
        self.cluster.saw(SERVICE, msgspec.json.encode({"metadata": {"namespace": "shop", "name": "web", "uid": "1", **metadata}}))


def run(test: Callable[[Here], Any]) -> None:
    async def main() -> None:
        await test(Here())

    asyncio.run(main())


def test_a_service_gets_its_finalizer_its_status_its_event_and_its_record() -> None:
    async def test(here: Here) -> None:
        here.appear()
        await here.hear(NODE, OBSERVED, HELD, planned(programmed=True))
        record = "/apis/weir.dev/v1alpha1/namespaces/shop/lbservices/web"
        await here.turn(lambda: "status" in here.api.objects.get(record, {}) and "apply shop/services/web/status" in here.api.requests)
        service = here.api.objects["/api/v1/namespaces/shop/services/web"]
        assert service["metadata"]["finalizers"] == [FINALIZER]
        assert service["status"]["loadBalancer"]["ingress"][0]["ip"] == VIP
        assert "create shop/events" in here.api.requests
        assert here.api.objects[record]["metadata"]["ownerReferences"][0]["name"] == "web"
        assert here.api.objects["/apis/weir.dev/v1alpha1/lbnodes/lb-1"]["status"]["hook"] == "tc"

    run(test)


def test_a_status_that_waits_for_nodes_is_held_back_but_not_the_finalizer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PENDING_S", 3600.0)

    async def test(here: Here) -> None:
        here.appear()
        await here.hear(OBSERVED, HELD, planned(programmed=False))
        await here.turn(lambda: bool(here.writer._pending_s))
        assert "apply shop/services/web" in here.api.requests
        assert "apply shop/services/web/status" not in here.api.requests
        await here.hear(planned(programmed=True))
        await here.turn(lambda: "apply shop/services/web/status" in here.api.requests)

    run(test)


def test_a_warning_of_an_object_without_conditions_is_sent_when_it_begins_and_when_it_returns() -> None:
    root = Root(kind="Ingress", namespace="shop", name="web", place="@kube/Ingress/shop/web")

    def status(*wrong: str) -> GatewayStatusPlanned:
        conditions = tuple(Condition(type="Accepted", status=False, reason=each, message=each) for each in wrong)
        done = Condition(type="Programmed", status=True, reason="Programmed")
        return GatewayStatusPlanned(owner="Ingress/shop/web", addresses=(VIP,), conditions=(done, *conditions), root=root)

    def sent(here: Here) -> int:
        return here.api.requests.count("create shop/events")

    async def test(here: Here) -> None:
        here.cluster.saw(INGRESS, msgspec.json.encode({"metadata": {"namespace": "shop", "name": "web", "uid": "1"}}))
        for before, wrong in enumerate(("A", "AB", "C", "CA", "CAD")):  # one begins each time
            assert sent(here) == before
            await here.hear(status(*wrong))
            await here.turn(lambda before=before: sent(here) > before)
        ingress = here.api.objects["/apis/networking.k8s.io/v1/namespaces/shop/ingresses/web"]
        assert ingress["status"] == {"loadBalancer": {"ingress": [{"ip": VIP}]}}

    run(test)


def test_deleting_an_lbnode_retires_its_node_and_one_that_never_was_is_created() -> None:
    async def test(here: Here) -> None:
        await here.hear(NODE)
        await here.turn(lambda: "@kube/LBNode/lb-1" in here.cluster.seen)
        await here.turn(lambda: "apply lbnodes/lb-1/status" in here.api.requests)
        here.cluster._drop(LBNODE, "@kube/LBNode/lb-1")
        here.marks.changed(here.cluster, "LBNode", "", "lb-1")
        await here.turn(lambda: bool(here.stated))
        assert [key_of(event) for event in here.stated] == ["watcher.retired._.lb-1"]

    run(test)


def test_what_may_not_be_written_is_counted_and_named_and_tried_again() -> None:
    async def test(here: Here) -> None:
        here.api.refuse = lambda request: ApiError(403, "Forbidden", "User cannot patch") if "lbnodes" in request else None
        await here.hear(NODE)
        await here.turn(lambda: here.writer.refused == 1)
        assert here.writer.undone == "cluster kube: cannot write LBNode lb-1: 403 Forbidden: User cannot patch"
        here.api.refuse = lambda _: None
        await here.turn(lambda: here.writer.refused == 0)

    run(test)
