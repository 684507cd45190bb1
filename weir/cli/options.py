"""Options shared by commands, and how a command fails."""

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
import typer.core

from weir.where import listen_address, node_name


class Output(StrEnum):
    """How to print."""

    table = "table"
    wide = "wide"
    json = "json"
    jsonl = "jsonl"
    yaml = "yaml"


class Hook(StrEnum):
    """Where packets enter the packet path."""

    auto = "auto"
    tc = "tc"
    xdp = "xdp"
    xdp_generic = "xdp-generic"


class ModeWord(StrEnum):
    """weir.model.Mode, as an option."""

    default = "default"
    onearm = "onearm"
    fullnat = "fullnat"


class TargetsWord(StrEnum):
    """weir.model.Targets, as an option."""

    endpoints = "endpoints"
    nodes = "nodes"


def _name(text: str) -> str:
    """It becomes part of paths, and bpffs takes no dots."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", text):
        raise typer.BadParameter(f"got {text!r}, expected at most 63 letters, digits, - and _")
    return text


def hello_timing(text: str) -> str:
    """Check `100x3`: ms between hellos, and how many may be missed."""
    interval_ms, x, missed = text.partition("x")
    if not (x and interval_ms.isdecimal() and missed.isdecimal() and 10 <= int(interval_ms) <= 10_000 and 2 <= int(missed) <= 50):
        raise typer.BadParameter(f"got {text!r}, expected MSxN, as in 100x3: 10 to 10000 ms, 2 to 50 hellos")
    return text


def _listen_address(text: str) -> str:
    try:
        listen_address(text or "localhost:1")
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return text


Instance = Annotated[
    str, typer.Option("--instance", envvar="WEIR_INSTANCE", metavar="NAME", callback=_name, help="Name of this installation.")
]
Node = Annotated[str, typer.Option("--node", metavar="NAME", callback=node_name, help="Name of this node, in lower case as in Kubernetes.")]
As = Annotated[Output, typer.Option("--output", "-o", metavar="FORM", help="wide, json, jsonl or yaml.", show_default=False)]
HookOfAll = Annotated[Hook, typer.Option("--hook", help="tc for virtual devices, xdp for NICs with native support.")]
Moment = Annotated[
    str,
    typer.Option("--at", metavar="MOMENT", help="A sequence, a UTC time (14:03, 2026-11-24T14:03) or an age (15m).", show_default=False),
]
Credentials = Annotated[
    Path | None,
    typer.Option("--credentials", metavar="FOLDER", exists=True, file_okay=False, help="Created by weir credentials.", show_default=False),
]
Interfaces = typer.Option(
    "--interface", "-i", metavar="NAME", help="Interface that clients or backends are behind, NAME or NAME=HOOK; repeatable."
)
Manifests = Annotated[
    list[Path] | None,
    typer.Option("--manifests", "-f", metavar="PATH", help="File or folder of manifests; repeatable.", show_default=False),
]
Clusters = Annotated[
    list[str] | None,
    typer.Option("--cluster", metavar="NAME[=KUBECONFIG]", help="Kubernetes cluster to follow; repeatable.", show_default=False),
]
Classes = Annotated[
    list[str] | None,
    typer.Option("--class", metavar="NAME", help="loadBalancerClass to serve; repeatable.", show_default="weir.dev/weir, loxilb.io/loxilb"),
]
DefaultClass = Annotated[bool, typer.Option(help="Whether to serve Services without a loadBalancerClass.")]
ModeOfAll = Annotated[ModeWord, typer.Option(help="lbmode of Services that set none; onearm and fullnat use source NAT for the way back.")]
TargetsOfAll = Annotated[TargetsWord, typer.Option(help="Backends of Services that do not choose: endpoints, or node ports.")]
Liveness = Annotated[bool, typer.Option("--liveness", help="Probe the backends of Services that do not choose.")]
ExternalIps = Annotated[
    bool, typer.Option("--external-ips", help="Allocate externalIPs of Services from pools; otherwise they are ignored (CVE-2020-8554).")
]
StatusHostname = Annotated[
    str, typer.Option(metavar="PREFIX", help="Publish VIPs as hostnames PREFIX-ADDRESS, as kube-loxilb does.", show_default=False)
]
Port = Annotated[int, typer.Option(metavar="PORT", min=1, max=65535, help="Port of the embedded NATS, on 127.0.0.1.")]
Metrics = Annotated[
    str,
    typer.Option(
        metavar="ADDRESS:PORT", callback=_listen_address, help="Serve metrics: the watcher on this port, the others on the next four."
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="At a terminal: log every event, not warnings only.")]
Recorded = Annotated[
    Path | None,
    typer.Option(
        "--from",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        allow_dash=True,
        help='Read a dump file instead of the live log; gzipped too; "-": standard input.',
        show_default=False,
    ),
]


class MomentArguments(typer.core.TyperCommand):
    """A command whose arguments are moments: `-15m` is an age, not an option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse ages with a sign as arguments."""
        return super().parse_args(ctx, [re.sub(r"^-(?=\d+[smhd])", "", word) for word in args])


WAITS = ("all", "programmed", "serving")


class WithWait(typer.core.TyperCommand):
    """A command whose --wait has an optional value; the default is all."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse a bare --wait as --wait=all."""
        bare = [at for at, word in enumerate(args) if word == "--wait" and args[at + 1 : at + 2] not in ([value] for value in WAITS)]
        return super().parse_args(ctx, ["--wait=all" if at in bare else word for at, word in enumerate(args)])


def example(*lines: str) -> str:
    """Format the examples at the end of a command's help."""
    return "Examples:\n\n" + "\n\n".join(f"  {line}" for line in lines)


def of_file(error: OSError) -> str:
    """Which file, if any, and why."""
    words = error.strerror or str(error)
    return f"{error.filename}: {words}" if error.filename else words


def fail(message: str, code: int = 1) -> NoReturn:
    typer.echo(f"weir: {message}", err=True)
    raise typer.Exit(code)
