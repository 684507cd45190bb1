"""Puts the packet path into the kernel, and exits: compile with bcc, load, pin, attach.

Nothing of it stays running.  The maps are created here, before the program that uses them, so that a new program meets the
contents its forerunner left; it takes over by one atomic update of the pinned link.  Run it again at any time.
"""

import argparse
import ctypes
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.dataplane.interfaces import Nic, NicError, nic, prepare
from services.dataplane.kernel_clock import read_clock
from services.dataplane.layout import ID, LAYOUT, Interface, MapSpec, map_specs
from services.dataplane.preflight import PINS
from services.dataplane.preflight import preflight as preflight
from weir.pins import Map, libbpf, map_info

SOURCE = Path(__file__).parents[2] / "bpf"

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


HOOKS = {"tc": Hook("tc", 3, 46, 11), "xdp": Hook("xdp", 6, 37, 6)}
_XDP_GENERIC = 2


@dataclass(frozen=True, slots=True)
class Options:
    """What to load, where.  maps: as `layout.map_specs` sized them.  owner: uid that may open the maps, None = root alone."""

    interfaces: tuple[str, ...]
    pins: Path = Path(PINS)
    hook: Hook = HOOKS["tc"]
    owner: int | None = None
    maps: tuple[MapSpec, ...] = map_specs()
    source: Path = SOURCE

    @property
    def directory(self) -> Path:
        return self.pins / f"v{LAYOUT}"


def load(options: Options) -> Iterator[str]:
    """Put everything in place; yields a line for each step done.  Raises LoaderError."""
    if problems := preflight(options.pins):
        raise LoaderError("; ".join(problems))
    nics = [_nic(name) for name in options.interfaces]
    options.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    maps = {spec.name: create_or_open(options, spec) for spec in options.maps}
    try:
        program = load_program(options.hook, compile_program(options, maps))
        _pin_over(program, options.directory / f"prog_{options.hook.name}")
        for each in nics:
            yield from prepare(each)
            Map(maps["interfaces"], "interfaces").put(ID.pack(each.index), Interface(each.mac, each.v4, each.v6).pack())
            yield f"{each.name}: {_attach(options, program, each)}"
        yield from _detach_others(options)
        os.close(program)
    except (NicError, OSError) as error:
        raise LoaderError(str(error)) from error
    finally:
        for fd in maps.values():
            os.close(fd)


def detach(pins: Path) -> Iterator[str]:
    """Remove every link, program and map; forwarding ends here.  Other layouts' pins go too."""
    for directory in sorted(pins.glob("v*")):
        for pin in sorted(directory.iterdir(), key=lambda path: (not path.name.startswith("link_"), path.name)):
            if pin.name.startswith("link_"):
                _drop_link(pin)
                yield f"{pin.name.removeprefix('link_').replace('%', '.')}: detached"
            else:
                pin.unlink()
        directory.rmdir()
    if pins.exists():
        pins.rmdir()


def _nic(name: str) -> Nic:
    try:
        return nic(name)
    except NicError as error:
        raise LoaderError(str(error)) from error


class _MapOptions(ctypes.Structure):
    """struct bpf_map_create_opts of libbpf."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("btf", ctypes.c_uint32 * 5),
        ("map_flags", ctypes.c_uint32),
        ("map_extra", ctypes.c_uint64),
        ("numa_node", ctypes.c_uint32),
        ("map_ifindex", ctypes.c_uint32),
    )


def create_or_open(options: Options, spec: MapSpec) -> int:
    """A descriptor of the pinned map, which is created if need be."""
    path = options.directory / spec.name
    if path.exists():
        return _reopen(path, spec)
    wishes = _MapOptions(sz=ctypes.sizeof(_MapOptions), map_flags=spec.flags)
    create = libbpf().bpf_map_create
    fd = int(create(spec.kind, spec.name.encode(), spec.key_size, spec.value_size, spec.max_entries, ctypes.byref(wishes)))
    if fd < 0:
        raise LoaderError(f"map {spec.name} of {spec.max_entries} entries: {os.strerror(-fd)}")
    _pin(fd, path)
    path.chmod(0o600)
    if options.owner is not None:
        os.chown(path, options.owner, -1)
    return fd


def _reopen(path: Path, spec: MapSpec) -> int:
    fd = int(libbpf().bpf_obj_get(os.fsencode(path)))
    if fd < 0:
        raise LoaderError(f"{path}: {os.strerror(-fd)}")
    info = map_info(fd, spec.name)
    found = (info.type, info.key_size, info.value_size, info.max_entries)
    wanted = (spec.kind, spec.key_size, spec.value_size, spec.max_entries)
    if found != wanted:
        os.close(fd)
        raise LoaderError(f"{path}: type, key, value and entries are {found}, wanted {wanted}: detach first to change a map")
    return fd


def _pin(fd: int, path: Path) -> None:
    if code := libbpf().bpf_obj_pin(fd, os.fsencode(path)):
        raise LoaderError(f"pin {path}: {os.strerror(-code)}")


def _pin_over(fd: int, path: Path) -> None:
    """Pin where something may be pinned already."""
    fresh = path.with_name("new_" + path.name)
    fresh.unlink(missing_ok=True)
    _pin(fd, fresh)
    fresh.rename(path)
    path.chmod(0o600)


def compile_program(options: Options, maps: dict[str, int]) -> bytes:
    """The hook's bytecode, with the descriptors of `maps` in it."""
    from bcc import BPF  # the one heavy import, and only here

    name = f"weir_{options.hook.name}"
    clock = read_clock()
    flags = [f"-DFD_{map_name}={fd}" for map_name, fd in maps.items()]
    flags += [f"-DTICK_NS={clock.tick_ns}ULL", f"-DEPOCH_NS=({clock.epoch_ns}LL)"]
    try:
        module = BPF(text=one_text(options.source / f"{name}.c").encode(), cflags=flags)
        return bytes(module.dump_func(name.encode()))
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
    raise LoaderError(f"the kernel refused weir_{hook.name}: {os.strerror(-fd)}: {said[-1] if said else 'no reason given'}")


