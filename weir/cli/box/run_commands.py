"""`weir up`, `join`, `lint` and `translate`: they run Weir on a machine, or say beforehand what it would make of its manifests."""

import contextlib
import os
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from weir.cli.amounts import LogAge, LogSize
from weir.cli.options import (
    As,
    Classes,
    Clusters,
    Credentials,
    DefaultClass,
    ExternalIps,
    Hook,
    HookOfAll,
    Instance,
    Interfaces,
    Liveness,
    Manifests,
    Metrics,
    ModeOfAll,
    ModeWord,
    Node,
    Output,
    Port,
    StatusHostname,
    TargetsOfAll,
    TargetsWord,
    Verbose,
    fail,
    hello_timing,
)

if TYPE_CHECKING:
    from services.watcher.settings import Settings
    from weir.where import Where

Work = Coroutine[Any, Any, None]


def up(
    interface: Annotated[list[str] | None, Interfaces] = None,
    manifests: Manifests = None,
    cluster: Clusters = None,
    load_balancer_class: Classes = None,
    default_class: DefaultClass = True,
    mode: ModeOfAll = ModeWord.default,
    targets: TargetsOfAll = TargetsWord.endpoints,
    liveness: Liveness = False,
    external_ips: ExternalIps = False,
    status_hostname: StatusHostname = "",
    instance: Instance = "weir",
    node: Node = os.uname().nodename,
    hook: HookOfAll = Hook.tc,
    nats_port: Port = 4222,
    log_size: LogSize = None,
    log_age: LogAge = None,
    metrics: Metrics = "",
    verbose: Verbose = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the manifests as weir lint does, and start nothing.")] = False,
    output: As = Output.table,
) -> None:
    """Run Weir on this machine.  The log, the services and the packet path, until Ctrl-C or SIGTERM; the kernel keeps forwarding after."""
    settings = _settings(load_balancer_class, default_class, mode, targets, liveness, external_ips)
    if dry_run:
        _lint(manifests, settings, output)
    if not interface:
        fail("Missing option '--interface' / '-i'.", 2)
    if not (manifests or cluster):
        fail("nothing to follow: expected --manifests or --cluster", 2)
    from weir.cli.box.limits import Limits
    from weir.cli.box.ready import serving
    from weir.cli.box.supervise import up
    from weir.where import Where, listen_address

    where, paths = Where(instance), [path.resolve() for path in manifests or ()]
    _readable(manifests or ())
    _startable(where, interface, nats_port)
    work = up(
        where,
        follows=[
            *(f"--cluster={word}" for word in cluster or ()),
            *watcher_options(settings),
            f"--status-hostname={status_hostname}",
            *map(str, paths),
        ],
        interfaces=interface,
        node=node,
        hook=hook,
        nats_port=nats_port,
        limits=Limits(log_size, log_age),
        metrics=listen_address(metrics) if metrics else None,
        secrets=_secrets(paths, cluster or ()),
    )
    _run(work, lambda: serving(instance), instance, verbose=verbose)


def join(
    url: Annotated[str, typer.Argument(metavar="URL", help="NATS of the log to follow.")],
    interface: Annotated[list[str], Interfaces],
    credentials: Credentials = None,
    instance: Instance = "weir",
    node: Node = os.uname().nodename,
    hook: HookOfAll = Hook.tc,
    metrics: Metrics = "",
    verbose: Verbose = False,
    timeout: Annotated[int, typer.Option(metavar="SECONDS", min=0, help="How long to wait for the log, the first time.")] = 60,
    hello: Annotated[
        str, typer.Option(metavar="MSxN", help="Say hello to other LB nodes each MS; N missed, and they take over.", callback=hello_timing)
    ] = "100x3",
) -> None:
    """Forward on this machine by the log of a cluster, until Ctrl-C or SIGTERM; the kernel keeps forwarding after.

    Attaches nothing before it has reached the log.  Exit code 2: the log does not answer, or this node has no keys.
    """
    from weir.cli.box.join import join
    from weir.cli.box.ready import forwarding
    from weir.where import Where, listen_address

    where = Where(instance)
    _startable(where, interface, None)
    counted = listen_address(metrics) if metrics else None
    given = partial(join, interfaces=interface, node=node, hook=hook, metrics=counted)
    work = given(where, url, credentials, timeout_s=timeout, hello=hello)
    _run(work, lambda: forwarding(instance, url), instance, verbose=verbose)


def lint(
    manifests: Manifests = None,
    load_balancer_class: Classes = None,
    default_class: DefaultClass = True,
    mode: ModeOfAll = ModeWord.default,
    targets: TargetsOfAll = TargetsWord.endpoints,
    liveness: Liveness = False,
    external_ips: ExternalIps = False,
    output: As = Output.table,
) -> NoReturn:
    """Check manifests before they are applied.  Offline.  Exit code 0: no findings, 1: findings, 2: a path cannot be read."""
    _lint(manifests, _settings(load_balancer_class, default_class, mode, targets, liveness, external_ips), output)


