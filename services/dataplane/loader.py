"""Puts the packet path into the kernel, and exits: compile with bcc, load, pin, attach.

Nothing of it stays running.  The maps are created here, before the programs that use them, so that a new program meets the
contents its forerunner left; it takes over by one atomic update of the pinned link.  Run it again at any time.
"""

import argparse
import ctypes
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from services.dataplane.interfaces import Nic, NicError, driver, listed, nic, prepare
from services.dataplane.layout import ID, INTERFACE_STACK, LAYOUT, Interface, MapSpec, map_specs
from services.dataplane.links import MODES, attach, drop_link, hook_of, pin
from services.dataplane.migrate import Migration, older
from services.dataplane.preflight import PINS
from services.dataplane.preflight import preflight as preflight
from services.dataplane.programs import SOURCE, LoaderError, load_programs
from weir.pins import Map, libbpf, map_info

AUTO = "auto"
CHOICES = (AUTO, *MODES)
_BETTER_ON_TC = frozenset({"veth", "bridge", "tun", ""})  # segmented packets whole, and no copies: tc is faster there
_OVERLAYS = frozenset({"vxlan", "geneve", "ipip", "sit", "ip6tnl", "wireguard", "gre", "gretap"})


@dataclass(frozen=True, slots=True)
class Options:
    """What to load, where.

    interfaces: names, or NAME=HOOK for another hook than `hook`, which is one of CHOICES.   maps: as `layout.map_specs` sized
    them.   owner: uid that may open the maps, None = root alone.
    """

    interfaces: tuple[str, ...]
    pins: Path = Path(PINS)
    hook: str = "tc"
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
    try:
        wanted = hooks_wanted(options)
        options.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        maps = {spec.name: create_or_open(options, spec) for spec in options.maps}
        with ExitStack() as stack:
            for fd in maps.values():
                stack.callback(os.close, fd)
            yield from _load(options, wanted, maps, stack)
    except (NicError, OSError) as error:
        raise LoaderError(str(error)) from error


def hooks_wanted(options: Options) -> list[tuple[Nic, str]]:
    """Each interface and its hook, AUTO where trying tells.  Beside an overlay that is tc: XDP can hand it no frame."""
    wanted = [(nic(name), mode) for name, mode in _wanted(options)]
    if any(driver(each.name) in _OVERLAYS for each, _ in wanted):
        return [(each, "tc" if mode == AUTO else mode) for each, mode in wanted]
    return wanted


def _wanted(options: Options) -> Iterator[tuple[str, str]]:
    for text in options.interfaces:
        name, _, hook = text.partition("=")
        if (hook or options.hook) not in CHOICES:
            raise LoaderError(f"{text}: expected a hook of {', '.join(CHOICES)}")
        yield name, hook or options.hook


def _load(options: Options, wanted: Sequence[tuple[Nic, str]], maps: Mapping[str, int], stack: ExitStack) -> Iterator[str]:
    programs = _Programs(options, maps, stack)
    for mode in [mode for _, mode in wanted] or [options.hook]:
        programs.get("tc" if mode == AUTO else mode)
    migration = None
    if old := older(options.pins):
        migration = Migration(old, options.maps, maps)
        yield migration.begin()
        _take_links(old, options.directory)
    for each, mode in wanted:
        yield from prepare(each)
        yield _attach(options, programs, each, mode)
    yield from _detach_others(options, [each.name for each, _ in wanted])
    if migration and old:
        migration.follow()
        yield from _remove(old)


class _Programs:
    """The main program of each hook, loaded when it is first asked for."""

    def __init__(self, options: Options, maps: Mapping[str, int], stack: ExitStack) -> None:
        self._options, self.maps, self._stack = options, maps, stack
        self._loaded: dict[str, int] = {}

    def get(self, mode: str) -> int:
        hook = hook_of(mode)
        if hook.name not in self._loaded:
            self._loaded[hook.name] = program = self._stack.enter_context(load_programs(hook, self.maps, self._options.source))
            _pin_over(program, self._options.directory / f"prog_{hook.name}")
        return self._loaded[hook.name]


