"""Load the packet path into the kernel: create and pin maps, load programs, attach them, and exit.

Maps are created before the programs that use them, so a new program finds the contents that the previous one left; it takes over by one
atomic update of the pinned link.  Running it again is safe at any time.
"""

import argparse
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from services.dataplane.l4.layout import ID, INTERFACE_STACK, LAYOUT, Interface, MapSpec, map_specs, memory_bytes
from services.dataplane.load.interface_settings import Settings, prepare
from services.dataplane.load.interfaces import Nic, NicError, driver, is_pattern, listed, matching, nic
from services.dataplane.load.links import MODES, attach, attach_egress, drop_link, hook_of, is_on, open_pin, pin
from services.dataplane.load.pinned_maps import NoMemory, create_or_open
from services.dataplane.load.preflight import PINS
from services.dataplane.load.preflight import preflight as preflight
from services.dataplane.load.programs import OBJECTS, LoaderError, load_programs
from weir.pins import Map, possible_cpus

AUTO = "auto"
CHOICES = (AUTO, *MODES)
_PATTERN_HOOK = "tc"  # pods have veth or similar: XDP would have to run in the pods, too
# tc is faster there: no segmentation, no copies.  XDP of a bond runs on its members, which are unknown here; that of virtio_net
# turns the guest's offloads off.
_BETTER_ON_TC = frozenset({"veth", "bridge", "tun", "bonding", "team", "virtio_net", ""})
_OVERLAYS = frozenset({"vxlan", "geneve", "ipip", "sit", "ip6tnl", "wireguard", "gre", "gretap"})


@dataclass(frozen=True, slots=True)
class Options:
    """What to load, and where.

    interfaces: names, or NAME=HOOK for another hook than `hook`, which is one of CHOICES; `cali*` for all that begin so.
    maps: as `layout.map_specs` sized them.   owner: uid that may open the maps, None = root alone.
    record: where changed settings of interfaces are recorded, for `detach`; None = nowhere.
    """

    interfaces: tuple[str, ...]
    pins: Path = Path(PINS)
    hook: str = "tc"
    owner: int | None = None
    maps: tuple[MapSpec, ...] = map_specs()
    objects: Path = OBJECTS
    record: Path | None = None

    @property
    def directory(self) -> Path:
        return self.pins / f"v{LAYOUT}"


def load(options: Options) -> Iterator[str]:
    """Load everything; yield a line for each step.  Raises LoaderError."""
    if problems := preflight(options.pins):
        raise LoaderError("; ".join(problems))
    try:
        wanted = hooks_wanted(options)
        options.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        maps = _create(options)
        with ExitStack() as stack:
            for fd in maps.values():
                stack.callback(os.close, fd)
            yield from _load(options, wanted, maps, stack)
    except (NicError, OSError) as error:
        raise LoaderError(str(error)) from error


def _create(options: Options) -> dict[str, int]:
    """Create or open every map, by name.  Raises LoaderError."""
    try:
        return {spec.name: create_or_open(options.directory, spec, options.owner) for spec in options.maps}
    except NoMemory as error:
        cpus = possible_cpus()
        whole = f"all maps take {memory_bytes(options.maps, cpus) >> 20} MiB on {cpus} processors"
        raise LoaderError(f"{error}: {whole}; --backends, --frontends and --conntrack make them smaller") from error


def follow(options: Options) -> Iterator[str]:
    """Attach new interfaces that match a pattern, with the pinned program, and drop those that were removed.

    Yields a line for each.  Raises LoaderError, OSError.
    """
    try:
        wanted = hooks_wanted(options)
    except NicError:  # a named one is missing: once it is back, everything is loaded again
        return
    with ExitStack() as stack:
        known = stack.enter_context(Map.open(options.directory / "interfaces"))
        program = open_pin(options.directory / f"prog_{_PATTERN_HOOK}")
        stack.callback(os.close, program)
        settings = Settings(options.record)
        yield from _detach_others(options, known, wanted, settings)  # first: one that was renamed must not get a program twice
        for each in wanted:
            if each.passing and not is_on(_link_pin(options, each.nic.name), each.nic):
                yield from _attach_passing(options, known, each, lambda _: program, settings)


class Wanted(NamedTuple):
    """An interface to attach to.   mode: of CHOICES.   passing: it matches a pattern, and may be removed at any time."""

    nic: Nic
    mode: str
    passing: bool = False


