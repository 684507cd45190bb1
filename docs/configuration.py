"""docs/configuration.md: every setting of every service, from its typed settings."""

from collections.abc import Iterator
from typing import Final, Literal, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo, fields

from services.dataplane.hello.settings import Settings as HelloSettings
from services.dataplane.settings import Settings
from services.watcher.options import Options
from weir.service.settings import Common, Option, Replicated, flag_of

SETTINGS: Final[dict[str, type[Common]]] = {
    "dataplane": Settings,
    "dataplane.hello": HelloSettings,
    "health": Common,
    "ipam": Replicated,
    "planner": Replicated,
    "watcher": Options,
}

HEAD = """# Configuration

Made by `make docs` from the settings of each service: change it there.

`weir up` and `weir join` pass these options on; in a cluster they are in the ConfigMap `weir-settings` ([Kubernetes](kubernetes.md)).
`python -m services.NAME --show-config` prints every setting as JSON: its value, and the option or "default" that it comes from.
"""


def configuration_page() -> str:
    """Return docs/configuration.md."""
    return "\n".join([HEAD, *(f"## {name}\n\n{_table(kind)}" for name, kind in SETTINGS.items())])


def _table(kind: type[Common]) -> str:
    rows = "\n".join(_rows(kind))
    return f"| option | values | default | |\n|---|---|---|---|\n{rows}\n"


def _rows(kind: type[Common]) -> Iterator[str]:
    for field in fields(kind):
        option: Option = get_args(field.type)[1]
        yield f"| `{flag_of(field)}` | {_values(field)} | {_default(field)} | {option.help} |"


def _values(field: FieldInfo) -> str:
    type_, option = get_args(field.type)
    if type_ is bool:
        return "flag"
    if get_origin(type_) is Literal:
        return ", ".join(f"`{word}`" for word in get_args(type_))
    words = (option.metavar or field.name.upper()).strip("{}").replace(",", "`, `") if option.metavar else field.name.upper()
    return f"`{words}`"


def _default(field: FieldInfo) -> str:
    if field.default_factory is not msgspec.NODEFAULT:
        return "this machine's"
    if isinstance(field.default, bool):
        return "on" if field.default else "-"
    if field.default in (None, (), ""):
        return "-"
    return f"`{field.default}`"
