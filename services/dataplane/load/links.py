"""How a program is attached to an interface: by one pinned link each, which is updated to a new program atomically."""

import ctypes
import os
from pathlib import Path

from services.dataplane.l4.layout import INTERFACE_GENERIC, INTERFACE_NATIVE
from services.dataplane.load.interfaces import Nic
from services.dataplane.load.programs import HOOKS, Hook, LoaderError
from weir.pins import libbpf

_XDP_GENERIC, _XDP_NATIVE = 2, 4  # XDP_FLAGS_SKB_MODE, XDP_FLAGS_DRV_MODE
MODES = {"tc": 0, "xdp": INTERFACE_NATIVE, "xdp-generic": INTERFACE_GENERIC}
"""The hooks that an interface may be given, and their flag in the map `interfaces`."""


class _LinkOptions(ctypes.Structure):
    """struct bpf_link_create_opts of libbpf."""

    _fields_ = (("sz", ctypes.c_size_t), ("flags", ctypes.c_uint32), ("rest", ctypes.c_uint32 * 15))


class _LinkInfo(ctypes.Structure):
    """struct bpf_link_info of linux/bpf.h, as far as tcx and xdp fill it."""

    type: int
    ifindex: int
    _fields_ = [(name, ctypes.c_uint32) for name in ("type", "id", "prog_id", "pad", "ifindex", "attach_type")]


def hook_of(mode: str) -> Hook:
    """Return the hook of one of MODES."""
    return HOOKS[mode.partition("-")[0]]


def attach(path: Path, mode: str, program: int, nic: Nic, held: int) -> str:
    """Attach `program` to an interface, by the link pinned at `path`; return what was done.

    held: the flag of the mode it is attached in now.   Raises LoaderError.
    """
    hook = hook_of(mode)
    if path.exists() and held == MODES[mode] and _update_link(path, hook, program, nic):
        return f"{mode} program replaced"
    if path.exists() and hook.name == "xdp" and held:
        drop_link(path)  # an interface takes one XDP program: native and generic cannot overlap
    link = _create_link(mode, program, nic)
    drop_link(path)  # of another hook, or of a removed interface; only now, so that there is no gap
    pin(link, path)
    path.chmod(0o600)
    os.close(link)
    return f"{mode} program attached"


def attach_egress(path: Path, program: int, nic: Nic) -> None:
    """Attach `program` to what leaves by an interface, by the link pinned at `path`.  Raises LoaderError."""
    if path.exists() and _update_link(path, HOOKS["egress"], program, nic):
        return
    drop_link(path)
    link = _create_link("egress", program, nic)
    pin(link, path)
    path.chmod(0o600)
    os.close(link)


def drop_link(path: Path) -> None:
    """Detach at once: a link that is only unpinned is removed later, when the kernel frees it."""
    link = libbpf().bpf_obj_get(os.fsencode(path))
    if link >= 0:
        libbpf().bpf_link_detach(link)
        os.close(link)
    path.unlink(missing_ok=True)


def pin(fd: int, path: Path) -> None:
    """Raises LoaderError."""
    if code := libbpf().bpf_obj_pin(fd, os.fsencode(path)):
        raise LoaderError(f"pin {path}: {os.strerror(-code)}")


def open_pin(path: Path) -> int:
    """Open what is pinned there; return its descriptor.  Raises LoaderError."""
    fd = int(libbpf().bpf_obj_get(os.fsencode(path)))
    if fd < 0:
        raise LoaderError(f"{path}: {os.strerror(-fd)}")
    return fd


def is_on(path: Path, nic: Nic) -> bool:
    """Return whether a link of this interface is pinned there: a removed one leaves its link behind, and its index may be reused."""
    if not path.exists():
        return False
    link = open_pin(path)
    try:
        return _info(link).ifindex == nic.index
    finally:
        os.close(link)


def _update_link(path: Path, hook: Hook, program: int, nic: Nic) -> bool:
    """Update the pinned link to `program`, atomically.  Return False if it is not this hook's on this interface."""
    link = open_pin(path)
    try:
        info = _info(link)
        if (info.type, info.ifindex) != (hook.link_type, nic.index):
            return False
        if code := libbpf().bpf_link_update(link, program, None):
            raise LoaderError(f"{nic.name}: replacing the program: {os.strerror(-code)}")
        return True
    finally:
        os.close(link)


def _info(link: int) -> _LinkInfo:
    info = _LinkInfo()
    size = ctypes.c_uint32(ctypes.sizeof(info))
    libbpf().bpf_obj_get_info_by_fd(link, ctypes.byref(info), ctypes.byref(size))
    return info


def _create_link(mode: str, program: int, nic: Nic) -> int:
    wishes = _LinkOptions(sz=ctypes.sizeof(_LinkOptions), flags={"xdp": _XDP_NATIVE, "xdp-generic": _XDP_GENERIC}.get(mode, 0))
    link = int(libbpf().bpf_link_create(program, nic.index, hook_of(mode).attach_type, ctypes.byref(wishes)))
    if link < 0:
        raise LoaderError(f"{nic.name}: attaching to {mode}: {os.strerror(-link)}")
    return link
