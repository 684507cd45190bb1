"""Nothing that a Secret holds gets into an event, however the Secret is written or damaged."""

import base64
import hashlib
import json
import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from services.watcher.core import Watcher, differences
from services.watcher.inventory import Observation
from services.watcher.sources.yaml_documents import documents
from weir.decider import World
from weir.events import ENCODE
from weir.view.summary import summary

LEAST = 6  # characters of a value that count as a leak
SECRET = "hunter2-very-secret-value"
PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSj\n-----END PRIVATE KEY-----\n"
SHADOW = "root:$y$j9T$abcdefghijklmnop$qrstuvwxyz0123456789:19000:0:99999:7:::\n"


def said_of(name: str, data: bytes) -> str:
    """Every event that the watcher makes of the file, as the log has it and as people are shown it."""
    watcher, world = Watcher(), World(Watcher.indexes)
    events = differences(
        world, watcher.inventory, watcher.inventory.take(watcher.inventory.read(Observation({name: documents(name, data)})))
    )
    return "\n".join(f"{ENCODE(event).decode()}\n{event!r}\n{summary(event)}" for event in events)


def leaks(text: str, *values: str) -> list[str]:
    return [value[i : i + LEAST] for value in values for i in range(len(value) - LEAST + 1) if value[i : i + LEAST].lower() in text.lower()]


CASES = {
    "colon in a plain value": ("a.yaml", f"apiVersion: v1\nkind: Secret\nmetadata: {{name: db}}\nstringData:\n  password: {SECRET}: x\n"),
    "tab": ("a.yaml", f"apiVersion: v1\nkind: Secret\nstringData:\n\tpassword: {SECRET}\n"),
    "PEM without its block": ("a.yaml", f"apiVersion: v1\nkind: Secret\nstringData:\n  tls.key: {PEM}"),
    "no YAML at all": ("a.yaml", SHADOW),
    "text alone": ("a.yaml", f"{SECRET}\n"),
    "text alone in JSON": ("a.json", f'"{SECRET}"'),
    "a list of text": ("a.yaml", f"- {SECRET}\n"),
    "key twice": ("a.yaml", f"apiVersion: v1\nkind: Secret\nstringData:\n  {SECRET}: a\n  {SECRET}: b\n"),
    "key twice in JSON": ("a.json", f'{{"{SECRET}": 1, "{SECRET}": 2}}'),
    "tag": ("a.yaml", f"apiVersion: v1\nkind: Secret\nstringData:\n  password: !{SECRET} x\n"),
    "tag of YAML's own": ("a.yaml", f"apiVersion: v1\nkind: Secret\nstringData:\n  password: !!{SECRET} x\n"),
    "alias": ("a.yaml", f"apiVersion: v1\nkind: Secret\nstringData:\n  password: *{SECRET}\n"),
    "directive": ("a.yaml", f"%{SECRET} a\n---\napiVersion: v1\nkind: Secret\n"),
    "JSON cut short": ("a.json", f'{{"kind": "Secret", "stringData": {{"password": "{SECRET}'),
    "JSON in quotes of the wrong kind": ("a.json", f"{{'kind': 'Secret', 'password': '{SECRET}'}}"),
    "an item of a List that is text": ("a.yaml", f"apiVersion: v1\nkind: List\nitems:\n- {SECRET}\n"),
    "items that are text": ("a.yaml", f"apiVersion: v1\nkind: List\nitems: {SECRET}\n"),
    "the value where the kind should be": ("a.yaml", f"apiVersion: v1\nkind: {SECRET}\n"),
    "the value where the kind of ours should be": ("a.yaml", f"apiVersion: weir.dev/v1alpha1\nkind: {SECRET}\n"),
    "the value where the version should be": ("a.yaml", f"apiVersion: {SECRET}\nkind: Secret\n"),
    "the value in what is not printable": ("a.yaml", f'apiVersion: "{SECRET}\\e"\nkind: "{SECRET}\\t"\n'),
    "no kind": ("a.yaml", f"apiVersion: v1\nstringData: {{password: {SECRET}}}\n"),
    "apiVersion a list": ("a.yaml", f"apiVersion: [{SECRET}]\nkind: {{{SECRET}: 1}}\n"),
}