class _LinkOptions(ctypes.Structure):
    """struct bpf_link_create_opts of libbpf."""

    _fields_ = (("sz", ctypes.c_size_t), ("flags", ctypes.c_uint32), ("rest", ctypes.c_uint32 * 15))


class _LinkInfo(ctypes.Structure):
    """struct bpf_link_info of linux/bpf.h, as far as tcx and xdp fill it."""

    type: int
    ifindex: int
    _fields_ = [(name, ctypes.c_uint32) for name in ("type", "id", "prog_id", "pad", "ifindex", "attach_type")]


def _attach(options: Options, program: int, nic: Nic) -> str:
    """Make `program` the one on this interface; tells how."""
    path = _link_pin(options, nic.name)
    if path.exists() and _update_link(path, options.hook, program, nic):
        return f"{options.hook.name} program replaced"
    link, how = _create_link(options.hook, program, nic)
    _drop_link(path)  # of another hook, or of an interface that is gone; only now, so that there is no gap
    _pin(link, path)
    path.chmod(0o600)
    os.close(link)
    return f"{how} program attached"


def _detach_others(options: Options) -> Iterator[str]:
    """Interfaces that were attached once and are not asked for any more must not go on answering for VIPs."""
    wanted = {_link_pin(options, name) for name in options.interfaces}
    for path in sorted(options.directory.glob("link_*")):
        if path not in wanted:
            _drop_link(path)
            yield f"{path.name.removeprefix('link_')}: detached"


def _link_pin(options: Options, interface: str) -> Path:
    return options.directory / f"link_{interface.replace('.', '%')}"  # a VLAN's name has a dot, a pin cannot


def _drop_link(path: Path) -> None:
    """Detach now: once unpinned, a link goes at a time of the kernel's choosing."""
    link = libbpf().bpf_obj_get(os.fsencode(path))
    if link >= 0:
        libbpf().bpf_link_detach(link)
        os.close(link)
    path.unlink(missing_ok=True)


def _update_link(path: Path, hook: Hook, program: int, nic: Nic) -> bool:
    """Turn the pinned link to `program`, atomically.  False: it is not this hook's on this interface."""
    link = libbpf().bpf_obj_get(os.fsencode(path))
    if link < 0:
        raise LoaderError(f"{path}: {os.strerror(-link)}")
    try:
        info = _LinkInfo()
        size = ctypes.c_uint32(ctypes.sizeof(info))
        libbpf().bpf_obj_get_info_by_fd(link, ctypes.byref(info), ctypes.byref(size))
        if (info.type, info.ifindex) != (hook.link_type, nic.index):
            return False
        if code := libbpf().bpf_link_update(link, program, None):
            raise LoaderError(f"{nic.name}: replacing the program: {os.strerror(-code)}")
        return True
    finally:
        os.close(link)


def _create_link(hook: Hook, program: int, nic: Nic) -> tuple[int, str]:
    wishes = _LinkOptions(sz=ctypes.sizeof(_LinkOptions))
    link = int(libbpf().bpf_link_create(program, nic.index, hook.attach_type, ctypes.byref(wishes)))
    if link < 0 and hook.name == "xdp":  # the driver has no native XDP
        wishes.flags = _XDP_GENERIC
        link = int(libbpf().bpf_link_create(program, nic.index, hook.attach_type, ctypes.byref(wishes)))
        if link >= 0:
            return link, "generic xdp"
    if link < 0:
        raise LoaderError(f"{nic.name}: attaching to {hook.name}: {os.strerror(-link)}")
    return link, hook.name


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m services.dataplane.loader", description=__doc__.partition("\n")[0])
    parser.add_argument("--pins", type=Path, default=Path(PINS), help="directory on a bpf file system (%(default)s)")
    parser.add_argument("--interface", action="append", default=[], help="attach here; repeat for more")
    parser.add_argument("--hook", choices=HOOKS, default="tc")
    parser.add_argument("--owner", type=int, help="uid that may open the maps (root alone)")
    parser.add_argument("--conntrack", type=int, default=262_144, help="flows (%(default)s)")
    parser.add_argument("--frontends", type=int, default=65_536, help="frontends (%(default)s)")
    parser.add_argument("--backends", type=int, default=262_144, help="backends (%(default)s)")
    parser.add_argument("--detach", action="store_true", help="remove links, programs and maps instead")
    given = parser.parse_args(arguments)
    maps = map_specs(given.conntrack, given.frontends, given.backends)
    options = Options(tuple(given.interface), given.pins, HOOKS[given.hook], given.owner, maps)
    try:
        for line in detach(given.pins) if given.detach else load(options):
            print(line)
    except LoaderError as error:
        print(f"weir loader: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
