"""Splits the bytes of a file into documents and parses them, whatever the bytes are.

A file is cut at its `---` lines before any of it is parsed, so a malformed document leaves its neighbours readable.  What
could exhaust this process is found before anything is built: size, depth, aliases that multiply.  A document that does not parse
may be a Secret, so none of its text is quoted: a problem gives the line, the column and a message from a list.
"""

import json
import re
from collections.abc import Iterator
from itertools import chain, pairwise
from typing import Final, NamedTuple, Protocol

import yaml

from services.watcher.kinds.reader import Document
from services.watcher.sources.bundles import reduced
from services.watcher.sources.parser_messages import safe
from weir.model import Problem

MOST_BYTES: Final = 64 << 20  # of a file
MOST_DOCUMENT_BYTES: Final = 1 << 20
MOST_DEPTH: Final = 64  # libyaml composes recursively, in C: a deep document would end the process
MOST_NODES: Final = 100_000  # of a document, aliases counted as often as they are used; so are its characters

MOST_OPENERS: Final = 24  # of lists and mappings in one line, and
_INDENTED: Final = re.compile(r"(^|[\r\n\x85\u2028\u2029])[ ?:\t-]{20}")  # levels by indentation, at most two a column: short of MOST_DEPTH
_ONCE: Final = "each key once in its mapping"
_TEXT: Final = "tag:yaml.org,2002:str"
_MAPPING: Final = "tag:yaml.org,2002:map"
_CUT: Final = re.compile(r"^---(?=\s|$)", re.MULTILINE)
_EMPTY: Final = re.compile(r"(\s*(#.*)?|%.*|---\s*(#.*)?|\.\.\.\s*)", re.ASCII)


class _Mark(Protocol):
    """A place in a document, counted from 0: of either parser of PyYAML, or ours."""

    @property
    def line(self) -> int: ...
    @property
    def column(self) -> int: ...


class _Place(NamedTuple):
    line: int
    column: int


class _Refused(Exception):
    """A document that is not built: the reason, which quotes nothing, and where it shows, counted from 0."""

    def __init__(self, reason: str, mark: _Mark | None = None) -> None:
        super().__init__(reason)
        self.reason, self.mark = reason, mark


class _Weight(NamedTuple):
    values: int  # 0 while it is being weighed
    characters: int


class _Loader(yaml.CSafeLoader):
    """YAML 1.1 as Kubernetes reads it: dates stay text.  Mappings and lists are built at once, for nothing loops when it comes here."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_object(self, node: yaml.Node, deep: bool = False) -> object:
        """PyYAML's constructors fail in their own ways where a tag lies: `!!bool maybe` is a KeyError."""
        try:
            content: object = super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, TypeError) as error:
            raise _Refused("each value of the type that its tag names", node.start_mark) from error
        return content

    def mapping(self, node: yaml.Node) -> dict[object, object]:
        """Each key once, as far as it is written; what `<<` brings gives way."""
        if not isinstance(node, yaml.MappingNode):
            raise TypeError(node.tag)
        names = [name.value for name, _ in node.value if isinstance(name, yaml.ScalarNode)]
        if len(set(names)) < len(names):
            raise _twice(node)
        self.flatten_mapping(node)
        return {self._content(name): self._content(value) for name, value in node.value}

    def sequence(self, node: yaml.Node) -> list[object]:
        """The items."""
        if not isinstance(node, yaml.SequenceNode):
            raise TypeError(node.tag)
        return [self._content(item) for item in node.value]

    def _content(self, node: yaml.Node) -> object:
        if node.tag == _TEXT and isinstance(node, yaml.ScalarNode):  # most nodes are; what their value is needs no asking
            return node.value
        if node.tag == _MAPPING:
            return self.mapping(node)
        return self.construct_object(node, deep=True)


_Loader.add_constructor(_MAPPING, _Loader.mapping)
_Loader.add_constructor("tag:yaml.org,2002:seq", _Loader.sequence)


def documents(name: str, data: bytes) -> tuple[Document, ...]:
    """The documents of file `name`, numbered from 1; empty ones are not counted."""
    if len(data) > MOST_BYTES:
        return (fault(name, f"more than {MOST_BYTES} bytes", f"at most {MOST_BYTES}"),)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return (fault(name, f"byte 0x{data[error.start]:02x} at {error.start}", "UTF-8 text"),)
    if name.endswith(".json"):
        return (_decoded(f"{name}#1", text, 0, as_json=True),)
    parts = [(start, part) for start, part in _parts(text) if _says_something(part)]
    return tuple(_decoded(f"{name}#{i}", part, start, as_json=False) for i, (start, part) in enumerate(parts, 1))


