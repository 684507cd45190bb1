"""What is printed: aligned for a person, exact for a program, and harmless whatever the log holds."""

import json
from collections.abc import Sequence
from typing import get_args

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.event_examples import minimal
from weir.cli.output import Progress, emit, harmless, to_yaml
from weir.events import DECODE, AnyEvent, BackendsPlanned, EndpointSliceObserved, StatusPlanned, VipDenied
from weir.model import Backend, Condition, Endpoint, Root
from weir.view.summary import condition, summary

ROWS = [
    {"vip": "192.0.2.1", "services": ["shop/web", "shop/api"], "programmed": True, "seq": 7, "why": ""},
    {"vip": "2001:db8::1", "services": [], "programmed": False, "seq": 1234, "why": None},
]
TABLE = """\
VIP          SERVICES           PROGRAMMED  SEQ   WHY
192.0.2.1    shop/web,shop/api  yes         7     -
2001:db8::1  -                  no          1234  -
"""
JSON = """\
[
  {
    "vip": "192.0.2.1",
    "services": [
      "shop/web",
      "shop/api"
    ],
    "programmed": true,
    "seq": 7,
    "why": ""
  },
  {
    "vip": "2001:db8::1",
    "services": [],
    "programmed": false,
    "seq": 1234,
    "why": null
  }
]
"""
YAML = """\
- vip: 192.0.2.1
  services:
  - shop/web
  - shop/api
  programmed: true
  seq: 7
  why: ''
- vip: 2001:db8::1
  services: []
  programmed: false
  seq: 1234
  why: null
"""
# C0, DEL, C1 (U+009B starts a command as ESC [ does), line and paragraph separators, and all that turns the direction of text.
STEERING = [
    *map(chr, range(0x20)),
    *map(chr, range(0x7F, 0xA0)),
    *"\u2028\u2029\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
]
ATTACKS = [
    "\x1b[2J\x1b[1;31mred",
    "\x9b31mred",
    "\x1b]0;title\x07",
    "web\rfake",
    "web\nfake  row",
    "web\u202egpj.exe",
    "a\u2066b\u2069",
    "\x7f",
    "a\u200fb",
]


def printed(capsys: pytest.CaptureFixture[str], rows: Sequence[dict[str, object]], output: str, *columns: str) -> str:
    emit(rows, output, columns=columns)
    return capsys.readouterr().out


def steers(text: str) -> set[str]:
    return set(text) & set(STEERING) - {"\n"}


@pytest.mark.parametrize(("output", "expected"), [("table", TABLE), ("json", JSON), ("yaml", YAML)])
def test_rows_are_printed_as_ever(output: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, ROWS, output) == expected


def test_table_shows_the_columns_asked_for_and_programs_get_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, ROWS, "table", "seq", "vip") == "SEQ   VIP\n7     192.0.2.1\n1234  2001:db8::1\n"
    assert printed(capsys, ROWS, "json", "seq", "vip") == JSON


def test_no_row_is_said_to_a_person_and_is_an_empty_list_to_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    emit([], "table")
    assert capsys.readouterr() == ("", "No resources found.\n")
    assert printed(capsys, [], "json") == "[]\n"
    assert printed(capsys, [], "yaml") == "[]\n"


@pytest.mark.parametrize(
    "text", ["yes", "1e3", "0x10", "null", "~", "2026-01-01", "a: b", "- a", "# a", "", " a ", "192.0.2.1", "é漢", "'"]
)
def test_text_is_text_again_when_read(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"name": text}
    assert yaml.safe_load(printed(capsys, [row], "yaml")) == [row]
    assert json.loads(printed(capsys, [row], "json")) == [row]


@pytest.mark.parametrize("character", STEERING, ids=lambda character: f"U+{ord(character):04X}")
def test_character_that_steers_a_terminal_is_escaped(character: str) -> None:
    assert steers(harmless(f"a{character}b") + "\n") == set()
    assert "\n" not in harmless(f"a{character}b")


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("output", ["table", "json", "yaml"])
def test_name_in_the_log_cannot_steer_the_terminal(attack: str, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"name": attack, "names": [attack], "labels": {attack: attack}}]
    out = printed(capsys, rows, output)
    assert steers(out) == set()
    if output == "table":
        assert out.count("\n") == 2
    else:
        assert yaml.safe_load(out) == rows


@given(st.text())
def test_harmless_text_stays_as_it_is_and_the_rest_can_be_told_apart(text: str) -> None:
    assert harmless(harmless(text)) == harmless(text)
    if not set(text) & set(STEERING):
        assert harmless(text) == text


