"""Where the demo plays: a network, Weir in its load balancer, and the screen, on which every command shown is really run."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from weir.cli.output import paint
from weir.demo.network import Network, undisturbed, wait_until
from weir.view.processes import running
from weir.where import Where

EXAMPLE = Path(__file__).parents[2] / "examples" / "shop"
PATIENCE_S = 90

_WEIR = 'weir() { "$WEIR_PYTHON" -m weir.cli "$@"; }\n'  # the commands shown must work before anything is on PATH


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


class Stage:
    """One performance.  `failures`: what was claimed and did not hold."""

    def __init__(self, network: Network, folder: Path, *, fast: bool) -> None:
        self.network = network
        self.where = Where(network.name)
        self.folder = folder
        self.failures: list[str] = []
        self._fast = fast or not sys.stdout.isatty()
        self._started_s = time.monotonic()

    # ── the screen ─────────────────────────────────────────────────────────────────────────────────────────────────

    def title(self, text: str) -> None:
        """Begins a step."""
        if not self._fast:
            time.sleep(1)  # for the reader
        print(f"\n{paint(f'── {text} ', 'green')}{paint(f'({time.monotonic() - self._started_s:.0f} s)', 'dim')}", flush=True)

    def say(self, text: str) -> None:
        print(textwrap.fill(text, 120), flush=True)

    def prompt(self, place: str, command: str) -> None:
        """Shows a command that is about to be run."""
        print(paint(f"{place}$ ", "dim") + command, flush=True)

    def check(self, claim: str, *, holds: bool) -> None:
        """Shows a claim and whether it held."""
        print(f"{paint('✓', 'green') if holds else paint('✗ NOT:', 'red')} {claim}", flush=True)
        if not holds:
            self.failures.append(claim)

    # ── commands ───────────────────────────────────────────────────────────────────────────────────────────────────

    def run(self, place: str, command: str) -> str:
        """Shows a shell command, runs it, shows what it prints and returns that.  Raises DemoError where it fails."""
        self.prompt(place, command)
        done = self._shell(place, command)
        print(textwrap.indent(done.stdout + done.stderr, "  "), end="", flush=True)
        if done.returncode:
            raise DemoError(f"`{command}` ended with code {done.returncode}")
        return done.stdout

    def ask(self, command: str) -> Any:
        """The rows that a `weir` command prints as JSON, unseen; a single answer is a list of one.  Raises DemoError."""
        done = self._shell("lb", f"weir {command} -o json")
        try:
            answer = json.loads(done.stdout)
            return [answer] if isinstance(answer, dict) else answer
        except ValueError as error:
            raise DemoError(f"`weir {command} -o json` ended with code {done.returncode}: {done.stderr.strip() or done.stdout}") from error

    def wait_for(self, what: str, seconds: float, command: str, *, holds: Any) -> float:
        """Asks `command` until what it prints satisfies `holds`; returns how long it took.  Raises DemoError after `seconds`."""
        begun_s = time.monotonic()
        if not wait_until(lambda: bool(holds(self.ask(command))), seconds):
            raise DemoError(f"{what}: not within {seconds:.0f} s")
        return time.monotonic() - begun_s

    # ── Weir ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def up(self, options: str = "") -> None:
        """Starts `weir up` and returns once its services run.  Raises DemoError where it gives up."""
        command = f"weir up -f shop/ --interface front --interface back {options}".rstrip()
        self.prompt("lb", f"{command} &")
        self.say(paint("  it loads the packet path first", "dim"))
        with self._log() as log:
            up = self.network.popen("lb", "bash", "-c", _WEIR + command, cwd=self.folder, env=self._env(), stdout=log, stderr=log)
        wait_until(lambda: "watcher" in self.pids() or up.poll() is not None, PATIENCE_S)
        if up.poll() is not None:
            raise DemoError(f"`{command}` ended with code {up.returncode}")

    def pids(self) -> dict[str, int]:
        """Weir's processes by name, those that live."""
        return {name: pid for name, pid in running(self.where).items() if Path(f"/proc/{pid}").exists()}

    def complaints(self) -> str:
        """The last words of `weir up`."""
        with self._log() as log:
            log.seek(0)
            return "".join(log.readlines()[-12:])

    def _shell(self, place: str, command: str) -> subprocess.CompletedProcess[str]:
        try:
            return self.network.run(place, "bash", "-c", _WEIR + command, cwd=self.folder, env=self._env(), check=False, timeout=PATIENCE_S)
        except subprocess.TimeoutExpired as error:
            raise DemoError(f"`{command}` has not ended after {PATIENCE_S} s") from error

    def _env(self) -> dict[str, str]:
        proxies = {name: "" for name in os.environ if name.lower().endswith("_proxy")}
        return {**os.environ, **proxies, "WEIR_INSTANCE": self.where.instance, "WEIR_PYTHON": sys.executable, "NO_COLOR": "1"}

    def _log(self) -> IO[str]:
        return (self.folder / "up.log").open("a+")


@contextmanager
def stage(name: str, *, fast: bool) -> Iterator[Stage]:
    """A network with its servers running and a copy of the example, on an instance of that name; all gone at the end."""
    clear(name)
    network = Network(name)
    try:
        with network:
            network.start()
            shutil.copytree(EXAMPLE, _folder(name) / "shop")
            yield Stage(network, _folder(name), fast=fast)
    finally:
        if not network.kept:
            clear(name)


def clear(name: str) -> None:
    """Removes all that a demo of this name left: processes, namespaces, pins, files."""
    where = Where(name)
    with undisturbed():
        Network(name).destroy()
        subprocess.run([sys.executable, "-m", "weir.cli", "down", "--instance", name], capture_output=True, check=False)
        for path in (where.pins, where.state, where.run, _folder(name)):
            shutil.rmtree(path, ignore_errors=True)


def left(name: str) -> list[str]:
    """What of a demo of this name is still there."""
    where = Where(name)
    spaces = Path("/run/netns").glob(f"{name}-*")
    return [str(path) for path in (*spaces, where.pins, where.state, where.run, _folder(name)) if path.exists()]


def _folder(name: str) -> Path:
    return Path("/run") / f"{name}.demo"
