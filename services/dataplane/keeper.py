"""Keeps one daemon running on a machine without a container runtime: Envoy, those of FRR.  It is not a part of `weir up`, and outlives it.

It needs no other process of Weir and no log: it starts the daemon from the files of the last plan.  The daemon in turn needs no keeper: a
new keeper finds the one that runs, and waits for its end.  SIGTERM ends both.
"""

import argparse
import contextlib
import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Final, NamedTuple

from weir.where import write_file

KEEPERS: Final = "keepers"  # in the folder of an installation's run
_WAIT_LEAST_S, _WAIT_MOST_S = 0.02, 1.0
_WELL_AFTER_S = 5.0
_STOP_S = 10.0
_LOOK_S = 10.0
_LOG_MOST_BYTES = 64 << 20


class Kept(NamedTuple):
    """A daemon.   needs: a file that it is started with, and not without; its command names it.   log: where its own messages go."""

    name: str
    command: tuple[str, ...]
    needs: Path
    log: Path


def confined(capabilities: str, user: str = "") -> tuple[str, ...]:
    """The command before a daemon's own that leaves it these capabilities and no others ("net_bind_service,sys_admin"), for good.

    user: whom it runs as, with the groups of that user; "" for root.
    """
    kept = ",".join(["-all", *(f"+{each}" for each in capabilities.split(","))])
    other = (f"--reuid={user}", f"--regid={user}", "--init-groups", f"--ambient-caps={kept}") if user else ()
    return "setpriv", *other, f"--inh-caps={kept if user else '-all'}", f"--bounding-set={kept}", "--no-new-privs"


class Keeper:
    """run: where its lock and the daemon's pid are."""

    def __init__(self, run: Path, kept: Kept) -> None:
        self._pid_file, self._kept = run / f"{kept.name}.pid", kept
        self._ending, self._ending_s = False, 0.0

    def keep(self) -> None:
        """Until SIGTERM."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        wait_s = _WAIT_LEAST_S
        while not self._ending:
            begun_s = time.monotonic()
            pid = self.running() or self._start()
            if pid:
                self._await_end(pid)
            wait_s = _WAIT_LEAST_S if time.monotonic() - begun_s > _WELL_AFTER_S else min(wait_s * 2, _WAIT_MOST_S)
            if not self._ending:
                time.sleep(wait_s)

    def running(self) -> int:
        """The pid of the daemon that runs from our file; 0 where none does."""
        try:
            pid = int(self._pid_file.read_text())
            return pid if str(self._kept.needs).encode() in Path(f"/proc/{pid}/cmdline").read_bytes() else 0
        except (OSError, ValueError):
            return 0

    def _start(self) -> int:
        kept = self._kept
        if not kept.needs.exists():  # the agent had nothing for it yet
            return 0
        with open(kept.log, "ab") as log:
            self._process = subprocess.Popen(kept.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        write_file(self._pid_file, str(self._process.pid).encode())
        return self._process.pid

    def _await_end(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            try:
                poll = select.poll()
                poll.register(descriptor, select.POLLIN)
                while not poll.poll(int(_LOOK_S * 1000)):
                    limit(self._kept.log)
                    if self._ending and time.monotonic() - self._ending_s > _STOP_S:
                        signal.pidfd_send_signal(descriptor, signal.SIGKILL)  # it did not follow SIGTERM in time
            finally:
                os.close(descriptor)
        with contextlib.suppress(ChildProcessError):  # another keeper's child
            os.waitpid(pid, 0)

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        self._ending, self._ending_s = True, time.monotonic()
        if pid := self.running():
            os.kill(pid, signal.SIGTERM)


def limit(log: Path, most_bytes: int = _LOG_MOST_BYTES) -> None:
    """Move what a log of more than that has to LOG.1.  The daemon appends, so it goes on in the emptied file."""
    with contextlib.suppress(OSError):  # a full disk: emptying it is what helps
        if log.stat().st_size > most_bytes:
            try:
                shutil.copyfile(log, log.with_name(f"{log.name}.1"))
            finally:
                os.truncate(log, 0)


def start(run: Path, kept: Kept) -> None:
    """Start a keeper that outlives this process; where one runs already, it ends at once."""
    run.mkdir(parents=True, exist_ok=True)
    quiet = subprocess.DEVNULL
    options = ["--run", str(run), "--name", kept.name, "--needs", str(kept.needs), "--log", str(kept.log)]
    command = [sys.executable, "-m", "services.dataplane.keeper", *options, "--", *kept.command]
    subprocess.Popen(command, start_new_session=True, stdin=quiet, stdout=quiet, stderr=quiet)


def stop(run: Path) -> list[str]:
    """End every keeper and its daemon; return the names of those that ran."""
    return [lock.stem for lock in sorted(run.glob("*.lock")) if _stop(lock)]


def _stop(lock: Path) -> bool:
    try:
        pid = int(lock.read_text())
        descriptor = os.pidfd_open(pid)
    except (OSError, ValueError):
        return False
    try:
        if b"services.dataplane.keeper" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            return False
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(int(_STOP_S * 2000)))
    finally:
        os.close(descriptor)


def main() -> None:
    """One keeper for a daemon: a second one ends at once."""
    parser = argparse.ArgumentParser(description="Keep a daemon running from the files of the last plan.")
    parser.add_argument("--run", type=Path, required=True, help="folder of the lock and of the daemon's pid")
    parser.add_argument("--name", required=True, help="of the daemon")
    parser.add_argument("--needs", type=Path, required=True, help="its configuration, which its command names")
    parser.add_argument("--log", type=Path, required=True, help="where its own messages go")
    parser.add_argument("command", nargs="+", help="the daemon's command")
    given = parser.parse_args()
    lock = os.open(given.run / f"{given.name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.exit(0)
    os.truncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    Keeper(given.run, Kept(given.name, tuple(given.command), given.needs, given.log)).keep()


if __name__ == "__main__":
    main()
