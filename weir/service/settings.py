"""Typed settings: one frozen Struct per service, whose fields are the options of its command line.

    class Settings(Common, frozen=True, kw_only=True):
        hook: Annotated[Hook, Option("hook of all interfaces")] = "tc"      # --hook {tc,xdp}

Name, type, default and help stand in one place.  A bool is a flag (`--x`, `--no-x`), a Literal a choice, a tuple may be repeated.
`--show-config` prints every setting as JSON: its value, and the option or "default" that it comes from.
"""

import argparse
import os
from collections.abc import Callable, Collection, Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo, fields

from weir.bus.lease import Lease
from weir.service.logs import configure_logging
from weir.where import listen_address, node_name

_S = TypeVar("_S", bound="Common")


class Option(NamedTuple):
    """How a field is given on the command line.

    flag: `--` and the field's name when empty; without dashes it is positional.
    read: makes the value, or for a tuple a list of values, from one word; raises ValueError.
    """

    help: str
    flag: str = ""
    metavar: str | None = None
    read: Callable[[str], object] = str


class Common(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of every service."""

    instance: Annotated[str, Option("name of this installation")] = "weir"
    metrics: Annotated[tuple[str, int] | None, Option("serve metrics here", "", "ADDRESS:PORT", listen_address)] = None
    node: Annotated[str, Option("name of this node", read=node_name)] = msgspec.field(
        default_factory=lambda: node_name(os.uname().nodename)
    )


class Replicated(Common, frozen=True, kw_only=True):
    """The settings of a service that may run in several replicas."""

    replicated: Annotated[bool, Option("one of several replicas: act only while holding the lease")] = False

    def lease(self, service: str) -> Lease | None:
        """The lease that elects the leader; None where there is one replica."""
        return Lease(service) if self.replicated else None


def configured(service: str, kind: type[_S]) -> _S:
    """Read the settings of `service` from the command line and set up logging: the first thing a service does."""
    configure_logging()
    return read(parser_of(service, kind), kind)


def parser_of(service: str, kind: type[Common]) -> argparse.ArgumentParser:
    """Make the parser of a service's command line.  Defaults stay in `kind`: the parser yields only what was given."""
    parser = argparse.ArgumentParser(prog=f"weir-{service}", allow_abbrev=False, argument_default=argparse.SUPPRESS)
    for field in fields(kind):
        _add(parser, field)
    parser.add_argument("--show-config", action="store_true", help="print all settings as JSON, and exit")
    return parser


def read(parser: argparse.ArgumentParser, kind: type[_S], words: Sequence[str] | None = None) -> _S:
    """Parse `words` (default: of this process).  Ends the process for --help, --show-config and mistakes."""
    given = vars(parser.parse_args(words))
    show = given.pop("show_config", False)
    settings = msgspec.convert(given, kind)
    if show:
        print(shown(settings, given.keys()).decode())
        parser.exit()
    return settings


def shown(settings: Common, given: Collection[str]) -> bytes:
    """All settings as JSON.   given: names of those that were on the command line."""
    table = {
        field.name: {"value": getattr(settings, field.name), "from": flag_of(field) if field.name in given else "default"}
        for field in fields(settings)
    }
    return msgspec.json.format(msgspec.json.encode(table))


def _add(parser: argparse.ArgumentParser, field: FieldInfo) -> None:
    type_, option = get_args(field.type)
    flag, kind = flag_of(field), get_origin(type_)
    default = f" (default: {field.default})" if field.default and field.default is not msgspec.NODEFAULT else ""
    more: dict[str, Any] = {"help": option.help + default, "metavar": option.metavar}
    if type_ is bool:
        del more["metavar"]
        more["action"] = argparse.BooleanOptionalAction
    elif kind is Literal:
        more["choices"] = get_args(type_)
    elif kind is tuple and not flag.startswith("-"):
        more |= {"nargs": "*", "type": _reader(option)}
    elif kind is tuple:
        more |= {"action": "append" if option.read is str else "extend", "type": _reader(option)}
    else:
        more["type"] = _reader(option)
    if flag.startswith("-"):
        more["dest"] = field.name
    parser.add_argument(flag, **more)


def _reader(option: Option) -> Callable[[str], object]:
    """Pass on the message of a ValueError, which argparse would drop."""

    def read(word: str) -> object:
        try:
            return option.read(word)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read


def flag_of(field: FieldInfo) -> str:
    """Return the option of a setting: `--hook`."""
    option: Option = get_args(field.type)[1]
    return option.flag or "--" + field.name.replace("_", "-")
