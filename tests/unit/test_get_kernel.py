"""What `weir get` makes of the maps."""

from types import SimpleNamespace
from typing import Any

from services.dataplane.l4.layout import Flow, FlowKey, Frontend, FrontendKey
from weir.cli.show.get_kernel import connections, wide

WEB = FrontendKey("192.0.2.1", 80, "TCP")


def kernel(*flows: tuple[str, int]) -> Any:
    """One that serves shop/web as frontend 7, and has flows to these VIPs of these frontends."""
    keys = [(FlowKey("198.51.100.1", vip, 40000, 80, "TCP"), number) for vip, number in flows]
    pairs = [(Flow(key, key.destination, "10.0.0.1", 1, 2, frontend_id=number), 9) for key, number in keys]
    return SimpleNamespace(
        frontends={WEB: Frontend(1, 101, 7)},
        planned=lambda where: SimpleNamespace(owner="Service/shop/web") if where == WEB else None,
        flows=lambda: pairs,
    )


def test_a_flow_outlives_its_frontend_and_is_of_no_other() -> None:
    rows = connections(kernel(("192.0.2.1", 7), ("192.0.2.9", 7), ("192.0.2.1", 3)))
    assert [row["service name"] for row in rows] == ["shop/web", "192.0.2.9:80/TCP (gone)", "192.0.2.1:80/TCP (gone)"]


def test_wide_counts_the_frontend_and_beside_it_the_endpoint() -> None:
    """An endpoint of two Services has one counter."""
    counted = {"packets_in": 2, "packets_out": 1, "bytes_in": 200, "bytes_out": 100}
    endpoint = {"endpoint": "10.0.0.1", "counters": "9:900"}
    rows = wide([{"ext ip": "192.0.2.1", "counters": counted, "endpoints": [endpoint]}, {"counters": counted, "endpoints": []}])
    assert [(row["counters"], row["all services"]) for row in rows] == [("3:300", "9:900"), ("3:300", "")]
