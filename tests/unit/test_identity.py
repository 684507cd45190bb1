"""Which log a log is, to whoever knew one: the same, an older copy of it, or another."""

import random

import pytest

from weir.bus.identity import Branch, Identity, identity_of, kinship

LOG = Identity("abc")
RESTORED = LOG.branched("monday", 50)
AGAIN = RESTORED.branched("tuesday", 70)


@pytest.mark.parametrize(
    ("known", "position", "found", "head", "kin"),
    [
        (LOG, 40, LOG, 40, "same"),
        (LOG, 40, LOG, 39, "older copy"),
        (LOG, 40, Identity("xyz"), 99, "another log"),
        (LOG, 50, RESTORED, 60, "same"),
        (LOG, 51, RESTORED, 60, "older copy"),
        (LOG, 60, RESTORED, 900, "older copy"),  # however long it has grown since
        (RESTORED, 65, RESTORED, 65, "same"),
        (RESTORED, 71, AGAIN, 99, "older copy"),
        (LOG, 60, AGAIN, 99, "older copy"),  # apart since the first restore, though the second came later
        (AGAIN, 60, RESTORED, 99, "same"),
        (AGAIN, 80, RESTORED, 99, "older copy"),
        (RESTORED, 60, LOG.branched("other", 55), 99, "older copy"),
        (RESTORED, 50, LOG.branched("other", 55), 99, "same"),
    ],
)
def test_kinship_of_what_was_known_and_what_is_found(known: Identity, position: int, found: Identity, head: int, kin: str) -> None:
    assert kinship(known, position, found, head) == kin


def test_a_log_is_the_same_only_where_every_event_known_is_in_it() -> None:
    """Against logs made of the events themselves, copied and continued at random."""
    dice = random.Random(7)
    for _ in range(300):
        logs: list[tuple[Identity, list[int]]] = [(Identity("abc"), [])]
        for event in range(40):
            identity, events = dice.choice(logs)
            if dice.random() < 0.2:
                cut = dice.randint(0, len(events))
                logs.append((identity_at(identity, cut).branched(f"b{event}", cut), events[:cut]))
            else:
                events.append(event)
        (known, before), (found, now) = dice.choice(logs), dice.choice(logs)
        position = dice.randint(0, len(before))
        same = now[:position] == before[:position] and len(now) >= position
        kin = kinship(known, position, found, len(now))
        assert same or kin != "same", (known, position, found, before, now)


def identity_at(identity: Identity, cut: int) -> Identity:
    """A backup that was taken when the log was at `cut` knows nothing of restores that came later."""
    return Identity(identity.log, tuple(branch for branch in identity.branches if branch.at <= cut))


def test_identity_is_read_back_from_the_streams_configuration() -> None:
    assert identity_of({"metadata": AGAIN.metadata() | {"_nats.level": "2"}}) == AGAIN
    assert identity_of({}) == Identity()
    assert AGAIN.branches[0] == Branch("monday", 50)
