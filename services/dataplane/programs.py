"""The packet path as the kernel takes it: compiled with bcc, loaded, and led from one program to the next.

Ingress has three programs: `main` sees every packet; a drop that is to be told leads to `answer`, a full flow table to `room`.
Egress has one, for what this machine itself sends to a VIP.
"""

import ctypes
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.dataplane.kernel_clock import read_clock
from services.dataplane.layout import ID
from weir.pins import libbpf, map_info

SOURCE = Path(__file__).parents[2] / "bpf"
MAIN_ALONE = ("",)
PARTS = ("", "_answer", "_room")  # behind `weir_HOOK`, in the order of the programs' numbers in maps.h

_QUOTED_INCLUDE = re.compile(r'#include "(.+)"')


class LoaderError(Exception):
    """The packet path cannot be put in place; what runs already, runs on.  One line."""


@dataclass(frozen=True, slots=True)
class Hook:
    """Where a program sits; the numbers are those of linux/bpf.h."""

    name: str
    program_type: int
    attach_type: int
    link_type: int
    parts: tuple[str, ...] = PARTS


HOOKS = {"tc": Hook("tc", 3, 46, 11), "xdp": Hook("xdp", 6, 37, 6), "egress": Hook("egress", 3, 47, 11, MAIN_ALONE)}


@contextmanager
def load_programs(hook: Hook, maps: Mapping[str, int], source: Path = SOURCE) -> Iterator[int]:
    """The hook's main program, and the others where it looks for them.  maps: descriptors by name.  Raises LoaderError."""
    parts = zip(hook.parts, compile_programs(hook, maps, source), strict=True)
    programs = [load_program(hook, code, f"weir_{hook.name}{part}") for part, code in parts]
    try:
        for number, program in reversed(list(enumerate(programs)) if len(programs) > 1 else []):
            _lead_to(maps[f"programs_{hook.name}"], number, program)
        yield programs[0]
    finally:
        for program in programs:
            os.close(program)


def compile_programs(hook: Hook, maps: Mapping[str, int], source: Path = SOURCE) -> list[bytes]:
    """The bytecode of each part, with the descriptors of `maps` in it."""
    from bcc import BPF  # the one heavy import, and only here

    name = f"weir_{hook.name}"
    clock = read_clock()
    flags = [f"-DFD_{map_name}={fd}" for map_name, fd in maps.items()]
    flags += [f"-DFD_programs={maps[f'programs_{hook.name}']}"] if hook.parts != MAIN_ALONE else []
    flags += [f"-DFLOWS={map_info(maps['flow_keys'], 'flow_keys').max_entries}"]
    flags += [f"-DTICK_NS={clock.tick_ns}ULL", f"-DEPOCH_NS=({clock.epoch_ns}LL)"]
    try:
        module = BPF(text=one_text(source / f"{name}.c").encode(), cflags=flags)
        return [bytes(module.dump_func(f"{name}{part}".encode())) for part in hook.parts]
    except Exception as error:  # bcc raises bare Exception; the compiler has told why on stderr
        raise LoaderError(f"{name}.c does not compile: {error}") from error


def one_text(path: Path) -> str:
    """`path` with its quoted includes in place: bcc takes one text, and finds no files beside it."""
    lines = [f'#line 1 "{path.name}"']
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if quoted := _QUOTED_INCLUDE.match(line):
            lines += [one_text(path.parent / quoted[1]), f'#line {number + 1} "{path.name}"']
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


class _ProgramOptions(ctypes.Structure):
    """struct bpf_prog_load_opts of libbpf."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("attempts", ctypes.c_int),
        ("expected_attach_type", ctypes.c_int),
        ("numbers", ctypes.c_uint32 * 7),
        ("fd_array", ctypes.c_void_p),
        ("func_info", ctypes.c_void_p),
        ("func_info_counts", ctypes.c_uint32 * 2),
        ("line_info", ctypes.c_void_p),
        ("line_info_counts", ctypes.c_uint32 * 2),
        ("log_level", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log_buf", ctypes.c_void_p),
    )


def load_program(hook: Hook, code: bytes, name: str = "weir") -> int:
    """A descriptor of the loaded program.  Raises LoaderError with the verifier's last words."""
    wishes = _ProgramOptions(sz=ctypes.sizeof(_ProgramOptions), expected_attach_type=hook.attach_type)

    def attempt() -> int:
        return int(
            libbpf().bpf_prog_load(
                hook.program_type, name.encode(), b"Dual MIT/GPL", code, ctypes.c_size_t(len(code) // 8), ctypes.byref(wishes)
            )
        )

    fd = attempt()
    if fd >= 0:
        return fd
    log = ctypes.create_string_buffer(1 << 24)
    wishes.log_level, wishes.log_size, wishes.log_buf = 1, len(log), ctypes.addressof(log)
    attempt()
    words = log.value.decode("utf-8", "replace").strip()
    if "WEIR_VERIFIER_LOG" in os.environ:
        Path(os.environ["WEIR_VERIFIER_LOG"]).write_text(words, encoding="utf-8")
    said = [line for line in words.splitlines() if not line.startswith(("processed", "verification time", "stack depth"))]
    raise LoaderError(f"the kernel refused {name}: {os.strerror(-fd)}: {said[-1] if said else 'no reason given'}")


def _lead_to(programs: int, number: int, program: int) -> None:
    if code := libbpf().bpf_map_update_elem(programs, ID.pack(number), ID.pack(program), 0):
        raise LoaderError(f"map programs: {os.strerror(-code)}")