def hooks_wanted(options: Options) -> list[Wanted]:
    """Return each interface and its hook; AUTO is decided by a try.  Beside overlays and patterns it is tc: XDP cannot pass frames on."""
    requested = list(_requested(options))
    patterns = [name for name, _ in requested if is_pattern(name)]
    named = [Wanted(nic(name), mode) for name, mode in requested if not is_pattern(name)]
    if patterns or any(driver(each.nic.name) in _OVERLAYS for each in named):
        named = [Wanted(nic, "tc" if mode == AUTO else mode) for nic, mode, _ in named]
    return [*named, *(Wanted(each, _PATTERN_HOOK, passing=True) for each in matching(patterns, [each.nic for each in named]))]


def _requested(options: Options) -> Iterator[tuple[str, str]]:
    for text in options.interfaces:
        name, _, hook = text.partition("=")
        if (hook or options.hook) not in CHOICES:
            raise LoaderError(f"{text}: expected a hook of {', '.join(CHOICES)}")
        if is_pattern(name) and hook not in ("", AUTO, _PATTERN_HOOK):
            raise LoaderError(f"{text}: interfaces that come and go are attached to {_PATTERN_HOOK}")
        if name == "*":
            raise LoaderError("*: expected a prefix before it, such as cali*")
        yield name, hook or options.hook
    if options.interfaces and all(is_pattern(text.partition("=")[0]) for text in options.interfaces):
        raise LoaderError(f"{','.join(options.interfaces)}: expected one by its full name too: VIPs are announced there")


def _load(options: Options, wanted: Sequence[Wanted], maps: Mapping[str, int], stack: ExitStack) -> Iterator[str]:
    programs = _Programs(options, maps, stack)
    known, settings = Map(maps["interfaces"], "interfaces"), Settings(options.record)
    for mode in [*(each.mode for each in wanted), *_modes_to_come(options)] or [options.hook]:
        programs.get("tc" if mode == AUTO else mode)
    for each in wanted:
        if each.passing:
            yield from _attach_passing(options, known, each, programs.get, settings)
        else:
            yield from prepare(each.nic, settings)
            yield _attach(options, known, each.nic, each.mode, programs.get)
            _attach_egress(options, known, each.nic, programs.get)
    yield from _detach_others(options, known, wanted, settings)


def _modes_to_come(options: Options) -> list[str]:
    """Return the hooks of interfaces that may come later: `follow` needs their program pinned."""
    return [_PATTERN_HOOK for name, _ in _requested(options) if is_pattern(name)]


class _Programs:
    """The main program of each hook, loaded on first use."""

    def __init__(self, options: Options, maps: Mapping[str, int], stack: ExitStack) -> None:
        self._options, self._maps, self._stack = options, maps, stack
        self._loaded: dict[str, int] = {}

    def get(self, mode: str) -> int:
        hook = hook_of(mode)
        if hook.name not in self._loaded:
            self._loaded[hook.name] = program = self._stack.enter_context(load_programs(hook, self._maps, self._options.objects))
            _pin_over(program, self._options.directory / f"prog_{hook.name}")
        return self._loaded[hook.name]


def _attach_passing(options: Options, known: Map, each: Wanted, program: Callable[[str], int], settings: Settings) -> Iterator[str]:
    """Attach one of many: its errors do not concern the others, and it may be removed at any time."""
    try:
        yield from prepare(each.nic, settings)
        yield _attach(options, known, each.nic, each.mode, program)
    except (LoaderError, NicError, OSError) as error:
        known.delete_many([ID.pack(each.nic.index)])
        if (each.nic.index, each.nic.name) in socket.if_nameindex():
            yield f"{each.nic.name}: not attached: {error}"


def _attach(options: Options, known: Map, each: Nic, mode: str, program: Callable[[str], int]) -> str:
    """Attach one interface; its entry is written before a program sees a packet from it."""
    held = known.get(ID.pack(each.index))
    flags = Interface.unpack(held).flags if held else 0
    entry = Interface(each.mac, each.v4, each.v6, flags)
    known.put(ID.pack(each.index), entry.pack())
    kind = driver(each.name)
    mode, done = _choose(options, each, kind, program, flags) if mode == AUTO else (mode, "")
    done = done or attach(_link_pin(options, each.name), mode, program(mode), each, flags & ~INTERFACE_STACK)
    overlay = INTERFACE_STACK if kind in _OVERLAYS else 0
    known.put(ID.pack(each.index), replace(entry, flags=MODES[mode] | overlay).pack())
    return f"{each.name}: {done}"


def _attach_egress(options: Options, known: Map, each: Nic, program: Callable[[str], int]) -> None:
    """Attach the egress program: what this machine sends to a VIP comes back by the same interface, unseen by native XDP."""
    path = _egress_pin(options, each.name)
    held = known.get(ID.pack(each.index))
    if held and Interface.unpack(held).flags & ~INTERFACE_STACK:
        drop_link(path)
    else:
        attach_egress(path, program("egress"), each)


