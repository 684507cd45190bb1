"""Frames changed at random, and a model of its own that says what each should come to.  WEIR_MUTATIONS sets how many."""

import os
import random
from collections import Counter
from collections.abc import Iterator

import pytest

from services.dataplane.l4.layout import FIRST_DROP, ID, VERDICTS
from tests.dataplane.frames import ACK, FIN, SYN, Packet, cut, packed, solicitation
from tests.dataplane.lab import ACTIONS, DROP, OUT, PASS, Lab, run_program
from tests.dataplane.model import FORWARDED, Model

MUTATIONS = int(os.environ.get("WEIR_MUTATIONS", "100000"))
SEED = int(os.environ.get("WEIR_SEED", "20261121"))
V4 = Packet(src="192.0.2.1", dst="198.51.100.1")
V6 = Packet(src="fd02::1", dst="fd03::1")
MODEL = Model(frozenset(map(packed, ("198.51.100.1", "fd03::1"))))
WORDS = (0, 1, 2, 5, 6, 17, 44, 47, 58, 64, 80, 132, 127, 128, 135, 224, 255)
NUMBERS = {name: number for number, name in VERDICTS.items()}


def seeds(good: Packet) -> list[bytes]:
    icmp = "ICMPV6" if good.v6 else "ICMP"
    packets = [good.but(proto=proto, flags=flags) for proto in ("TCP", "UDP", "SCTP") for flags in (SYN, ACK, FIN)]
    packets += [good.but(proto=icmp, sport=kind, dport=0, body=bytes(4) + good.ip()[:48]) for kind in (1, 2, 3, 8, 11, 128, 129)]
    packets += [good.but(ttl=1), good.but(body=bytes(1470)), good.but(body=bytes(1470), fragment=0x4000)]
    packets.append(good.but(src="::1" if good.v6 else "127.0.0.1"))
    packets += [good.but(fragment=each) for each in (0x2000, 0x2001, 0x00B9)] if not good.v6 else [solicitation(good.src, good.dst)]
    parts = [good.but(proto=proto, flags=flags, body=bytes(100)) for proto, flags in (("UDP", ACK), ("TCP", SYN))]
    parts.append(good.but(proto=icmp, sport=128 if good.v6 else 8, dport=0, body=bytes(100)))
    packets += [] if good.v6 else [good.but(options=b"\x01" * size) for size in (4, 40)]
    return [packet.frame() for packet in packets] + [frame for each in parts for frame in cut(each, size=64)]


def mutations(good: Packet, count: int, dice: random.Random) -> Iterator[bytes]:
    """Bytes behind the MACs set to what means something or to anything, and the end cut off or made longer."""
    whole, least = seeds(good), 54 if good.v6 else 34  # a test run wants the IP header
    for _ in range(count):
        frame = bytearray(dice.choice(whole))
        for _ in range(dice.choice((0, 1, 1, 1, 2, 3))):
            frame[dice.randrange(12, min(len(frame), 90))] = dice.choice(WORDS) if dice.random() < 0.7 else dice.randrange(256)
        if dice.random() < 0.2:
            del frame[dice.randint(least, len(frame)) :]
        yield bytes(frame) + bytes(dice.choice((0, 0, 0, 9)))


def verdict_of(lab: Lab, frame: bytes, expected: set[str]) -> tuple[str, str, bytes]:
    """As `Lab.send`, but the counters that should have moved are read first, and the others only where they have not."""
    value, out, _ = run_program(lab.program, frame)
    after = lab.map("verdicts")
    moved = next(name for name in (*sorted(expected), *NUMBERS) if any(after.get(ID.pack(NUMBERS[name])) or b""))
    after.put(ID.pack(NUMBERS[moved]), bytes(len(after.get(bytes(4)) or b"")))
    return moved, ACTIONS[lab.hook][value], out


@pytest.mark.parametrize("good", [V4, V6], ids=["v4", "v6"])
def test_every_mutation_gets_the_models_verdict(lab: Lab, good: Packet) -> None:
    for number, proto in enumerate(("TCP", "UDP", "SCTP"), 1):
        lab.serve(good.dst, ["fd01::11" if good.v6 else "10.1.0.11"], protocol=proto, frontend=number, first=number)
    lab.map("verdicts").put_many((key, bytes(len(value))) for key, value in list(lab.map("verdicts").items()))
    seen: Counter[str] = Counter()
    for turn, frame in enumerate(mutations(good, MUTATIONS // 4, random.Random(SEED))):
        if frame[12:14] not in (b"\x08\x00", b"\x86\xdd"):
            continue
        expected = MODEL.verdicts(frame)
        verdict, action, out = verdict_of(lab, frame, expected)
        assert verdict in expected, (turn, verdict, expected, frame.hex())
        assert (action == DROP) == (NUMBERS[verdict] >= FIRST_DROP), (turn, verdict, action)
        assert action != PASS or verdict == FORWARDED or out == frame, (turn, "passed, but not untouched")
        assert action != OUT or len(out) >= 34
        seen[verdict] += 1
    print(lab.hook, "v6" if good.v6 else "v4", dict(seen))
    assert {"forwarded", "passed", "malformed", "fragment", "bad_fragment", "unsupported", "no_frontend", "martian"} <= set(seen)
