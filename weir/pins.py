"""Pinned BPF maps, read and written through libbpf's syscall wrappers.

No bcc here: a process that holds maps this way costs a few megabytes.  Keys and values are bytes; `services/dataplane/l4/layout.py`
gives them names.  Who may open a pin is decided by its file mode, so opening needs no capability.
"""

import ctypes
import os
import socket
from collections.abc import Iterable, Iterator
from errno import E2BIG, EEXIST, EINVAL, ENOENT, ENOSPC, EOPNOTSUPP
from functools import cache
from itertools import islice
from typing import Self

LAYOUT = 4  # of every pinned map, and so the directory of the pins, `v4`; raised with any change of a size, an offset or a meaning

PROTOCOLS = {"TCP": socket.IPPROTO_TCP, "UDP": socket.IPPROTO_UDP, "SCTP": 132}
PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}
BATCH = 1024
ANY, NOEXIST, EXIST = 0, 1, 2  # flags of an update, as in linux/bpf.h

_V4_MAPPED = bytes(10) + b"\xff\xff"
_ENOTSUPP = 524  # the kernel's own, not in errno.h
_PER_CPU_TYPES = frozenset({5, 6, 10, 21})  # per-CPU hash, array, LRU hash, cgroup storage


class MapError(OSError):
    """A map operation failed.  `errno`: E2BIG the map is full, ENOENT no such pin, EACCES the pin is not ours to open."""

    def __init__(self, name: str, operation: str, code: int) -> None:
        words = "the map is full" if code == E2BIG else os.strerror(code)
        super().__init__(code, f"map {name}: {operation}: {words}")
        self.map = name
        self.operation = operation

    def __str__(self) -> str:
        return str(self.strerror)