def _choose(options: Options, each: Nic, kind: str, program: Callable[[str], int], flags: int) -> tuple[str, str]:
    """Return XDP where the driver accepts it, which only a try shows; a try that fails because ours is attached counts as accepted.

    flags: how the interface is attached now.  A try that succeeds stays, since a NIC resets its rings each time XDP is attached or
    detached: the second result then says what was done.
    """
    if kind in _BETTER_ON_TC | _OVERLAYS:
        return "tc", ""
    trial = options.directory / f"try_{each.index}"
    try:
        done = attach(trial, "xdp", program("xdp"), each, 0)
    except LoaderError:
        return ("xdp" if flags & MODES["xdp"] else "tc"), ""
    drop_link(_link_pin(options, each.name))  # of tc, or of a removed interface; only now, so that there is no gap
    trial.rename(_link_pin(options, each.name))
    return "xdp", done


def detach(pins: Path, record: Path | None = None) -> Iterator[str]:
    """Remove every link, program and map; forwarding ends here.  Pins of other layouts are removed, too, and changed settings restored."""
    for directory in sorted(pins.glob("v*")):
        yield from _remove(directory)
    if pins.exists():
        pins.rmdir()
    yield from Settings(record).put_back()


def _remove(directory: Path) -> Iterator[str]:
    """Remove the pins of one layout, links first."""
    for held in sorted(directory.iterdir(), key=lambda path: (not path.name.startswith(("link_", "egress_")), path.name)):
        if held.name.startswith("egress_"):
            drop_link(held)
        elif held.name.startswith("link_"):
            drop_link(held)
            yield f"{_interface_of(held)}: detached"
        else:
            held.unlink()
    directory.rmdir()


def _pin_over(fd: int, path: Path) -> None:
    """Pin, and replace what is pinned there already."""
    fresh = path.with_name("new_" + path.name)
    fresh.unlink(missing_ok=True)
    pin(fd, fresh)
    fresh.rename(path)
    path.chmod(0o600)


def _detach_others(options: Options, known: Map, wanted: Sequence[Wanted], settings: Settings) -> Iterator[str]:
    """Detach interfaces that are no longer requested, or were removed: they must not answer for VIPs."""
    pins = {_link_pin(options, each.nic.name) for each in wanted}
    for path in sorted(options.directory.glob("link_*")):
        if path not in pins:
            drop_link(path)
            drop_link(_egress_pin(options, _interface_of(path)))
            yield f"{_interface_of(path)}: detached"
            yield from settings.put_back(_interface_of(path))
    indexes = {ID.pack(each.nic.index) for each in wanted}
    known.delete_many([key for key, _ in known.items() if key not in indexes])


def _interface_of(link: Path) -> str:
    return link.name.removeprefix("link_").replace("%", ".")


def _link_pin(options: Options, interface: str) -> Path:
    return options.directory / f"link_{interface.replace('.', '%')}"  # a VLAN's name has a dot, a pin cannot


def _egress_pin(options: Options, interface: str) -> Path:
    return options.directory / f"egress_{interface.replace('.', '%')}"


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m services.dataplane.load.loader", description=__doc__.partition("\n")[0])
    parser.add_argument("--pins", type=Path, default=Path(PINS), help="directory on a bpf file system (%(default)s)")
    words = "attach here: NAME, NAME=HOOK, or PREFIX* for those that come and go; may be repeated"
    parser.add_argument("--interface", action="extend", type=listed, default=[], help=words)
    parser.add_argument(
        "--hook", choices=CHOICES, default="tc", help="hook of interfaces that name none; auto: XDP where the driver has it"
    )
    parser.add_argument("--owner", type=int, help="uid that may open the maps (default: root only)")
    parser.add_argument("--conntrack", type=int, default=262_144, help="flows (%(default)s)")
    parser.add_argument("--frontends", type=int, default=65_536, help="frontends (%(default)s)")
    parser.add_argument("--backends", type=int, default=262_144, help="backends (%(default)s)")
    parser.add_argument("--record", type=Path, help="file that records changed settings of interfaces, to restore them (none)")
    parser.add_argument("--detach", action="store_true", help="remove links, programs and maps instead")
    return parser


def options_of(given: argparse.Namespace) -> Options:
    """Return the options of a command line."""
    maps = map_specs(given.conntrack, given.frontends, given.backends)
    return Options(tuple(given.interface), given.pins, given.hook, given.owner, maps, record=given.record)


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    try:
        for line in detach(given.pins, given.record) if given.detach else load(options_of(given)):
            print(line)
    except LoaderError as error:
        print(f"weir loader: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
