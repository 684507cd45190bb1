"""Examples of every event type, made from the types alone; `python -m tests.unit.event_examples` writes the golden files.

A change in `events.jsonl` or `defaults.json` is a change of what is on disk: only additions are allowed there.
`yesterday.py` is the reader of an earlier version: written once, and never to follow what this version reads.
"""

import sys
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from weir.events import ENCODE, AnyEvent, Event, tag_of

TESTDATA = Path(__file__).parent / "testdata"
EVENTS, DEFAULTS, YESTERDAY = TESTDATA / "events.jsonl", TESTDATA / "defaults.json", TESTDATA / "yesterday.py"
TYPES: list[type[Event]] = sorted(AnyEvent.__args__, key=tag_of)


def minimal(kind: type[msgspec.Struct]) -> Any:
    """An instance with its required fields alone."""
    return kind(**{f.name: _value(f.type, f.name, full=False) for f in _info(kind).fields if f.required})


def full(kind: type[msgspec.Struct]) -> Any:
    """An instance whose every field differs from its default; a type within itself stays empty there."""
    return _full(kind, ())


def _full(kind: type[msgspec.Struct], within: tuple[type, ...]) -> Any:
    fields = {f.name: _value(f.type, f.name, full=True, within=(*within, kind), default=f.default) for f in _info(kind).fields}
    return kind(**fields)


def structs() -> list[type[msgspec.Struct]]:
    """All events, and all values in them, by name."""
    found: dict[str, type[msgspec.Struct]] = {}
    waiting: list[Any] = [inspect.type_info(kind) for kind in TYPES]
    while waiting:
        match waiting.pop():
            case inspect.StructType() as info if info.cls.__name__ not in found:
                found[info.cls.__name__] = info.cls
                waiting += [field.type for field in info.fields]
            case inspect.VarTupleType(item_type=item):
                waiting.append(item)
            case inspect.UnionType(types=types):
                waiting += types
    return [found[name] for name in sorted(found)]


def defaults() -> bytes:
    """Struct -> field -> default, of all that have one: it is left out on disk, so another would change the past."""
    found = {kind.__name__: {f.name: _default(f) for f in _info(kind).fields if not f.required} for kind in structs()}
    return msgspec.json.format(msgspec.json.encode(found, order="deterministic"), indent=1) + b"\n"


def lines() -> list[bytes]:
    """Two for each type: minimal and full."""
    return [ENCODE(make(kind)) for kind in TYPES for make in (minimal, full)]


def reader() -> str:
    """A module of struct definitions with the fields of this version, which decodes every event by `DECODE`."""
    text = ['"""The reader of an earlier version, as it was.  Made by tests/unit/event_examples.py."""', "", "import msgspec", ""]
    for kind in structs():
        tag = f', tag_field="type", tag="{tag_of(kind)}"' if issubclass(kind, Event) else ""
        text += ["", f"class {kind.__name__}(msgspec.Struct, frozen=True, kw_only=True{tag}):"]
        fields = _info(kind).fields
        text += [f'    {f.name}: "{_text(f.type)}"{"" if f.required else " = msgspec.UNSET"}' for f in fields] or ["    pass"]
        text += [""]
    text += ["", f"DECODE = msgspec.json.Decoder({' | '.join(kind.__name__ for kind in TYPES)}).decode", ""]
    return "\n".join(text)


def _info(kind: type[msgspec.Struct]) -> inspect.StructType:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return info


def _default(field: inspect.Field) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return msgspec.to_builtins(field.default_factory())
    value = field.default
    return {type(value).__name__: msgspec.to_builtins(value)} if isinstance(value, msgspec.Struct) else msgspec.to_builtins(value)


def _value(kind: inspect.Type, name: str, *, full: bool, within: tuple[type, ...] = (), default: Any = None) -> Any:
    match kind:
        case inspect.StrType():
            return f"{name}-x" if full else name
        case inspect.BoolType():
            return not default if full and isinstance(default, bool) else full
        case inspect.IntType():
            return (default if isinstance(default, int) else 0) + 7 if full else 0
        case inspect.NoneType():
            return None
        case inspect.VarTupleType(item_type=item):
            if not full or (isinstance(item, inspect.StructType) and item.cls in within):
                return ()
            return (_value(item, name, full=True, within=within),)
        case inspect.DictType():
            return {"key": f"{name}-x"} if full else {}
        case inspect.StructType(cls=cls):
            return _full(cls, within) if full else minimal(cls)
        case inspect.UnionType(types=types):
            rest = [each for each in types if not isinstance(each, inspect.NoneType)]
            if full:
                return _value(rest[-1], name, full=True, within=within)
            return None if len(rest) < len(types) else _value(rest[0], name, full=False)
    raise TypeError(f"{name}: no example of {kind}")


def _text(kind: inspect.Type) -> str:
    match kind:
        case inspect.StructType(cls=cls):
            return cls.__name__
        case inspect.VarTupleType(item_type=item):
            return f"tuple[{_text(item)}, ...]"
        case inspect.DictType(key_type=key, value_type=value):
            return f"dict[{_text(key)}, {_text(value)}]"
        case inspect.UnionType(types=types):
            return " | ".join(map(_text, types))
    return {inspect.StrType: "str", inspect.BoolType: "bool", inspect.IntType: "int", inspect.NoneType: "None"}[type(kind)]


if __name__ == "__main__":
    EVENTS.write_bytes(b"\n".join(lines()) + b"\n")
    DEFAULTS.write_bytes(defaults())
    if "--reader" in sys.argv:
        YESTERDAY.write_text(reader())