class Translation(StrEnum):
    """What manifests are translated to."""

    plan = "plan"
    envoy = "envoy"


def translate(
    manifests: Manifests = None,
    to: Annotated[Translation, typer.Option("--to", help="plan, or envoy: the resources of the proxy.")] = Translation.plan,
    load_balancer_class: Classes = None,
    default_class: DefaultClass = True,
    mode: ModeOfAll = ModeWord.default,
    targets: TargetsOfAll = TargetsWord.endpoints,
    liveness: Liveness = False,
    external_ips: ExternalIps = False,
    output: As = Output.yaml,
) -> NoReturn:
    """Show what manifests come to, without a cluster or a machine: the plan, or the proxy's resources.  Exit code 2: unreadable path."""
    from weir.cli.translate import translate

    if not manifests:
        fail("expected --manifests", 2)
    settings = _settings(load_balancer_class, default_class, mode, targets, liveness, external_ips)
    raise typer.Exit(translate(manifests, settings, to, output))


def _lint(manifests: list[Path] | None, settings: "Settings", output: Output) -> NoReturn:
    from weir.cli.lint import lint

    if not manifests:
        fail("expected --manifests", 2)
    raise typer.Exit(lint(manifests, settings, output))


def _settings(
    classes: Sequence[str] | None, default_class: bool, mode: ModeWord, targets: TargetsWord, liveness: bool, external_ips: bool
) -> "Settings":
    from services.watcher.settings import ALIASES, OURS, Settings

    return Settings((OURS, *(classes or ALIASES)), default_class, mode.value, targets.value, liveness, external_ips)


def watcher_options(settings: "Settings") -> list[str]:
    """How the watcher is given `settings`."""
    flags = (
        ("--no-default-class", not settings.default_class),
        ("--liveness", settings.liveness),
        ("--external-ips", settings.external_ips),
    )
    classes = [f"--class={word}" for word in settings.classes[1:]]
    return [*classes, *(flag for flag, given in flags if given), f"--mode={settings.mode}", f"--targets={settings.targets}"]


def _secrets(paths: Sequence[Path], clusters: Sequence[str]) -> list[str]:
    """Where the agent reads TLS Secrets: the manifests, and each cluster its own."""
    words = [str(path) for path in paths]
    for name, _, kubeconfig in (cluster.partition("=") for cluster in clusters):
        words.append(f"kubernetes:{name}={Path(kubeconfig).expanduser().resolve()}" if kubeconfig else f"kubernetes:{name}")
    return words


def _readable(manifests: Sequence[Path]) -> None:
    """Ends the command where the manifests cannot be followed from the start."""
    from services.watcher.sources.manifests import not_read, unreadable

    paths = [path.absolute() for path in manifests]
    if found := list(unreadable(paths)):
        fail("; ".join(found), 2)
    for note in not_read(paths):
        typer.echo(f"weir: note: {note}", err=True)


def _startable(where: "Where", interfaces: Sequence[str], nats_port: int | None) -> None:
    """Ends the command where this machine cannot run it, as `weir check` says; what it runs in spite of is said too."""
    from weir.cli.box.check import hindrances, risks

    if found := hindrances(where, interfaces, nats_port):
        fail("; ".join(found))
    for risk in risks(where):
        typer.echo(f"weir: warning: {risk}", err=True)


def _run(work: Work, ready: Callable[[], Awaitable[str]], instance: str, *, verbose: bool) -> None:
    """Until it ends or is asked to.  At a terminal, say when it is `ready`, and in the end what still holds."""
    import asyncio

    from weir.bus.reader import LogError
    from weir.cli.box.join import NoKeysError
    from weir.cli.box.ready import announce, quiet_at_a_terminal, stopped
    from weir.cli.box.supervise import UpError
    from weir.service.logs import configure_logging

    attended = quiet_at_a_terminal(verbose=verbose)
    configure_logging()
    try:
        asyncio.run(_until_terminated(work, beside=announce(ready) if attended else None))
    except (NoKeysError, LogError) as error:
        fail(str(error), 2)
    except (UpError, OSError) as error:
        fail(str(error))
    if attended:
        stopped(instance)


async def _until_terminated(work: Work, beside: Work | None = None) -> None:
    import asyncio
    import signal

    task = asyncio.ensure_future(work)
    signals = (signal.SIGTERM, signal.SIGINT)
    loop = asyncio.get_running_loop()

    def end() -> None:
        for number in signals:  # once: a second one must not disturb the orderly end, which has its own limit
            loop.add_signal_handler(number, lambda: None)
        task.cancel()

    for number in signals:
        loop.add_signal_handler(number, end)
    other = asyncio.ensure_future(beside) if beside else None
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await task
    finally:
        if other:
            other.cancel()
