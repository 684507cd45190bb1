"""How the kernel's jiffies relate to CLOCK_MONOTONIC.

The programs need the time for every packet.  bpf_ktime_get_coarse_ns costs 20 of 105 ns where returns are mitigated
against speculation; jiffies are one load.  They advance with the monotonic clock, so two numbers make them nanoseconds for as
long as the machine is up: the length of a tick, and where the count began.
"""

import ctypes
import os
import time
from functools import cache
from typing import NamedTuple

from weir.pins import Map, libbpf

_FREQUENCIES_HZ = (100, 250, 300, 1000)  # what CONFIG_HZ can be
_WATCH_S = 0.12  # enough to distinguish 250 from 300
_ARRAY, _SCHED_CLS = 2, 3
_JIFFIES64, _KTIME_GET_NS = 118, 5  # helpers


class Clock(NamedTuple):
    """CLOCK_MONOTONIC = jiffies * tick_ns + epoch_ns, to a tick.  epoch_ns is below zero."""

    tick_ns: int
    epoch_ns: int
    hz: int


class TestRun(ctypes.Structure):
    """struct bpf_test_run_opts of libbpf."""

    __test__ = False
    retval: int
    duration: int
    data_size_out: int
    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("data_in", ctypes.c_char_p),
        ("data_out", ctypes.c_void_p),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_char_p),
        ("ctx_out", ctypes.c_void_p),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("repeat", ctypes.c_int),
        ("duration", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
    )


@cache
def read_clock() -> Clock:
    """Compare both clocks for a tenth of a second, once for all hooks that are loaded.  Raises OSError."""
    jiffies, ns = _sample()
    time.sleep(_WATCH_S)
    later_jiffies, later_ns = _sample()
    measured_hz = (later_jiffies - jiffies) * 1e9 / (later_ns - ns)
    hz = min(_FREQUENCIES_HZ, key=lambda known: abs(known - measured_hz) / known)
    tick_ns = (1_000_000_000 + hz // 2) // hz
    return Clock(tick_ns, later_ns - later_jiffies * tick_ns, hz)


def _sample() -> tuple[int, int]:
    """Return jiffies and ns of one moment, read by a program that the kernel runs once."""
    cell = Map(_good(libbpf().bpf_map_create(_ARRAY, b"clock", 4, 16, 1, None)), "clock")
    code = b"".join(
        (
            _instruction(0x18, to=6, source=2, value=cell.fd),  # r6 = address of the cell
            _instruction(0),
            _instruction(0x85, value=_JIFFIES64),
            _instruction(0x7B, to=6),  # *(u64 *)(r6 + 0) = r0
            _instruction(0x85, value=_KTIME_GET_NS),
            _instruction(0x7B, to=6, offset=8),
            _instruction(0xB7),  # r0 = 0
            _instruction(0x95),
        )
    )
    program = _good(libbpf().bpf_prog_load(_SCHED_CLS, b"clock", b"GPL", code, ctypes.c_size_t(len(code) // 8), None))
    run = TestRun(sz=ctypes.sizeof(TestRun), data_in=bytes(64), data_size_in=64, repeat=1)
    _good(libbpf().bpf_prog_test_run_opts(program, ctypes.byref(run)))
    value = cell.get(bytes(4)) or bytes(16)
    os.close(program)
    cell.close()
    return int.from_bytes(value[:8], "little"), int.from_bytes(value[8:], "little")


def _instruction(code: int, to: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return bytes((code, source << 4 | to)) + offset.to_bytes(2, "little") + value.to_bytes(4, "little")


def _good(result: int) -> int:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result