class Map:
    """One pinned map.  Close it, or use it as a context manager; the pin keeps the map alive either way."""

    def __init__(self, fd: int, name: str) -> None:
        self.fd = fd
        self.name = name
        info = map_info(fd, name)
        self.kind = info.type
        self.key_size = info.key_size
        self.value_size = info.value_size
        self.max_entries = info.max_entries
        self.flags = info.map_flags
        self.per_cpu = self.kind in _PER_CPU_TYPES
        self._cpu_size = -(-info.value_size // 8) * 8
        self._value_bytes = self._cpu_size * possible_cpus() if self.per_cpu else info.value_size
        self._value_read = ctypes.create_string_buffer(self._value_bytes)  # one for all reads: `get` is of one thread
        self._lookup = libbpf().bpf_map_lookup_elem

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """The map pinned at `path`.  Raises MapError."""
        fd = libbpf().bpf_obj_get(os.fsencode(path))
        if fd < 0:
            raise MapError(os.fspath(path), "open", -fd)
        return cls(fd, os.path.basename(os.fspath(path)))

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, or None.  A per-CPU map gives all CPUs' values in one; see `split`."""
        if len(key) != self.key_size:  # written out: a cold start reads a million entries
            self._key(key)
        code = self._lookup(self.fd, key, self._value_read)
        if not code:
            return self._value_read.raw
        if code != -ENOENT:
            self._check("get", -code)
        return None

    def split(self, value: bytes) -> list[bytes]:
        """A per-CPU map's value, one item for each possible CPU."""
        return [value[at : at + self.value_size] for at in range(0, len(value), self._cpu_size)]

    def put(self, key: bytes, value: bytes) -> None:
        """Set `key`.  A per-CPU map wants all CPUs' values in one."""
        self._check("put", self._update(key, value, ANY))

    def put_new(self, key: bytes, value: bytes) -> bool:
        """Set `key` unless it exists; return whether it did."""
        code = self._update(key, value, NOEXIST)
        if code == EEXIST:
            return False
        self._check("put", code)
        return True

    def delete(self, key: bytes) -> bool:
        """Remove `key`; return whether it existed."""
        code = -libbpf().bpf_map_delete_elem(self.fd, self._key(key))
        if code == ENOENT:
            return False
        self._check("delete", code)
        return True

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Every entry.  The map may change meanwhile: a hash gives each entry that stays throughout exactly once."""
        for keys, values, got in self._batches():
            yield from self._pairs(keys, values, got)

    def filled(self) -> Iterator[tuple[bytes, bytes]]:
        """Entries that are not all zeros: of an array, which has every key from the start, those that were written."""
        zeros = bytes(self._value_bytes)
        for keys, values, got in self._batches():
            if values.count(0) < len(values):
                yield from ((key, value) for key, value in self._pairs(keys, values, got) if value != zeros)

    def count(self) -> int:
        """How many entries there are, by going through all of them: the kernel keeps no number."""
        return sum(got for _, _, got in self._batches())

    def _batches(self) -> Iterator[tuple[bytes, bytes, int]]:
        """Keys, values and how many of them, BATCH at a time."""
        count = min(BATCH, self.max_entries)
        before: ctypes.Array[ctypes.c_char] | None = None
        while True:
            after = ctypes.create_string_buffer(max(self.key_size, 4))
            keys = ctypes.create_string_buffer(self.key_size * count)
            values = ctypes.create_string_buffer(self._value_bytes * count)
            got = ctypes.c_uint32(count)
            code = -libbpf().bpf_map_lookup_batch(self.fd, before, after, keys, values, ctypes.byref(got), None)
            if code == ENOSPC:  # one bucket holds more than fits
                count *= 2
                continue
            if code in (EINVAL, EOPNOTSUPP, _ENOTSUPP) and before is None:
                yield from ((key, value, 1) for key, value in self._items_one_by_one())
                return
            if code != ENOENT:
                self._check("items", code)
            yield keys.raw, values.raw, got.value
            if code == ENOENT:
                return
            before = after

    def put_many(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        """Set every pair, BATCH to a syscall.  Not atomic: on MapError those before the fault are set."""
        pairs = iter(pairs)
        while chunk := list(islice(pairs, BATCH)):
            for key, value in chunk:
                self._key(key), self._value(value)
            keys, values = map(b"".join, zip(*chunk, strict=True))
            done = ctypes.c_uint32(len(chunk))
            code = -libbpf().bpf_map_update_batch(self.fd, keys, values, ctypes.byref(done), None)
            if code in (EINVAL, EOPNOTSUPP, _ENOTSUPP):
                for key, value in chunk:
                    self.put(key, value)
            else:
                self._check("put", code)

    def delete_many(self, keys: Iterable[bytes]) -> None:
        """Remove the keys; those that are not there are no fault."""
        keys = iter(keys)
        while chunk := list(islice(keys, BATCH)):
            while chunk:
                done = ctypes.c_uint32(len(chunk))
                joined = b"".join(self._key(key) for key in chunk)
                code = -libbpf().bpf_map_delete_batch(self.fd, joined, ctypes.byref(done), None)
                if code in (EINVAL, EOPNOTSUPP, _ENOTSUPP):
                    for key in chunk:
                        self.delete(key)
                    break
                if code != ENOENT:
                    self._check("delete", code)
                chunk = chunk[done.value + 1 :] if code == ENOENT else []

    def _items_one_by_one(self) -> Iterator[tuple[bytes, bytes]]:
        before: bytes | None = None
        while True:
            after = ctypes.create_string_buffer(self.key_size)
            code = -libbpf().bpf_map_get_next_key(self.fd, before, after)
            if code == ENOENT:
                return
            self._check("items", code)
            before = after.raw
            value = self.get(before)
            if value is not None:  # deleted between the two calls
                yield before, value

    def _pairs(self, keys: bytes, values: bytes, count: int) -> Iterator[tuple[bytes, bytes]]:
        key_size, value_size = self.key_size, self._value_bytes
        for at in range(count):
            yield keys[at * key_size : (at + 1) * key_size], values[at * value_size : (at + 1) * value_size]

    def _update(self, key: bytes, value: bytes, flags: int) -> int:
        return -int(libbpf().bpf_map_update_elem(self.fd, self._key(key), self._value(value), flags))

    def _key(self, key: bytes) -> bytes:
        if len(key) != self.key_size:
            raise ValueError(f"map {self.name}: key of {len(key)} bytes, expected {self.key_size}")
        return key

    def _value(self, value: bytes) -> bytes:
        if len(value) != self._value_bytes:
            raise ValueError(f"map {self.name}: value of {len(value)} bytes, expected {self._value_bytes}")
        return value

    def _check(self, operation: str, code: int) -> None:
        if code > 0:
            raise MapError(self.name, operation, code)


class MapInfo(ctypes.Structure):
    """struct bpf_map_info of linux/bpf.h, as far as it is used."""

    type: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    map_flags: int
    _fields_ = [(name, ctypes.c_uint32) for name in ("type", "id", "key_size", "value_size", "max_entries", "map_flags")]


def map_info(fd: int, name: str) -> MapInfo:
    """Type and sizes of the map behind `fd`.  Raises MapError when it is no map."""
    info = MapInfo()
    size = ctypes.c_uint32(ctypes.sizeof(info))
    code = -libbpf().bpf_obj_get_info_by_fd(fd, ctypes.byref(info), ctypes.byref(size))
    if code:
        raise MapError(name, "info", code)
    return info


def address_bytes(address: str) -> bytes:
    """`address` in the 16 bytes every map uses; IPv4 is v4-mapped.  Raises ValueError."""
    try:
        if ":" in address:
            return socket.inet_pton(socket.AF_INET6, address)
        return _V4_MAPPED + socket.inet_pton(socket.AF_INET, address)
    except OSError as error:
        raise ValueError(f"address {address!r}: expected IPv4 or IPv6") from error


def address_text(address: bytes) -> str:
    """The canonical text of 16 bytes."""
    if address.startswith(_V4_MAPPED):
        return socket.inet_ntop(socket.AF_INET, address[12:])
    return socket.inet_ntop(socket.AF_INET6, address)


def backend_key(address: str, port: int, protocol: str) -> bytes:
    """Key of `backend_up` and `backend_ids`; `frontends` has the same shape.  protocol: TCP, UDP or SCTP, in any case."""
    number = PROTOCOLS.get(protocol.upper())
    if number is None:
        raise ValueError(f"protocol {protocol!r}: expected one of {', '.join(PROTOCOLS)}")
    return address_bytes(address) + port.to_bytes(2, "big") + bytes((number, 0))


@cache
def libbpf() -> ctypes.CDLL:
    """libbpf.so.1; its functions return 0 or a file descriptor, or -errno."""
    library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    pointer, number, word = ctypes.c_void_p, ctypes.c_int, ctypes.c_uint64
    library.bpf_map_lookup_elem.argtypes = [number, pointer, pointer]
    library.bpf_map_update_elem.argtypes = [number, pointer, pointer, word]
    library.bpf_map_delete_elem.argtypes = [number, pointer]
    library.bpf_map_get_next_key.argtypes = [number, pointer, pointer]
    library.bpf_map_lookup_batch.argtypes = [number, pointer, pointer, pointer, pointer, pointer, pointer]
    library.bpf_map_update_batch.argtypes = [number, pointer, pointer, pointer, pointer]
    library.bpf_map_delete_batch.argtypes = [number, pointer, pointer, pointer]
    return library


@cache
def possible_cpus() -> int:
    """How many values a per-CPU map keeps for each key."""
    with open("/sys/devices/system/cpu/possible", encoding="ascii") as file:
        return 1 + max(int(part.rpartition("-")[2]) for part in file.read().strip().split(","))