def _attach(options: Options, programs: _Programs, each: Nic, mode: str) -> str:
    """Interfaces are known to the programs before these see a packet from there."""
    known = Map(programs.maps["interfaces"], "interfaces")
    held = known.get(ID.pack(each.index))
    flags = Interface.unpack(held).flags if held else 0
    entry = Interface(each.mac, each.v4, each.v6, flags)
    known.put(ID.pack(each.index), entry.pack())
    kind = driver(each.name)
    mode = _choose(options, programs, each, kind) if mode == AUTO else mode
    done = attach(_link_pin(options, each.name), mode, programs.get(mode), each, flags & ~INTERFACE_STACK)
    overlay = INTERFACE_STACK if kind in _OVERLAYS else 0
    known.put(ID.pack(each.index), replace(entry, flags=MODES[mode] | overlay).pack())
    return f"{each.name}: {done}"


def _choose(options: Options, programs: _Programs, each: Nic, kind: str) -> str:
    """XDP where the driver takes it, which only trying tells."""
    if kind in _BETTER_ON_TC | _OVERLAYS:
        return "tc"
    trial = options.directory / f"try_{each.index}"
    try:
        attach(trial, "xdp", programs.get("xdp"), each, 0)
    except LoaderError:
        return "xdp" if _has_link(options, each) else "tc"
    drop_link(trial)
    return "xdp"


def _has_link(options: Options, each: Nic) -> bool:
    """Our own program is why another found no place."""
    held = Map.open(options.directory / "interfaces").get(ID.pack(each.index))
    return bool(held and Interface.unpack(held).flags & MODES["xdp"])


def detach(pins: Path) -> Iterator[str]:
    """Remove every link, program and map; forwarding ends here.  Other layouts' pins go too."""
    for directory in sorted(pins.glob("v*")):
        yield from _remove(directory)
    if pins.exists():
        pins.rmdir()


def _remove(directory: Path) -> Iterator[str]:
    """The pins of one layout, links first."""
    for held in sorted(directory.iterdir(), key=lambda path: (not path.name.startswith("link_"), path.name)):
        if held.name.startswith("link_"):
            drop_link(held)
            yield f"{held.name.removeprefix('link_').replace('%', '.')}: detached"
        else:
            held.unlink()
    directory.rmdir()


def _take_links(old: Path, directory: Path) -> None:
    """The links stay where they are in the kernel; they are turned from the new directory."""
    for held in sorted(old.glob("link_*")):
        held.rename(directory / held.name)


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
    pin(fd, path)
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


def _pin_over(fd: int, path: Path) -> None:
    """Pin where something may be pinned already."""
    fresh = path.with_name("new_" + path.name)
    fresh.unlink(missing_ok=True)
    pin(fd, fresh)
    fresh.rename(path)
    path.chmod(0o600)


def _detach_others(options: Options, names: Sequence[str]) -> Iterator[str]:
    """Interfaces that were attached once and are not asked for any more must not go on answering for VIPs."""
    wanted = {_link_pin(options, name) for name in names}
    for path in sorted(options.directory.glob("link_*")):
        if path not in wanted:
            drop_link(path)
            yield f"{path.name.removeprefix('link_')}: detached"


def _link_pin(options: Options, interface: str) -> Path:
    return options.directory / f"link_{interface.replace('.', '%')}"  # a VLAN's name has a dot, a pin cannot


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    parser = argparse.ArgumentParser(prog="python -m services.dataplane.loader", description=__doc__.partition("\n")[0])
    parser.add_argument("--pins", type=Path, default=Path(PINS), help="directory on a bpf file system (%(default)s)")
    parser.add_argument("--interface", action="extend", type=listed, default=[], help="attach here, NAME or NAME=HOOK; repeat for more")
    parser.add_argument("--hook", choices=CHOICES, default="tc", help="of interfaces that name none; auto: XDP where the driver has it")
    parser.add_argument("--owner", type=int, help="uid that may open the maps (root alone)")
    parser.add_argument("--conntrack", type=int, default=262_144, help="flows (%(default)s)")
    parser.add_argument("--frontends", type=int, default=65_536, help="frontends (%(default)s)")
    parser.add_argument("--backends", type=int, default=262_144, help="backends (%(default)s)")
    parser.add_argument("--detach", action="store_true", help="remove links, programs and maps instead")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    maps = map_specs(given.conntrack, given.frontends, given.backends)
    options = Options(tuple(given.interface), given.pins, given.hook, given.owner, maps)
    try:
        for line in detach(given.pins) if given.detach else load(options):
            print(line)
    except LoaderError as error:
        print(f"weir loader: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
