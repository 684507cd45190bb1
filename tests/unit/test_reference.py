"""The reference pages: just what the code says, and all of it."""

import re
from collections.abc import Mapping
from typing import get_args

import pytest

from docs.reference import HERE, PAGES, Source, events_page
from services.dataplane.load.interface_settings import Settings, prepare
from services.dataplane.load.interfaces import Nic
from weir import events, model
from weir.events import AnyEvent, tag_of
from weir.service.metrics import METRICS


@pytest.mark.parametrize("page", PAGES)
def test_committed_page_is_what_the_code_makes(page: str) -> None:
    assert (HERE / page).read_text() == PAGES[page](), "run make docs"


def test_every_event_stands_on_the_page_with_its_own_fields() -> None:
    page = events_page()
    for event in get_args(AnyEvent):
        assert f"\n### {tag_of(event)}\n" in page
        assert [field.name for field in Source(events.__file__).fields(event.__name__)] == list(event.__struct_fields__)


def test_comment_behind_a_field_is_told_and_that_of_another_is_not() -> None:
    fields = {field.name: field for field in Source(model.__file__).fields("Probe")}
    assert fields["port"].comment == "0: the backend's own"
    assert (fields["kind"].comment, fields["kind"].default) == ("", "'tcp'")


def test_names_follow_the_conventions() -> None:
    for metric in METRICS:
        assert metric.name.startswith("weir_")
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert metric.kind != "histogram" or metric.unit == "seconds"
        assert metric.meaning.endswith(".")
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_every_setting_that_is_changed_on_a_machine_is_on_the_page() -> None:
    """With its value, where people look for what `weir down` puts back."""
    found: dict[str, str] = {}

    class Noting(Settings):
        def apply(self, nic: Nic, wanted: Mapping[str, str]) -> list[str]:
            found.update(wanted)
            return []

    assert not list(prepare(Nic("lo", 1, bytes(6), "127.0.0.1", "::1"), Noting(None)))
    page = (HERE / "operations.md").read_text()
    (table,) = re.findall(r"### What is changed on this machine.*?(\n\|.*?)\n\n", page, re.DOTALL)
    names = {what.rpartition("/")[2] for what in found}
    assert len(names) > 5
    assert {name for name in names if name not in table} == set()
    assert {value for value in found.values() if value not in table} == set()
