"""What Prometheus gets to read, and counters that only grow."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.dataplane.l4.layout import FrontendKey, Stats
from services.dataplane.metrics import Served, Totals
from services.ipam.metrics import samples
from weir.bus.reader import LogUnreachable, Refused
from weir.decider import Decided, Fact, World
from weir.events import PoolObserved, VipAllocated, VipDenied, VipReleased
from weir.model import Root
from weir.service.exporter import render
from weir.service.metrics import SECONDS, Histogram, Meter, Sample
from weir.view.pools import usage
from weir.where import listen_address

HTTP = FrontendKey("192.0.2.1", 80, "TCP")
HTTPS = FrontendKey("192.0.2.1", 443, "TCP")
ROOT = Root(kind="Service", name="web", namespace="shop")


def read(*given: Sample) -> dict[tuple[str, tuple[str, ...]], float]:
    families = text_string_to_metric_families(render(given).decode())
    return {(s.name, tuple(s.labels.values())): s.value for family in families for s in family.samples if s.name.startswith("weir_")}


@pytest.mark.parametrize("name", ["shop/web", 'a"b', "a\\b", "<b>x</b>", "é漢"])
def test_label_comes_back_as_it_was_and_breaks_no_line(name: str) -> None:
    assert read(Sample("weir_service_flows_total", (name,), 3)) == {("weir_service_flows_total", (name,)): 3}


@pytest.mark.parametrize("name", ["\x1b[31mred", "a\nb", "a\u202eb", "\x9b31m"])
def test_label_that_steers_a_terminal_is_escaped(name: str) -> None:
    text = render([Sample("weir_service_flows_total", (name,), 3)]).decode()
    assert not set("\x1b\x9b\u202e") & set(text)
    assert read(Sample("weir_service_flows_total", (name,), 3)) == {
        ("weir_service_flows_total", (name.encode("unicode_escape").decode(),)): 3
    }


def test_histogram_counts_what_is_at_most_a_bound() -> None:
    histogram = Histogram()
    for seconds in (SECONDS[0] / 2, SECONDS[0], 0.3, 60):
        histogram.observe(seconds)
    found = read(Sample("weir_append_seconds", (), histogram))
    assert found["weir_append_seconds_bucket", (str(SECONDS[0]),)] == 2
    assert found["weir_append_seconds_bucket", ("5.0",)] == 3
    assert found["weir_append_seconds_bucket", ("+Inf",)] == found["weir_append_seconds_count", ()] == 4
    assert found["weir_append_seconds_sum", ()] == pytest.approx(60.30015)


def test_sample_of_an_unknown_metric_or_with_other_labels_is_an_error() -> None:
    with pytest.raises(KeyError):
        render([Sample("weir_made_up", (), 1)])
    with pytest.raises(ValueError, match="zip"):
        render([Sample("weir_service_flows_total", (), 1)])


def test_refused_and_lost_appends_count_apart_from_those_taken() -> None:
    meter = Meter()
    decided = [Decided(VipReleased(vip="192.0.2.1", pool="p", holders=(), root=ROOT), 0)] * 2
    with meter.appending(decided):
        pass
    for error in (Refused(10071, "wrong last sequence"), LogUnreachable("gone")):
        with pytest.raises(type(error)), meter.appending(decided):
            raise error
    assert dict(meter.appends) == {"taken": 1, "refused": 1, "lost": 1}
    assert meter.appended == {VipReleased: 2}


def test_service_keeps_its_sum_when_one_frontend_goes() -> None:
    totals = Totals()
    totals.add({HTTP: Served(1, "shop/web", Stats(flows=10)), HTTPS: Served(2, "shop/web", Stats(flows=5))})
    totals.add({HTTP: Served(1, "shop/web", Stats(flows=12))})
    assert totals.services["shop/web"].flows == 17


def test_frontend_that_comes_again_counts_from_nothing() -> None:
    totals = Totals()
    for flows in (10, 12, 3):
        totals.add({HTTP: Served(1, "shop/web", Stats(packets_in=flows, flows=flows))})
    totals.add({HTTP: Served(7, "shop/web", Stats(packets_in=4, flows=4))})
    assert totals.services["shop/web"].flows == 12 + 3 + 4
    totals.add({})
    assert totals.services == {}


def test_pool_is_told_by_what_became_of_its_addresses() -> None:
    world = World()
    facts = [
        PoolObserved(root=Root(kind="VIPPool", name="p"), addresses=("192.0.2.0/30", "192.0.2.8-192.0.2.9")),
        VipAllocated(vip="192.0.2.1", pool="p", holders=("Service/shop/web",), root=ROOT),
        VipAllocated(vip="198.51.100.1", pool="p", holders=("Service/shop/old",), orphaned=True, root=ROOT),
        VipReleased(vip="192.0.2.2", pool="p", holders=(), root=ROOT),
        VipDenied(owner="Service/shop/api", family="IPv4", reason="R", message="m", holders=(), since=1, root=ROOT),
    ]
    for seq, event in enumerate(facts, 1):
        world.evolve(Fact(seq, event))
    (pool,) = usage(world)
    assert (pool.total, pool.held, pool.orphaned, pool.releasing, pool.free) == (6, 1, 1, 1, 4)
    assert read(*samples(world))["weir_claims_waiting", ()] == 1


@pytest.mark.parametrize("text", ["", "9600", "host:", ":9600", "host:0", "host:65536", "host:x"])
def test_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="ADDRESS:PORT"):
        listen_address(text)


def test_address_of_either_family_is_taken() -> None:
    assert listen_address("127.0.0.1:9600") == ("127.0.0.1", 9600)
    assert listen_address("[::1]:9600") == ("::1", 9600)
    assert listen_address("fd44::7:9600") == ("fd44::7", 9600), "as $(POD_IP):9600 comes out"
