"""Strict validation of manifests in folders: fields that a kind does not have, and kinds that a group does not have.

As in kubectl: a misspelt word would otherwise drop a Service, or open it to everyone.  Kinds of
groups that Weir does not know pass, and so do kinds of the core group that it does not use.
"""

import re
from collections.abc import Mapping
from typing import Final

from services.watcher.kinds.fields import MOST_TOLD, Field, outline, show
from services.watcher.kinds.kind import Kind
from services.watcher.kinds.near import misspelt, nearest
from services.watcher.kinds.registry import GROUPS
from services.watcher.kinds.schema import Fields

_VERSION: Final = re.compile(r"v[0-9]{1,2}((alpha|beta)[0-9]{1,2})?")
LEGACY: Final = "Endpoints"


def group_of(api: str) -> str:
    """Return the group of an apiVersion; "" for the core group."""
    return api.rpartition("/")[0]


def note_unknown_kind(manifest: Field, api: str, word: str, followed: Mapping[str, Kind]) -> None:
    """Note a problem where the group has no such kind, or the group of a kind that Weir reads is misspelt.

    followed: the kinds that are read, by word.
    """
    group = group_of(api)
    if group not in GROUPS:
        if misspelt(group, GROUPS) and (kind := word if word in followed else misspelt(word, followed)):
            manifest["apiVersion"].fail(followed[kind].api, show(group))
    elif word.removesuffix("List") in GROUPS[group]:
        return
    elif word in followed:
        manifest["apiVersion"].fail(followed[word].api, show(api) if _VERSION.fullmatch(api.rpartition("/")[2]) else outline(api))
    else:
        right = misspelt(word, GROUPS[group])
        manifest["kind"].fail(right or f"a kind of {group or 'the core group'}", show(word) if right else "another kind")


def note_unknown_fields(at: Field, fields: Fields) -> None:
    """Note a problem for each field below that the kind does not have, with the nearest that it has.  Values are not quoted."""
    if isinstance(at.value, list):
        for i, value in enumerate(at.value):
            note_unknown_fields(Field(value, at, at.faults, i), fields)
    elif isinstance(at.value, dict):
        for name, value in at.value.items():
            if name not in fields:
                _unknown(Field(None, at, at.faults, str(name)), str(name), fields)
            elif below := fields[name]:
                note_unknown_fields(Field(value, at, at.faults, name), below)


def _unknown(field: Field, name: str, fields: Fields) -> None:
    """Looking for what was meant takes time, and only the first faults are reported."""
    near = nearest(name, fields) if len(field.faults) < MOST_TOLD else ""
    field.fail(near or f"one of {', '.join(sorted(fields))}", "an unknown field")
