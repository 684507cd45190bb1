"""Whose the machine's CPUs were: waiting until they are idle, what a sample took of them and what others did meanwhile."""

import contextlib
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

IDLE, IDLE_S, PATIENCE_S = 0.85, 0.3, 1.5
DISTURBED, TRIES = 0.05, 2  # above this share of all CPUs a sample is taken again, so often at most in all

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_KTHREADD = "2"
_Result = TypeVar("_Result")


def undisturbed(sample: Callable[[], _Result], namespaces: str) -> tuple[_Result, float]:
    """The less disturbed of at most TRIES samples, and the share of all CPUs that others had during it.

    Others are all but this process, those in the network namespaces whose names begin with `namespaces`, and the kernel's threads,
    which work for us too.  Which sample counts is decided by what they took, never by the figure.
    """
    tried = []
    while len(tried) < TRIES and (not tried or tried[-1][1] > DISTURBED):
        wait_for_idle()
        before, begun_s = _others_s(namespaces), time.monotonic()
        result = sample()
        spent_s = (time.monotonic() - begun_s) * (os.cpu_count() or 1)
        tried.append((result, max(0, _others_s(namespaces) - before) / spent_s))
    return min(tried, key=lambda each: each[1])


def cpu_s(namespaces: str) -> float:
    """What the processes in those namespaces have taken, and the children of this one that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    places = {path.stat().st_ino for path in Path("/run/netns").glob(f"{namespaces}*")}
    return ended.ru_utime + ended.ru_stime + sum(_cpu_s(process) for process in Path("/proc").glob("[0-9]*") if _is_in(process, places))


def wait_for_idle() -> None:
    """Until the machine was idle for 0.3 s, 1.5 s at most."""
    until = time.monotonic() + PATIENCE_S
    while _idle(IDLE_S) < IDLE and time.monotonic() < until:
        pass


def _idle(seconds: float) -> float:
    """The share of the CPUs that is idle in the next `seconds`."""
    (total, idle), _ = _cpu(), time.sleep(seconds)
    total_after, idle_after = _cpu()
    return (idle_after - idle) / max(1, total_after - total)


def _cpu() -> tuple[int, int]:
    """Ticks of all CPUs, and those of them that were idle."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8]]  # without what the host stole
    return sum(ticks), ticks[3] + ticks[4]


def _others_s(namespaces: str) -> float:
    """By what is left: processes come and go, and what one that ended had taken is hard to come by."""
    self = resource.getrusage(resource.RUSAGE_SELF)
    kernel = sum(_cpu_s(process) for process in Path("/proc").glob("[0-9]*") if _is_kernels(process))
    total, idle = _cpu()
    return (total - idle) / _TICKS_PER_S - cpu_s(namespaces) - self.ru_utime - self.ru_stime - kernel


def _is_kernels(process: Path) -> bool:
    with contextlib.suppress(OSError):
        return (process / "stat").read_text().rpartition(")")[2].split()[1] == _KTHREADD
    return False


def _is_in(process: Path, places: set[int]) -> bool:
    with contextlib.suppress(OSError):
        return (process / "ns" / "net").stat().st_ino in places
    return False


def _cpu_s(process: Path) -> float:
    """Of all its threads, exactly."""
    spent = 0
    for thread in (process / "task").glob("*/schedstat"):
        with contextlib.suppress(OSError):
            spent += int(thread.read_text().split()[0])
    return spent / 1e9
