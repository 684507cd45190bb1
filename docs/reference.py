"""Writes docs/events.md, docs/metrics.md, docs/permissions.md and the watcher's role from the code:  python -m docs.reference

Fields, types, defaults and the comments behind them are read from the source of weir/events and weir/model, so that a page
cannot say other than the type; a test compares the committed pages with these.
"""

import ast
import io
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, get_args

from docs.configuration import configuration_page
from docs.permissions import permissions_page
from docs.roles import role_page, tls_role_page
from weir import events, model
from weir.events import AnyEvent, Event
from weir.service.metrics import EVERY, METRICS, SECONDS

HERE = Path(__file__).parent
ANY = "any author"
AUTHORS = {
    "watcher": "what was observed",
    "ipam": "who holds which address",
    "planner": "what the kernel should hold",
    "dataplane": "what it holds, by node",
    "health": "who answers, by node",
    "operator": "what an operator decided",
}
TOKENS = "letters, digits and `-` stay, empty is `_`, all else is `=HH` for each byte of UTF-8"


class Field(NamedTuple):
    """One field of a type, as its source has it; default "" where it must be given."""

    name: str
    type: str
    default: str
    comment: str


class Source:
    """The classes of a package, by name."""

    def __init__(self, path: str) -> None:
        text = "\n".join(file.read_text() for file in sorted(Path(path).parent.glob("*.py")))
        body = ast.parse(text).body
        self._classes = {node.name: node for node in body if isinstance(node, ast.ClassDef)}
        self._assigned = {ast.unparse(node.targets[0]): ast.unparse(node.value) for node in body if isinstance(node, ast.Assign)}
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        self._comments = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}

    def choices(self) -> Iterator[tuple[str, str]]:
        """Names of types that are one of a few words."""
        for name, type_ in self._assigned.items():
            if type_.startswith("Literal["):
                yield name, type_.removeprefix("Literal[").removesuffix("]").replace("'", "").replace(", ", " | ")

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def doc(self, name: str) -> str:
        return " ".join((ast.get_docstring(self._classes[name]) or "").split())

    def fields(self, name: str) -> Iterator[Field]:
        """Those of its bases first."""
        node = self._classes.get(name)
        if not node:
            return
        for base in node.bases:
            yield from self.fields(ast.unparse(base))
        for each in node.body:
            if isinstance(each, ast.AnnAssign) and "ClassVar" not in ast.unparse(each.annotation):
                default = ast.unparse(each.value) if each.value else ""
                yield Field(ast.unparse(each.target), ast.unparse(each.annotation), default, self._comments.get(each.end_lineno or 0, ""))

    def entity(self, name: str) -> tuple[str, str]:
        """Namespace and name of the entity, as the code computes them."""
        node = self._classes[name]
        for each in node.body:
            if isinstance(each, ast.FunctionDef) and each.name == "entity" and isinstance(each.body[-1], ast.Return):
                pair = each.body[-1].value
                if isinstance(pair, ast.Call):  # entity_of_object
                    return "root.space", "root.name"
                assert isinstance(pair, ast.Tuple)
                namespace, entity = (ast.unparse(part).replace("self.", "").replace("''", "none") for part in pair.elts)
                return namespace, entity
        return self.entity(ast.unparse(node.bases[0]))


def events_page() -> str:
    """docs/events.md."""
    source, values = Source(events.__file__), Source(model.__file__)
    lines = [
        "# Events",
        "",
        "Made by `make docs` from `weir/events.py` and `weir/model.py`: change it there.",
        "",
        "Every event of the log is JSON with a `type`; fields that have their default are left out. It stands on the subject",
        f"`weir.<cluster>.<author>.<kind>.<namespace>.<name>`: in each token {TOKENS}.",
        "The author of an event about a node is `<author>-<node>`. The last event of a subject is the whole state of its entity.",
        "Types and fields are never renamed or reused; new fields have defaults. Headers: `Weir-Cause`, the sequence that led to it.",
    ]
    for author, words in ("", "who appends"), *AUTHORS.items():
        lines += ["", f"## {author or ANY}: {words}"]
        for event in (each for each in get_args(AnyEvent) if each.author == author):
            lines += _event(source, event)
    lines += ["", "## Values"]
    lines += ["", *(f"- {name}: `{words}`" for name, words in values.choices())]
    for name in values:
        if fields := list(values.fields(name)):
            lines += ["", f"### {name}", "", values.doc(name), "", *_fields(fields)]
    return "\n".join(lines) + "\n"


