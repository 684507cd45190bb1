"""The maps that outlive every program: created once, and opened by each later loader if type and sizes are the same."""

import ctypes
import os
from errno import ENOMEM
from pathlib import Path

from services.dataplane.l4.layout import MapSpec
from services.dataplane.load.links import open_pin, pin
from services.dataplane.load.programs import LoaderError
from weir.pins import libbpf, map_info


class NoMemory(LoaderError):
    """The machine has too little memory, or the control group of the loader."""


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


def create_or_open(directory: Path, spec: MapSpec, owner: int | None = None) -> int:
    """Open the pinned map, or create it for root and `owner`; return its descriptor.  Raises LoaderError."""
    path = directory / spec.name
    if path.exists():
        return _reopen(path, spec)
    wishes = _MapOptions(sz=ctypes.sizeof(_MapOptions), map_flags=spec.flags)
    create = libbpf().bpf_map_create
    fd = int(create(spec.kind, spec.name.encode(), spec.key_size, spec.value_size, spec.max_entries, ctypes.byref(wishes)))
    if fd < 0:
        kind = NoMemory if -fd == ENOMEM else LoaderError
        raise kind(f"map {spec.name} of {spec.max_entries} entries: {os.strerror(-fd)}")
    pin(fd, path)
    path.chmod(0o600)
    if owner is not None:
        os.chown(path, owner, -1)
    return fd


def _reopen(path: Path, spec: MapSpec) -> int:
    fd = open_pin(path)
    info = map_info(fd, spec.name)
    found = (info.type, info.key_size, info.value_size, info.max_entries)
    wanted = (spec.kind, spec.key_size, spec.value_size, spec.max_entries)
    if found != wanted:
        os.close(fd)
        raise LoaderError(f"{path}: type, key, value and entries are {found}, wanted {wanted}: detach first to change a map")
    return fd
