"""The packet path as the kernel takes it: objects that clang made of `bpf/`, given their maps and constants by libbpf, and loaded.

Ingress has three programs: `main` sees every packet; one of no known flow leads to `new`, a drop that the sender is to hear of to
`answer`.  Egress has one, for what this machine itself sends to a VIP.
"""

import ctypes
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from services.dataplane.l4.layout import ID, Constants
from services.dataplane.load.clock import read_clock
from weir.pins import Map, libbpf, map_info

OBJECTS = Path(__file__).parents[3] / "bpf" / "build"
PARTS = ("", "_answer", "_new", "_fragment")  # behind `weir_HOOK`, in the order of the programs' numbers in maps.h


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

    @property
    def jumps(self) -> bool:
        """True if its programs lead to each other, through the map `programs_NAME`."""
        return len(self.parts) > 1


HOOKS = {"tc": Hook("tc", 3, 46, 11), "xdp": Hook("xdp", 6, 37, 6), "egress": Hook("egress", 3, 47, 11, ("",))}


@contextmanager
def load_programs(hook: Hook, maps: Mapping[str, int], objects: Path = OBJECTS) -> Iterator[int]:
    """The hook's main program, and the others where it looks for them.  maps: descriptors by name.  Raises LoaderError."""
    with _opened(hook, objects) as module:
        _give_maps(module, hook, maps)
        _load(module, hook)
        programs = [_program(module, f"weir_{hook.name}{part}") for part in hook.parts]
        for number, program in reversed(list(enumerate(programs)) if hook.jumps else []):
            _lead_to(maps[f"programs_{hook.name}"], number, program)
        yield programs[0]


@contextmanager
def _opened(hook: Hook, objects: Path) -> Iterator[int]:
    """The hook's object, read but not loaded: a pointer of libbpf.  Raises LoaderError."""
    path = objects / f"weir_{hook.name}.o"
    if not path.exists():
        raise LoaderError(f"{path} does not exist: `make setup` builds it")
    with _words() as words:
        module = _bpf().bpf_object__open_file(os.fsencode(path), None)
    if not module:
        raise LoaderError(f"{path} cannot be read: {_last(words)}")
    try:
        yield module
    finally:
        _bpf().bpf_object__close(module)


def _give_maps(module: int, hook: Hook, maps: Mapping[str, int]) -> None:
    bpf, each = _bpf(), None
    while each := bpf.bpf_object__next_map(module, each):
        name = bpf.bpf_map__name(each).decode()
        if name == ".rodata.config":
            value = _constants(maps)
            code = bpf.bpf_map__set_initial_value(each, value, len(value))
        elif name.startswith("."):
            continue
        else:
            own = f"programs_{hook.name if hook.jumps else 'tc'}"
            code = bpf.bpf_map__reuse_fd(each, maps[own if name == "programs" else name])
        if code:
            raise LoaderError(f"map {name}: {os.strerror(-code)}")


def _constants(maps: Mapping[str, int]) -> bytes:
    """Of this machine.  The secret keys are made once, and kept as long as the flows that are found by them."""
    held = Map(maps["constants"], "constants")
    before = Constants.unpack(held.get(ID.pack(0)) or bytes(Constants.FORMAT.size))
    keys = before.keys if any(before.keys) else struct.unpack("=10Q", os.urandom(80))
    clock = read_clock()
    value = Constants(keys, clock.tick_ns, clock.epoch_ns, clock.hz, map_info(maps["flows"], "flows").max_entries).pack()
    held.put(ID.pack(0), value)
    return value


def _load(module: int, hook: Hook) -> None:
    bpf, each = _bpf(), None
    while each := bpf.bpf_object__next_program(module, each):
        bpf.bpf_program__set_type(each, hook.program_type)
        bpf.bpf_program__set_expected_attach_type(each, hook.attach_type)
    with _words() as words:
        code = bpf.bpf_object__load(module)
    if code:
        if "WEIR_VERIFIER_LOG" in os.environ:
            Path(os.environ["WEIR_VERIFIER_LOG"]).write_text("".join(words), encoding="utf-8")
        raise LoaderError(f"the kernel refused weir_{hook.name}: {os.strerror(-code)}: {_last(words)}")


def _program(module: int, name: str) -> int:
    bpf = _bpf()
    found = bpf.bpf_object__find_program_by_name(module, name.encode())
    if not found:
        raise LoaderError(f"the object has no program {name}: `make setup` builds it again")
    return int(bpf.bpf_program__fd(found))


def _lead_to(programs: int, number: int, program: int) -> None:
    if code := libbpf().bpf_map_update_elem(programs, ID.pack(number), ID.pack(program), 0):
        raise LoaderError(f"map programs: {os.strerror(-code)}")


@contextmanager
def _words() -> Iterator[list[str]]:
    """What libbpf prints meanwhile, the verifier's log among it, instead of stderr."""
    words: list[str] = []
    libc = ctypes.CDLL(None)

    def note(level: int, form: bytes, values: int) -> int:
        text = ctypes.c_char_p()
        if level < 2 and libc.vasprintf(ctypes.byref(text), ctypes.c_char_p(form), ctypes.c_void_p(values)) >= 0:  # 2: for debugging libbpf
            words.append((text.value or b"").decode("utf-8", "replace"))
            libc.free(text)
        return 0

    kept = _PRINT(note)
    before = _bpf().libbpf_set_print(ctypes.cast(kept, ctypes.c_void_p))
    try:
        yield words
    finally:
        _bpf().libbpf_set_print(before)


_PRINT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_NOISE = ("processed", "verification time", "stack depth", "--", "libbpf: failed to load object", "libbpf: prog", "max_states")


def _last(words: list[str]) -> str:
    lines = [line for line in "".join(words).splitlines() if line.strip() and not line.startswith(_NOISE)]
    return lines[-1].removeprefix("libbpf: ") if lines else "no reason given"


@cache
def _bpf() -> ctypes.CDLL:
    """libbpf's functions for objects; pointers are numbers here."""
    library, pointer = libbpf(), ctypes.c_void_p
    for name, result, arguments in (
        ("bpf_object__open_file", pointer, (ctypes.c_char_p, pointer)),
        ("bpf_object__close", None, (pointer,)),
        ("bpf_object__load", ctypes.c_int, (pointer,)),
        ("bpf_object__next_map", pointer, (pointer, pointer)),
        ("bpf_object__next_program", pointer, (pointer, pointer)),
        ("bpf_object__find_program_by_name", pointer, (pointer, ctypes.c_char_p)),
        ("bpf_map__name", ctypes.c_char_p, (pointer,)),
        ("bpf_map__reuse_fd", ctypes.c_int, (pointer, ctypes.c_int)),
        ("bpf_map__set_initial_value", ctypes.c_int, (pointer, ctypes.c_char_p, ctypes.c_size_t)),
        ("bpf_program__fd", ctypes.c_int, (pointer,)),
        ("bpf_program__set_type", ctypes.c_int, (pointer, ctypes.c_int)),
        ("bpf_program__set_expected_attach_type", ctypes.c_int, (pointer, ctypes.c_int)),
        ("libbpf_set_print", pointer, (pointer,)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
