"""The chain behind what is asked about, of what is gone too."""

from pathlib import Path

import msgspec
import pytest

from tests.unit.test_recording import delivered, recording, service
from weir.cli.log.why import why
from weir.events import AnyEvent, VipAllocated, VipPlanned
from weir.model import Root


def vip(number: int, *holders: int) -> list[AnyEvent]:
    """Planned for one Service, held by several."""
    root = Root(kind="Service", namespace="shop", name=f"web.{number}")
    held = VipAllocated(vip="192.0.2.1", pool="p", holders=tuple(f"Service/shop/web.{holder}" for holder in holders), root=root)
    return [held, VipPlanned(vip="192.0.2.1", root=root)]


def told(path: Path, subject: str, capsys: pytest.CaptureFixture[str], *events: AnyEvent) -> list[str]:
    """The types of the facts of the chain."""
    recording(path, *(delivered(seq, event) for seq, event in enumerate(events, 1)))
    why("local", subject, "", "json", path / "log")
    return [found["event"]["type"] for found in msgspec.json.decode(capsys.readouterr().out)]


def test_a_service_that_is_gone_is_told_to_its_end_though_the_vip_it_shared_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = (service(1), service(2), *vip(1, 1, 2))
    assert told(tmp_path, "shop/web.1", capsys, *shared) == ["service_observed", "service_observed", "vip_allocated", "vip_planned"]
    gone = (*shared, service(1, gone=True), *vip(1, 2)[:1])
    assert told(tmp_path, "shop/web.1", capsys, *gone)[-2:] == ["service_gone", "vip_allocated"]
