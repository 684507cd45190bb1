"""What must be there before a program can be loaded.  Imports no bcc, so that `weir check` can ask anywhere."""

import ctypes
import errno
import importlib.util
import os
import re
import sys
from pathlib import Path

from services.dataplane.migrate import CONVERTERS
from weir.pins import LAYOUT, libbpf

PINS = "/sys/fs/bpf/weir"
BPFFS = "/sys/fs/bpf"
NETNS = Path("/run/netns")
CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_BPF": 39}
_SYS_ADMIN = 21
OLDEST_KERNEL = (6, 6)  # tcx

_PIN_PATH = re.compile(r"/[A-Za-z0-9_/-]+")  # bpffs refuses dots


def preflight(pins: Path = Path(PINS), *, mount: bool = True) -> list[str]:
    """What stands in the way of loading, one line each.  Fixes what it can: the links to kernel headers, with `mount` that of bpffs.

    The findings with and without `mount` are the same, but for a mount that fails.
    """
    checks = (_check_kernel, _check_capabilities, _check_libbpf, _check_bcc, _check_headers, lambda: _check_pins(pins, mount=mount))
    return [problem for check in checks if (problem := check())]


def _check_kernel() -> str | None:
    release = os.uname().release
    version = tuple(int(part) for part in re.findall(r"\d+", release)[:2])
    return None if version >= OLDEST_KERNEL else f"kernel {release}: 6.6 or later is needed (tcx)"


def _check_capabilities() -> str | None:
    missing = [name for name, bit in CAPABILITIES.items() if not _may(bit)]
    return f"missing capability: {', '.join(missing)}" if missing else None


def _may(capability: int) -> bool:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    held = int(re.search(r"CapEff:\s+([0-9a-f]+)", status)[1], 16)  # type: ignore[index]
    return bool(held >> capability & 1)


def _check_libbpf() -> str | None:
    try:
        libbpf()
    except OSError:
        return "no libbpf.so.1: install the package libbpf1"
    return None


def _check_bcc() -> str | None:
    found = importlib.util.find_spec("bcc")
    return None if found else f"no bcc for Python {sys.version_info.major}.{sys.version_info.minor}: install python3-bpfcc"


def _check_headers() -> str | None:
    """bcc reads kernel headers by these two links; headers of any version will do, the programs use the user-space API only."""
    modules = Path("/lib/modules") / os.uname().release
    if (modules / "build").exists() and (modules / "source").exists():
        return None
    for build in sorted(Path("/usr/src").glob("linux-headers-*"), reverse=True):
        if (build / "include/generated").exists():
            common = build.with_name(build.name.rpartition("-")[0] + "-common")
            return _link_headers(modules, build, common if common.exists() else build)
    return "no kernel headers in /usr/src: install a linux-headers package, of any version"


def _link_headers(modules: Path, build: Path, source: Path) -> str | None:
    try:
        modules.mkdir(parents=True, exist_ok=True)
        for link, target in ((modules / "build", build), (modules / "source", source)):
            if not link.exists():
                link.unlink(missing_ok=True)  # it may dangle
                link.symlink_to(target)
    except OSError as error:
        return f"no kernel headers under {modules}, and linking {build} there failed: {error.strerror}"
    return None


def _check_pins(pins: Path, *, mount: bool) -> str | None:
    if not _PIN_PATH.fullmatch(str(pins)):
        return f"pin directory {str(pins)!r}: expected an absolute path of letters, digits, _ and -"
    if not pins.is_relative_to(BPFFS) and not _on_bpffs(pins):
        return f"pin directory {pins}: not on a bpf file system"
    if name := _netns_shell():
        return f"this shell is of ip netns exec {name}: pins would vanish with its mounts; use nsenter --net={NETNS / name}"
    if not _on_bpffs(pins) and (why := _unmounted(mount=mount)):
        return f"no bpf file system is mounted on {BPFFS}: mount -t bpf bpf {BPFFS} ({why})"
    known = {f"v{layout}" for layout in (*CONVERTERS, LAYOUT)}
    stale = sorted(path.name for path in pins.glob("v*") if path.name not in known)
    mend = f"take them off first (weir down --instance {pins.name})"
    return f"{pins} holds pins of layout {', '.join(stale)}, this is v{LAYOUT}: {mend}" if stale else None


def _unmounted(*, mount: bool) -> str:
    """Why bpffs cannot be mounted; "" where it is now, or without `mount` could be."""
    if not mount:
        return "" if _may(_SYS_ADMIN) else os.strerror(errno.EPERM)
    libc = ctypes.CDLL(None, use_errno=True)
    return os.strerror(ctypes.get_errno()) if libc.mount(b"bpf", BPFFS.encode(), b"bpf", 0, None) else ""


def _netns_shell() -> str:
    """The network namespace whose `ip netns exec` this process runs in: that mounts a sysfs over /sys, with its name as the source."""
    sources = [source for source, point, kind in _mounts() if (point, kind) == ("/sys", "sysfs")]
    return sources[-1] if sources and (NETNS / sources[-1]).exists() else ""


def _on_bpffs(path: Path) -> bool:
    above = [(point, kind) for _, point, kind in _mounts() if path.is_relative_to(point)]
    return max(above, key=lambda mount: len(mount[0]))[1] == "bpf"


def _mounts() -> list[list[str]]:
    """Source, mount point and type of each, the topmost last."""
    return [line.split()[:3] for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
