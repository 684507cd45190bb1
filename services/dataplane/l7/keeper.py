"""Keeps one Envoy running on a machine without a container runtime.  It is not a part of `weir up`, and outlives it.

It needs no other process of Weir and no log: it starts Envoy from the files of the last plan.  Envoy in turn needs no keeper: a new
keeper finds the Envoy that runs, and waits for its end.  Started with the instance's folders; SIGTERM ends both.
"""

import argparse
import contextlib
import ctypes
import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from services.dataplane.l7.judge import envoy_binary

_WAIT_LEAST_S, _WAIT_MOST_S = 0.02, 1.0
_WELL_AFTER_S = 5.0
_STOP_S = 10.0
_LOOK_S = 10.0
_LOG_MOST_BYTES = 64 << 20
_PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 23, 24, 38
_CAP_NET_BIND_SERVICE = 10


class Keeper:
    """run: where its lock and Envoy's pid are.   bootstrap: what Envoy is started with."""

    def __init__(self, run: Path, bootstrap: Path, log: Path) -> None:
        self._pid_file, self._bootstrap, self._log = run / "envoy.pid", bootstrap, log
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
        """The pid of the Envoy that runs from our files; 0 where none does."""
        try:
            pid = int(self._pid_file.read_text())
            return pid if str(self._bootstrap).encode() in Path(f"/proc/{pid}/cmdline").read_bytes() else 0
        except (OSError, ValueError):
            return 0

    def _start(self) -> int:
        if not self._bootstrap.exists():  # the agent has not started on this machine yet
            return 0
        with open(self._log, "ab") as log:
            command = [envoy_binary(), "-c", str(self._bootstrap), "--disable-hot-restart", "-l", "warning"]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_confine)
        self._pid_file.write_text(str(self._process.pid))
        return self._process.pid

    def _await_end(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            try:
                poll = select.poll()
                poll.register(descriptor, select.POLLIN)
                while not poll.poll(int(_LOOK_S * 1000)):
                    limit(self._log)
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
    """Move what a log of more than that has to LOG.1.  Envoy appends, so it goes on in the emptied file."""
    with contextlib.suppress(OSError):  # a full disk: emptying it is what helps
        if log.stat().st_size > most_bytes:
            try:
                shutil.copyfile(log, log.with_name(f"{log.name}.1"))
            finally:
                os.truncate(log, 0)


def start(options: Sequence[str]) -> None:
    """Start a keeper that outlives this process; where one runs already, it ends at once."""
    Path(options[1]).mkdir(parents=True, exist_ok=True)
    quiet = subprocess.DEVNULL
    command = [sys.executable, "-m", "services.dataplane.l7.keeper", *options]
    subprocess.Popen(command, start_new_session=True, stdin=quiet, stdout=quiet, stderr=quiet)


def stop(run: Path) -> bool:
    """End the keeper and its Envoy, if they run; returns whether they did."""
    try:
        pid = int((run / "keeper.lock").read_text())
        descriptor = os.pidfd_open(pid)
    except (OSError, ValueError):
        return False
    try:
        if b"services.dataplane.l7.keeper" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            return False
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(int(_STOP_S * 2000)))
    finally:
        os.close(descriptor)


def _confine() -> None:
    """In the child, before Envoy: it can bind low ports, and nothing else that root may."""
    os.setsid()
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for number in range(64):
        if number != _CAP_NET_BIND_SERVICE and prctl(_PR_CAPBSET_READ, number) == 1 and prctl(_PR_CAPBSET_DROP, number):
            raise OSError(ctypes.get_errno(), f"capability {number} cannot be dropped")
    if prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")


def main() -> None:
    """One keeper for a folder: a second one ends at once."""
    parser = argparse.ArgumentParser(description="Keep Envoy running from the files of the last plan.")
    parser.add_argument("--run", type=Path, required=True, help="folder of the lock and of Envoy's pid")
    parser.add_argument("--bootstrap", type=Path, required=True, help="Envoy's configuration")
    parser.add_argument("--log", type=Path, required=True, help="where Envoy's own messages go")
    given = parser.parse_args()
    lock = os.open(given.run / "keeper.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.exit(0)
    os.truncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    Keeper(given.run, given.bootstrap, given.log).keep()


if __name__ == "__main__":
    main()