@pytest.mark.parametrize(("name", "text"), CASES.values(), ids=CASES)
def test_what_does_not_parse_is_not_quoted(name: str, text: str) -> None:
    said = said_of(name, text.encode())
    assert leaks(said, SECRET, *PEM.split(), *SHADOW.split(":")) == []


def _value(number: int, marks: str) -> str:
    """No word of ours: digits of a hash, with marks of YAML among them."""
    digits = base64.b64encode(hashlib.sha256(str(number).encode()).digest()).decode()
    return marks.join(digits[i : i + 9] for i in range(0, len(digits), 9))


VALUE = st.builds(_value, st.integers(), st.text("/+=:#-_!&*%@'\"{}[]|> ", max_size=3))
KINDS = st.sampled_from(["Secret", "Secret", "Sercet", "secret", "SecretList", "ConfigMap", "Scret", "", "[Secret", "SealedSecret"])
VERSIONS = st.sampled_from(["v1", "v1", "V1", "v2", "1", "", "weir.dev/v1alpha1", "discovery.k8s.io/v1", "bitnami.com/v1alpha1"])


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, str, list[str]]:
    """A file's name and text with a Secret in it, damaged in up to three places; and what must not be seen of it."""
    values = draw(st.lists(VALUE, min_size=1, max_size=3))
    held = {f"key-{i}": value for i, value in enumerate(values)}
    secret = {"apiVersion": draw(VERSIONS), "kind": draw(KINDS), "metadata": {"name": "db"}, "stringData": held}
    content = {"apiVersion": "v1", "kind": "List", "items": [secret]} if draw(st.booleans()) else secret
    as_json = draw(st.booleans())
    text = json.dumps(content, indent=draw(st.sampled_from([None, 2]))) if as_json else _written(draw, content, values)
    for _ in range(draw(st.integers(0, 3))):
        text = draw(st.sampled_from(DAMAGES))(text, draw(st.integers(0, max(0, len(text) - 1))))
    return draw(st.sampled_from(["a.yaml", "a.json"] if as_json else ["a.yaml"])), text, values


def _written(draw: st.DrawFn, content: object, values: list[str]) -> str:
    """As a library writes it, or as people do, without the quotes that a value needs."""
    text: str = yaml.safe_dump(
        content, width=draw(st.sampled_from([20, 1000])), default_flow_style=draw(st.sampled_from([None, False, True]))
    )
    if draw(st.booleans()):
        plain = "\n".join(f"  {draw(st.sampled_from(['password: ', '', '- ', '? ', '  ', '|']))}{value}" for value in values)
        text += f"more:\n{plain}\n"
    return text


def _line(text: str, at: int) -> tuple[int, int]:
    start = text.rfind("\n", 0, at) + 1
    end = text.find("\n", at)
    return start, len(text) if end < 0 else end


DAMAGES = (
    lambda text, at: text[:at] + text[at + 1 :],
    lambda text, at: text[:at],
    lambda text, at: text[:at] + "\t" + text[at:],
    lambda text, at: text[:at] + "\n" + text[at:],
    lambda text, at: text[:at] + "\n---\n" + text[at:],
    lambda text, at: text[:at] + text[slice(*_line(text, at))] + "\n" + text[at:],
    lambda text, at: text[: _line(text, at)[0]] + "\t" + text[_line(text, at)[0] :],
    lambda text, at: text[: _line(text, at)[0]] + "   " + text[_line(text, at)[0] :],
    lambda text, at: text[: _line(text, at)[0]] + text[slice(*_line(text, at))].lstrip() + text[_line(text, at)[1] :],
    lambda text, at: re.sub("['\"]", "", text, count=1 + at % 4),
    lambda text, at: text.replace(":", "", 1 + at % 3),
    lambda text, at: text.replace(": ", ": " + "!&*%@`|>{["[at % 10], 1 + at % 5),
    lambda text, at: text[:at] + "\x1b\x00"[at % 2] + text[at:],
)


@given(damaged())
def test_no_six_characters_of_a_secret_are_in_any_event(case: tuple[str, str, list[str]]) -> None:
    name, text, values = case
    assert leaks(said_of(name, text.encode()), *values) == []
