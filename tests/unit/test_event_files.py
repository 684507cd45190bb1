"""What is on disk stays readable: the encoding and the defaults of every event are pinned, and an earlier reader reads today's events."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.unit import event_examples as examples
from tests.unit.testdata import yesterday
from weir.events import DECODE, ENCODE, Event, tag_of

HOW = "where fields were only added: python -m tests.unit.event_examples"


def test_every_event_is_encoded_as_the_golden_file_has_it() -> None:
    assert examples.EVENTS.read_bytes().splitlines() == examples.lines(), HOW


def test_every_default_is_what_it_was_for_it_is_left_out_on_disk() -> None:
    assert examples.DEFAULTS.read_bytes() == examples.defaults(), HOW


def test_a_full_example_leaves_no_field_out() -> None:
    for kind in examples.TYPES:
        written = json.loads(ENCODE(examples.full(kind)))
        assert written.keys() - {"type"} == {field.encode_name for field in msgspec.structs.fields(kind)}, tag_of(kind)


@pytest.mark.parametrize("kind", examples.TYPES, ids=tag_of)
def test_what_is_written_is_read_back(kind: type[Event]) -> None:
    for event in (examples.minimal(kind), examples.full(kind)):
        assert DECODE(ENCODE(event)) == event


def tomorrow(value: Any) -> Any:
    """As a later version may write it: with a field more in every object, and other words in enumerations, which are text."""
    match value:
        case {"key": str(), **rest} if not rest:  # a map, such as labels
            return value
        case dict():
            return {**{name: each if name == "type" else tomorrow(each) for name, each in value.items()}, "of_tomorrow": {"words": ["x"]}}
        case list():
            return [tomorrow(each) for each in value]
        case str():
            return f"{value}-of-tomorrow"
    return value


def check(read: Any, written: Any) -> Iterator[str]:
    """Check that every field of `read` is as written; yields "Struct.field" of those that are."""
    for field in msgspec.structs.fields(read):
        value, text = getattr(read, field.name), written.get(field.encode_name, msgspec.UNSET)
        if text is not msgspec.UNSET:
            yield f"{type(read).__name__}.{field.name}"
        for one, other in zip(value, text, strict=True) if isinstance(value, tuple) else [(value, text)]:
            if isinstance(one, msgspec.Struct):
                yield from check(one, other)
            else:
                assert one == other, (type(read).__name__, field.name)


def test_the_reader_of_an_earlier_version_reads_fields_and_words_of_a_later_one() -> None:
    kinds = [kind for kind in vars(yesterday).values() if isinstance(kind, msgspec.StructMeta)]
    written = [tomorrow(json.loads(line)) for line in examples.EVENTS.read_bytes().splitlines()]
    known = [event for event in written if event["type"] in {kind.__struct_config__.tag for kind in kinds}]
    found = {name for event in known for name in check(yesterday.DECODE(json.dumps(event)), event)}
    assert found == {f"{kind.__name__}.{field.name}" for kind in kinds for field in msgspec.structs.fields(kind)}, "all are still written"


def test_a_type_of_a_later_version_stops_the_earlier_reader_by_name() -> None:
    with pytest.raises(msgspec.ValidationError, match="type_of_tomorrow"):
        yesterday.DECODE(b'{"type":"type_of_tomorrow"}')


@pytest.mark.parametrize(
    "body",
    [
        b'{"type":"frontend_withdrawn","vip":"v","port":"80","protocol":"TCP","root":{"kind":"k","name":"n"}}',
        b'{"type":"vip_freed"}',
    ],
)
def test_the_earlier_reader_notices_a_field_that_is_retyped_or_no_longer_written(body: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        yesterday.DECODE(body)
