"""The command line of the watcher: `--show-config` prints it.  @FILE stands for the options in FILE, a key of a ConfigMap in a cluster."""

import argparse
import re
import shlex
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Final

from services.watcher.settings import ALIASES, OURS, Settings
from weir.model import MODES, TARGETS, Mode, Targets
from weir.service.logs import configure_logging
from weir.service.settings import Option, Replicated, parser_of, read

_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")  # it stands before namespaces and names


def _one_of(words: Collection[str]) -> Callable[[str], str]:
    def chosen(word: str) -> str:
        if word not in words:
            raise ValueError(f"{word!r}: expected one of {', '.join(words)}")
        return word

    return chosen


class Options(Replicated, frozen=True, kw_only=True):
    """Settings of the watcher."""

    path: Annotated[tuple[str, ...], Option("a file or folder of manifests", "path")] = ()
    cluster: Annotated[
        tuple[str, ...],
        Option("Kubernetes cluster to follow; repeatable; without KUBECONFIG this pod's own", metavar="NAME[=KUBECONFIG]"),
    ] = ()
    classes: Annotated[
        tuple[str, ...],
        Option(
            f"loadBalancerClass and controllerName to serve beside {OURS}; repeatable (default: {', '.join(ALIASES)})", "--class", "NAME"
        ),
    ] = ()
    default_class: Annotated[bool, Option("serve Services without a loadBalancerClass")] = True
    mode: Annotated[Mode, Option("lbmode of Services without one", "", f"{{{','.join(MODES)}}}", _one_of(MODES))] = "default"
    targets: Annotated[Targets, Option("backends of Services that do not choose", "", f"{{{','.join(TARGETS)}}}", _one_of(TARGETS))] = (
        "endpoints"
    )
    liveness: Annotated[bool, Option("probe the backends of Services that do not choose")] = False
    external_ips: Annotated[bool, Option("allocate externalIPs of Services from pools")] = False
    tls: Annotated[bool, Option("follow Secrets and ConfigMaps, for the certificates that Gateways name")] = True
    status_hostname: Annotated[str, Option("publish VIPs as hostnames PREFIX-ADDRESS", metavar="PREFIX")] = ""

    @property
    def clusters(self) -> dict[str, Path | None]:
        """Name -> kubeconfig; None for the cluster that this runs in."""
        words = [word.partition("=") for word in self.cluster]
        return {name: Path(kubeconfig) if kubeconfig else None for name, _, kubeconfig in words}

    @property
    def settings(self) -> Settings:
        """How objects are read."""
        return Settings(
            classes=(OURS, *(self.classes or ALIASES)),
            default_class=self.default_class,
            mode=self.mode,
            targets=self.targets,
            liveness=self.liveness,
            external_ips=self.external_ips,
        )


def read_options(words: Sequence[str] | None = None) -> Options:
    """Read the command line and set up logging.  Ends the process where it names nothing to follow."""
    configure_logging()
    parser = parser_of("watcher", Options)
    parser.fromfile_prefix_chars = "@"
    parser.convert_arg_line_to_args = partial(_words, parser)  # type: ignore[method-assign]
    parser.epilog = "@FILE stands for the options in FILE, written as in a shell, on any number of lines; # begins a comment"
    options = read(parser, Options, words)
    if not (options.path or options.cluster):
        parser.error("nothing to follow: expected a path, or --cluster")
    names = [word.partition("=")[0] for word in options.cluster]
    if wrong := [name for name in names if not _NAME.fullmatch(name) or names.count(name) > 1]:
        parser.error(f"--cluster {wrong[0]}: expected a unique name of lower-case letters, digits and dashes")
    return options


def _words(parser: argparse.ArgumentParser, line: str) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError as error:
        parser.error(f"{line!r}: {error}")
