"""Names in NATS: streams, buckets and subjects, and what an append may expect of them."""

from typing import Final, NamedTuple

from weir.events import EpochStarted, key

STREAM: Final = "WEIR"
STATE: Final = "WEIR_STATE"
LEASES: Final = "WEIR_LEASES"  # a bucket: keys are services, values the replica that leads
LEASE_S: Final = 5  # how long a value of that bucket lives
ALIVE: Final = "alive"  # the first token of subjects that no stream stores


class Expected(NamedTuple):
    """An append is stored only if the last event whose key matches `key` is at `sequence`, 0 for none.  key: may have wildcards."""

    key: str
    sequence: int


def subtree(author: str, last: int) -> Expected:
    """Expect that nothing was appended as `author` since `last`.  The server looks at every subject the author ever used."""
    return Expected(f"{author}.>", last)


def epoch_key(author: str) -> str:
    """Return the key under which the author's epochs start."""
    return key(author, EpochStarted.kind, "", "")


def alive_subject(prefix: str, author: str) -> str:
    """Return the subject of the author's heartbeats."""
    return f"{ALIVE}.{prefix}{author}"