def fault(source: str, got: str, accepted: str, field: str = "file") -> Document:
    """A document that could not be had."""
    return Document(source, problem=Problem(field=field, got=got, accepted=accepted))


def _parts(text: str) -> Iterator[tuple[int, str]]:
    """The text of each document and the number of lines before it; `---` at a line's start is always a cut (YAML 1.1, c-forbidden)."""
    cuts = [0, *(match.start() for match in _CUT.finditer(text)), len(text)]
    line = 0
    for start, end in pairwise(cuts):
        yield line, text[start:end]
        line += text.count("\n", start, end)


def _says_something(part: str) -> bool:
    """Refuse by size what is too long to be parsed."""
    return len(part) > MOST_DOCUMENT_BYTES or not all(_EMPTY.fullmatch(line) for line in part.splitlines())


def _decoded(source: str, text: str, before: int, *, as_json: bool) -> Document:
    """before: lines of the file before `text`."""
    if len(text.encode()) > MOST_DOCUMENT_BYTES:
        return fault(source, f"{len(text.encode())} bytes", f"at most {MOST_DOCUMENT_BYTES} bytes", "document")
    try:
        return Document(source, reduced(_json(text) if as_json else _yaml(text)))
    except _Refused as refused:
        return _malformed(source, before, refused.mark, refused.reason)
    except yaml.MarkedYAMLError as error:
        return _malformed(source, before, error.problem_mark or error.context_mark, safe(error.problem))
    except yaml.reader.ReaderError as error:
        return _malformed(source, before, _place(text, error.position), safe(error.reason))
    except json.JSONDecodeError as error:
        return _malformed(source, before, _place(text, error.pos), safe(error.msg))
    except (yaml.YAMLError, ValueError, RecursionError):
        return _malformed(source, before, None, safe(None))


def _malformed(source: str, before: int, mark: _Mark | None, reason: str) -> Document:
    """before: lines of the file before the document; marks count within it, from 0."""
    where = f"line {before + mark.line + 1}, column {mark.column + 1}" if mark else "document"
    return fault(source, "malformed text", f"well-formed text ({reason})", where)


def _place(text: str, at: int) -> _Place:
    return _Place(text.count("\n", 0, at), at - text.rfind("\n", 0, at) - 1)


def _yaml(text: str) -> object:
    if len(text) > MOST_NODES or text.count("[") + text.count("{") > MOST_OPENERS or _INDENTED.search(text):
        _check_depth(text)
    loader = _Loader(text)
    node = loader.get_single_node()
    if node is None:
        return None
    if "*" in text or len(text) > MOST_NODES:  # else each value is written out, and takes a character at least
        _weigh(node, {})
    content: object = loader.construct_document(node)
    return content


def _check_depth(text: str) -> None:
    """By libyaml's parser, which does not recurse."""
    depth = 0
    for i, event in enumerate(yaml.parse(text, Loader=_Loader)):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MOST_DEPTH or i > 2 * MOST_NODES:
            raise _Refused(f"at most {MOST_DEPTH} levels and {MOST_NODES} values", event.start_mark)


def _weigh(node: yaml.Node, weights: dict[int, _Weight]) -> _Weight:
    """What `node` stands for, aliases as often as they are used; refuses too much, loops, and duplicate keys."""
    known = weights.get(id(node))
    if known:
        if not known.values:
            raise _Refused("an alias inside what it stands for", node.start_mark)
        return known
    weights[id(node)] = _Weight(0, 0)
    below = [_weigh(child, weights) for child in _children(node)]
    own = len(node.value) if isinstance(node, yaml.ScalarNode) else 0
    weight = _Weight(1 + sum(child.values for child in below), own + sum(child.characters for child in below))
    if weight.values > MOST_NODES or weight.characters > MOST_DOCUMENT_BYTES:
        most = f"at most {MOST_NODES} values and {MOST_DOCUMENT_BYTES} characters"
        raise _Refused(f"{most}, aliases counted as often as they are used", node.start_mark)
    weights[id(node)] = weight
    return weight


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    if isinstance(node, yaml.MappingNode):
        yield from chain.from_iterable(node.value)


def _twice(node: yaml.MappingNode) -> _Refused:
    seen: set[str] = set()
    for name, _ in node.value:
        if isinstance(name, yaml.ScalarNode) and name.value in seen:
            return _Refused(_ONCE, name.start_mark)
        seen.add(name.value if isinstance(name, yaml.ScalarNode) else "")
    return _Refused(_ONCE, node.start_mark)


def _json(text: str) -> object:
    content: object = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    return content


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise _Refused(_ONCE)
    return content


def _no_constant(_: str) -> object:
    raise _Refused("JSON has no NaN or Infinity")
