"""A history in a file, and what is found wrong in one."""

import asyncio
import json
from pathlib import Path

import msgspec
import pytest

from weir.bus.lines import LINES, keyed, line
from weir.bus.reader import Delivered, Refused
from weir.cli.log.verify import Audit
from weir.decider import Fact, World
from weir.events import ENCODE, AnyEvent, ServiceGone, ServiceObserved, VipAllocated, key_of
from weir.model import Root
from weir.view.history import entries, world_at
from weir.view.recording import Recording, RecordingError, head_line

FIRST = 5


def service(number: int, *, gone: bool = False) -> AnyEvent:
    root = Root(kind="Service", namespace="shop", name=f"web.{number}")
    return ServiceGone(root=root) if gone else ServiceObserved(root=root, exposed=True, labels={"long": "x" * (number * 37 % 400)})


EVENTS = [service(number % 40, gone=number % 7 == 0) for number in range(200)]


def delivered(seq: int, event: AnyEvent, id_: str = "") -> Delivered:
    headers = {"Weir-Cause": "1"} | ({"Nats-Msg-Id": id_} if id_ else {})
    return Delivered(seq, seq * 1_000_000_000, key_of(event), headers, ENCODE(event))


def recording(path: Path, *messages: Delivered, last: int = 0) -> Recording:
    file = path / "log"
    file.write_bytes(head_line("local", messages[0].sequence, last or messages[-1].sequence) + b"".join(map(line, messages)))
    return Recording(file)


def whole(path: Path) -> Recording:
    return recording(path, *(delivered(seq, event) for seq, event in enumerate(EVENTS, FIRST)))


def test_every_fact_is_found_by_its_sequence(tmp_path: Path) -> None:
    found = whole(tmp_path)
    for seq, event in enumerate(EVENTS, FIRST):
        assert asyncio.run(found.at(seq)).fact == Fact(seq, event, key_of(event))
    for seq in (FIRST - 1, FIRST + len(EVENTS)):
        with pytest.raises(Refused):
            asyncio.run(found.at(seq))


def test_part_of_it_begins_and_ends_where_asked(tmp_path: Path) -> None:
    found = whole(tmp_path)

    async def sequences(start: int, end: int | None) -> list[int]:
        return [entry.fact.seq async for entry in entries(found, start, end)]

    assert asyncio.run(sequences(1, None)) == list(range(FIRST, FIRST + 200))
    assert asyncio.run(sequences(50, 60)) == list(range(50, 61))
    assert asyncio.run(sequences(FIRST + 199, None)) == [FIRST + 199]


@pytest.mark.parametrize("moment", ["", "5", "77", "1970-01-01T00:01:40"])
def test_world_of_a_moment_is_the_fold_up_to_it(tmp_path: Path, moment: str) -> None:
    end = {"": FIRST + 199, "1970-01-01T00:01:40": 100}.get(moment) or int(moment)
    folded = World()
    for seq, event in enumerate(EVENTS, FIRST):
        if seq <= end - (moment.startswith("1970")):
            folded.evolve(Fact(seq, event, key_of(event)))
    world, last = asyncio.run(world_at(whole(tmp_path), moment))
    assert world.facts == folded.facts
    assert last == end - moment.startswith("1970")


def test_file_that_ends_too_soon_or_is_none_is_told_by_its_place(tmp_path: Path) -> None:
    cut = recording(tmp_path, delivered(1, EVENTS[1]), delivered(2, EVENTS[2]), last=3)
    for start in (1, 3):
        with pytest.raises(RecordingError, match="ends after event 2, expected 3"):
            list(cut.batches(start))
    (tmp_path / "log").write_bytes(head_line("local", 1, 2) + line(delivered(1, EVENTS[1])) + b'{"sequence": 2}\n')
    with pytest.raises(RecordingError, match="line after event 1"):
        list(Recording(tmp_path / "log").batches(1))
    (tmp_path / "log").write_bytes(b"\x7fELF\n")
    with pytest.raises(RecordingError, match="line 1"):
        Recording(tmp_path / "log")


def test_body_that_is_no_json_still_makes_a_line(tmp_path: Path) -> None:
    message = delivered(1, EVENTS[1])._replace(body=b'{"a\xff\n')
    assert line(message).count(b"\n") == 1
    assert json.loads(line(message))["event"] == '{"a\\xff\n'


def test_a_body_with_line_breaks_is_one_line_with_the_same_event() -> None:
    pretty = msgspec.json.format(ENCODE(service(1)), indent=2)
    message = delivered(1, service(1))._replace(body=pretty)
    assert line(message).count(b"\n") == 1
    (found,) = LINES.decode_lines(line(message))
    assert found.entry().fact.event == service(1)
    ((key, text),) = keyed(line(message))
    assert (key, text) == (message.key, line(message))


# ── verify ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def audit(*messages: Delivered) -> Audit:
    found = Audit(messages[0].sequence)
    for message in messages:
        found.hear(message)
    return found


def faults(found: Audit) -> list[tuple[int, str]]:
    return [(fault.sequence, fault.fault) for fault in found.faults]


def test_sound_history_has_no_fault_and_a_digest_of_its_own() -> None:
    history = [delivered(seq, event) for seq, event in enumerate(EVENTS, FIRST)]
    found = audit(*history)
    assert faults(found) == []
    assert found.digest == audit(*history).digest
    assert found.digest != audit(*history[:-1], history[-1]._replace(body=ENCODE(service(199)))).digest


def test_each_fault_is_told_with_its_sequence() -> None:
    fact = delivered(2, EVENTS[2])
    unknown = fact._replace(sequence=3, body=b'{"type":"made_up"}')
    misplaced = fact._replace(sequence=4, key="watcher.service.shop.other")
    after_hole = fact._replace(sequence=7)
    found = faults(audit(delivered(1, EVENTS[1]), fact, unknown, misplaced, after_hole))
    assert [sequence for sequence, _ in found] == [3, 4, 7]
    assert "made_up" in found[0][1]
    assert "forged or misplaced" in found[1][1]
    assert "2 events are missing" in found[2][1]


def test_append_behind_another_fact_than_its_authors_last_is_a_fault() -> None:
    vip = VipAllocated(vip="192.0.2.1", pool="p", holders=("Service/shop/web",), root=Root(kind="Service", name="web", namespace="shop"))
    batch = [delivered(1, vip, "weir.local.ipam.0.1"), delivered(2, vip, "weir.local.ipam.0.2")]
    other = delivered(3, EVENTS[1], "weir.local.watcher.0.1")
    good = delivered(4, vip, "weir.local.ipam.2.1")
    assert faults(audit(*batch, other, good)) == []
    for stale in ("1.1", "0.1", "2.2"):
        assert [sequence for sequence, _ in faults(audit(*batch, other, delivered(4, vip, f"weir.local.ipam.{stale}")))] == [4]


def test_state_must_hold_each_entitys_last_fact() -> None:
    history = [delivered(seq, service(seq)) for seq in (1, 2, 3, 4)]
    state = {message.sequence: message for message in history}
    newer = delivered(9, service(1))  # came since
    dropped = delivered(1, service(33))._replace(sequence=0)  # from before what the history still holds
    sound = audit(*history)
    sound.compare([newer, state[2], state[3], state[4], dropped])
    assert faults(sound) == []
    found = audit(*history, delivered(5, service(3)))
    found.compare([state[1], state[2]._replace(body=b"{}"), state[3]])
    assert sorted(sequence for sequence, _ in faults(found)) == [2, 4, 5]