def _event(source: Source, event: type[Event]) -> list[str]:
    namespace, name = source.entity(event.__name__)
    end = ", which is no more after it" if event.gone else ""
    of_node = "-<node>" if any(field.name == "node" for field in source.fields(event.__name__)) else ""
    return [
        "",
        f"### {events.tag_of(event)}",
        "",
        source.doc(event.__name__),
        "",
        f"About: `{event.author or '<author>'}{of_node}.{event.kind}`, namespace {_code(namespace)}, name {_code(name)}{end}.",
        "",
        *_fields(source.fields(event.__name__)),
    ]


def _fields(fields: Iterable[Field]) -> list[str]:
    rows = [f"| {field.name} | {_code(field.type)} | {_code(field.default) or 'required'} | {_cell(field.comment)} |" for field in fields]
    return ["| field | type | default | |", "|---|---|---|---|", *rows]


def metrics_page() -> str:
    """docs/metrics.md."""
    lines = [
        "# Metrics",
        "",
        "Made by `make docs` from `weir/service/metrics.py`: change it there.",
        "",
        "A service serves them with `--metrics ADDRESS:PORT` at `/metrics`; `weir up --metrics 127.0.0.1:9600` gives the watcher that",
        "port, ipam, planner, dataplane and health the four behind it. Off by default; there is no TLS and no password, so keep it",
        "on an address that only Prometheus reaches. Beside these each process serves Prometheus' own `process_*` (memory, CPU, files).",
        "",
        "Values are looked up when scraped. Per Service there are five series, so 10,000 Services are 50,000; nothing is labelled by",
        "backend or client. A histogram's buckets end at " + ", ".join(f"{bound:g}" for bound in SECONDS) + " s.",
    ]
    for service in (each for each in (EVERY, *AUTHORS) if any(metric.service == each for metric in METRICS)):
        lines += ["", f"## {service}", "", "| name | type | labels | unit | |", "|---|---|---|---|---|"]
        for metric in METRICS:
            if metric.service == service:
                labels = ", ".join(metric.labels) or "-"
                lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.unit or '-'} | {_cell(metric.meaning)} |")
    return "\n".join(lines) + "\n" + ALARMS


ALARMS = """
## Alarms worth having

```
weir_following == 0                                                  for 1m   # a service is without the log
weir_log_bytes{stream="WEIR"} / weir_log_limit_bytes > 0.8                    # weir log limit gives it room
weir_services{state="unprogrammed"} > 0                              for 1m
weir_rejected > 0                                                             # weir sync says what and why
sum by (pool) (weir_pool_vips{state="free"}) == 0 or weir_claims_waiting > 0
rate(weir_dropped_packets_total{reason=~"conntrack_full|nat_ports_exhausted|no_route"}[5m]) > 0
rate(weir_probes_late_total[5m]) > 0                                          # more backends than this machine can probe in time
```
"""


def _code(text: str) -> str:
    return f"`{_cell(text)}`" if text else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


PAGES = {
    "configuration.md": configuration_page,
    "events.md": events_page,
    "metrics.md": metrics_page,
    "permissions.md": permissions_page,
    "../deploy/base/watcher-role.yaml": role_page,
    "../deploy/components/proxy/watcher-role.yaml": tls_role_page,
}

if __name__ == "__main__":
    for page, make in PAGES.items():
        (HERE / page).write_text(make())