def test_plain_words_of_the_world_are_left_alone() -> None:
    assert harmless("grün 漢字 שלום 🙂") == "grün 漢字 שלום 🙂"


def test_values_of_msgspec_become_plain_yaml() -> None:
    assert to_yaml({"root": Root(kind="Service", name="web")}) == "root:\n  kind: Service\n  name: web\n"


# ── each fact in one line ──────────────────────────────────────────────────────────────────────────────────────────

ROOT = Root(kind="Service", name="web", namespace="shop", place="shop.yaml#2")


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            b'{"type":"service_observed","exposed":true,"ports":[{"port":80},{"port":53,"protocol":"UDP"}],'
            b'"root":{"kind":"Service","name":"web","namespace":"shop","place":"shop.yaml#2"}}',
            "shop/web exposed on 80/TCP, 53/UDP  (shop.yaml#2)",
        ),
        (b'{"type":"service_gone","root":{"kind":"Service","name":"web","namespace":"shop"}}', "shop/web"),
        (b'{"type":"node_gone","root":{"kind":"Node","name":"n1"}}', "n1"),
        (
            b'{"type":"frontend_withdrawn","vip":"2001:db8::1","port":80,"protocol":"TCP","root":{"kind":"Service","name":"web"}}',
            "[2001:db8::1]:80/TCP",
        ),
        (b'{"type":"applied_through","node":"n1","seq":9,"rejected":[{"entity":"e","reason":"r"}]}',
         "n1 holds the plan up to 9, 0 map writes; refused e: r"),
        (
            b'{"type":"endpoint_down","node":"n1","address":"10.0.0.1","port":80,"protocol":"TCP","reason":"refused","failures":2}',
            "10.0.0.1:80/TCP on n1 after 2 failures: refused",
        ),
    ],
)  # fmt: skip
def test_fact_is_told_in_one_line(event: bytes, line: str) -> None:
    assert summary(DECODE(event)) == line


def test_long_lists_are_told_in_short() -> None:
    backends = tuple(Backend(address=f"10.0.0.{n}", port=80, down_on=("lb-1",) if n == 2 else ()) for n in range(1, 9))
    chunk = BackendsPlanned(set="shop/web:80/TCP:IPv4", chunk=0, chunks=1, protocol="TCP", backends=backends, root=ROOT)
    assert summary(chunk) == "shop/web:80/TCP:IPv4: 10.0.0.1, 10.0.0.2 down on lb-1, 10.0.0.3, 10.0.0.4, 10.0.0.5, and 3 more"


def test_slice_tells_how_many_are_ready() -> None:
    endpoints = (Endpoint(address="10.0.0.1"), Endpoint(address="10.0.0.2", ready=False))
    observed = EndpointSliceObserved(
        root=Root(kind="EndpointSlice", name="s", namespace="shop"), service="web", family="IPv4", endpoints=endpoints
    )
    assert summary(observed) == "shop/s of web: 1 of 2 ready: 10.0.0.1"


def test_condition_is_its_type_or_why_not() -> None:
    assert condition(Condition(type="Programmed", status=True, reason="Programmed")) == "Programmed"
    pending = Condition(type="Programmed", status=False, reason="Pending", message="not read back yet on n1")
    assert condition(pending) == "not Programmed (Pending: not read back yet on n1)"
    status = StatusPlanned(owner="Service/shop/web", vips=(), conditions=(pending,), root=ROOT)
    assert summary(status).startswith("shop/web: not Programmed")


@pytest.mark.parametrize("event", get_args(AnyEvent), ids=lambda event: event.__name__)
def test_every_fact_can_be_told(event: type[msgspec.Struct]) -> None:
    told = summary(minimal(event))
    assert told
    assert "\n" not in told


def test_denial_is_told_with_its_reason() -> None:
    denied = VipDenied(owner="Service/shop/web", family="IPv4", reason="NoPool", message="no pool", holders=(), since=1, root=ROOT)
    assert summary(denied) == "shop/web IPv4: NoPool: no pool"


def test_long_work_tells_how_far_it_is_on_a_terminal_only(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Progress, "SILENT_S", 0.0)
    with Progress("reading", 1, 200) as advance:
        advance(50)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Progress("reading", 1, 200) as advance:
        advance(50)
    told = capsys.readouterr().err
    assert "reading: 25 %" in told
    assert told.endswith("\r\033[K")


def test_short_work_says_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Progress("reading", 1, 200) as advance:
        advance(200)
    assert capsys.readouterr().err == ""
