"""What a machine needs before a program can be loaded."""

import ctypes
import errno
import os
import re
from pathlib import Path

from weir.pins import LAYOUT, libbpf

PINS = "/sys/fs/bpf/weir"
BPFFS = "/sys/fs/bpf"
NETNS = Path("/run/netns")
CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_PERFMON": 38, "CAP_BPF": 39}
_SYS_ADMIN = 21
OLDEST_KERNEL = (6, 6)  # tcx; before it came bpf_cast_to_kern_ctx (6.2) and bpf_iter_num_new (6.4)
KERNEL_TYPES = Path("/sys/kernel/btf/vmlinux")

_PIN_PATH = re.compile(r"/[A-Za-z0-9_/-]+")  # bpffs refuses dots


def preflight(pins: Path = Path(PINS), *, mount: bool = True) -> list[str]:
    """Return what prevents loading, one line each.   mount: mount bpffs where it is missing.

    The findings with and without `mount` are the same, but for a mount that fails.
    """
    checks = (_check_kernel, _check_capabilities, _check_libbpf, _check_types, lambda: _check_pins(pins, mount=mount))
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


def _check_types() -> str | None:
    return None if KERNEL_TYPES.exists() else f"no {KERNEL_TYPES}: a kernel with CONFIG_DEBUG_INFO_BTF is needed"


def _check_pins(pins: Path, *, mount: bool) -> str | None:
    if not _PIN_PATH.fullmatch(str(pins)):
        return f"pin directory {str(pins)!r}: expected an absolute path of letters, digits, _ and -"
    if not pins.is_relative_to(BPFFS) and not _on_bpffs(pins):
        return f"pin directory {pins}: not on a bpf file system"
    if name := _netns_shell():
        return f"this shell is of ip netns exec {name}: pins would vanish with its mounts; use nsenter --net={NETNS / name}"
    if not _on_bpffs(pins) and (why := _unmounted(mount=mount)):
        return f"no bpf file system is mounted on {BPFFS}: mount -t bpf bpf {BPFFS} ({why})"
    stale = sorted(path.name for path in pins.glob("v*") if path.name != f"v{LAYOUT}")
    mend = f"take them off first (weir down --instance {pins.name})"
    return f"{pins} holds pins of layout {', '.join(stale)}, this is v{LAYOUT}: {mend}" if stale else None


def _unmounted(*, mount: bool) -> str:
    """Return why bpffs cannot be mounted; "" where it is now, or without `mount` could be."""
    if not mount:
        return "" if _may(_SYS_ADMIN) else os.strerror(errno.EPERM)
    libc = ctypes.CDLL(None, use_errno=True)
    return os.strerror(ctypes.get_errno()) if libc.mount(b"bpf", BPFFS.encode(), b"bpf", 0, None) else ""


def _netns_shell() -> str:
    """Return the network namespace whose `ip netns exec` this process runs in: that mounts a sysfs over /sys, with its name as source."""
    sources = [source for source, point, kind in _mounts() if (point, kind) == ("/sys", "sysfs")]
    return sources[-1] if sources and (NETNS / sources[-1]).exists() else ""


def _on_bpffs(path: Path) -> bool:
    above = [(point, kind) for _, point, kind in _mounts() if path.is_relative_to(point)]
    return max(above, key=lambda mount: len(mount[0]))[1] == "bpf"


def _mounts() -> list[list[str]]:
    """Return source, mount point and type of each mount, the topmost last."""
    return [line.split()[:3] for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
