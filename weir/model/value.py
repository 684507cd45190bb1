"""The base of all values."""

import msgspec


class Value(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Base of all values: immutable, never part of a cycle (so no garbage collector looks at them), defaults left out of the log."""
