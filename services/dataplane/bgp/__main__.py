"""FRR's daemons on this machine, which live and die together; a keeper starts them again.

One that is started alone finds the others without what they had told each other: with FRR 8.4 no BFD session comes back where zebra and
bfdd end shortly after bgpd.  Started with the folder of their sockets, and zebra's configuration, beside which those of the others are.
"""

import argparse
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from services.dataplane.bgp.places import DAEMONS, command

_START_S, _STOP_S = 20.0, 5.0
_LOOK_S = 0.02
_REAL_TIME = 20  # SCHED_FIFO


def main() -> None:
    """Until one of them ends, or SIGTERM."""
    parser = argparse.ArgumentParser(description="Run FRR's daemons together.")
    parser.add_argument("--run", type=Path, required=True, help="folder of their sockets and pids")
    parser.add_argument("config", type=Path, help="zebra's configuration")
    given = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    _end([pid for daemon in DAEMONS if (pid := _left(given.run, given.config.parent, daemon))])
    pids: list[int] = []
    try:
        pids.append(_start(given.run, given.config.parent, "zebra"))
        _await_zebra(given.run / "zebra.vty", pids)
        pids += [_start(given.run, given.config.parent, daemon) for daemon in DAEMONS if daemon != "zebra"]
        _await_any(pids)
    finally:
        _end(pids)


def _start(run: Path, folder: Path, daemon: str) -> int:
    hasten = _hasten if daemon == "bfdd" else None  # its deadlines are short
    return subprocess.Popen(command(run, folder, daemon), stdin=subprocess.DEVNULL, preexec_fn=hasten).pid


def _await_zebra(path: Path, pids: Sequence[int]) -> None:
    """Until it takes commands, which is later than that the others find it: they would try again only after 10 s."""
    end_s = time.monotonic() + _START_S
    while time.monotonic() < end_s and not _ended(pids):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as tried:
            tried.connect(str(path))
            return
        time.sleep(_LOOK_S)
    sys.exit("zebra does not answer")


def _await_any(pids: Sequence[int]) -> None:
    descriptors = [os.pidfd_open(pid) for pid in pids]
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    poll.poll()


def _ended(pids: Sequence[int]) -> bool:
    return any(os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) for pid in pids)


def _left(run: Path, folder: Path, daemon: str) -> int:
    """The pid of a daemon that outlived whoever started it; 0 for none."""
    try:
        pid = int((run / f"{daemon}.pid").read_text())
        return pid if str(folder / f"{daemon}.conf").encode() in Path(f"/proc/{pid}/cmdline").read_bytes() else 0
    except (OSError, ValueError):
        return 0


def _end(pids: Sequence[int]) -> None:
    """By SIGTERM, upon which bgpd tells routers that it goes; by SIGKILL whoever has not ended then."""
    for number, patience_s in ((signal.SIGTERM, _STOP_S), (signal.SIGKILL, 1.0)):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        end_s = time.monotonic() + patience_s
        while (pids := [pid for pid in pids if _lives(pid)]) and time.monotonic() < end_s:
            time.sleep(_LOOK_S)


def _lives(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):  # somebody else's
        os.waitpid(pid, os.WNOHANG)
    return Path(f"/proc/{pid}").exists()


def _hasten() -> None:
    """In the child, where this machine allows it."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_REAL_TIME))


if __name__ == "__main__":
    main()
