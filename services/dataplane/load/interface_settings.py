"""The settings of an interface that forwarding needs, and how they are restored.

Each change is on disk before it is made: the old value and the new one.  So `weir down` restores the machine as it was, after any number
of loads.  After a reboot, and for a new interface of the same name, the machine's own values apply: older records are dropped.
"""

import fcntl
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from services.dataplane.load.interfaces import Nic, NicError
from weir.where import write_file

SYSCTLS = Path(os.environ.get("WEIR_SYSCTLS", "/proc/sys/net"))  # a container's own is read-only
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_ALLMULTI = 0x8913, 0x8914, 0x200
ALLMULTI = "allmulti"
# A neighbour in use is probed again after 1 to 3 s, and dropped within 2 s more: so the kernel finds a MAC that changed without an
# announcement in about 5 s, where its defaults (30 s, 5 s, 1 s) take up to a minute.
_NEIGHBOURS = {"base_reachable_time_ms": "2000", "delay_first_probe_time": "1", "retrans_time_ms": "250"}


class Change(msgspec.Struct, frozen=True):
    """what: a path below /proc/sys/net, or ALLMULTI."""

    interface: str
    index: int
    what: str
    before: str
    ours: str


class _Record(msgspec.Struct, frozen=True):
    boot: str
    changes: list[Change]


class Settings:
    """The settings of this network namespace's interfaces.   path: the record; None: nothing is recorded, and nothing restored."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._changes = {(change.interface, change.what): change for change in _recorded(path)}

    def apply(self, nic: Nic, wanted: Mapping[str, str]) -> list[str]:
        """Set what differs; return what was changed.  A setting that the machine does not have is skipped.  Raises NicError."""
        held = {what: before for what in wanted if (before := _read(nic.name, what)) is not None}
        ours = {what: change.ours for (name, what), change in self._changes.items() if name == nic.name}
        differ = {what: before for what, before in held.items() if before not in (wanted[what], ours.get(what))}
        if not differ:
            return []
        try:
            self._record(nic, differ, wanted)
            for what in differ:
                _write(nic.name, what, wanted[what])
            self._record(nic, differ, {what: str(_read(nic.name, what)) for what in differ})  # the kernel rounds: 250 ms reads 252
        except OSError as error:
            raise NicError(f"{nic.name}: cannot change its settings, which forwarding needs: {error}") from error
        return list(differ)

    def put_back(self, interface: str | None = None) -> Iterator[str]:
        """Restore what was changed on `interface`, or on all; a value that something else changed since stays.  Yields a line for each."""
        for where, change in list(self._changes.items()):
            if interface in (None, change.interface):
                try:
                    if _read(change.interface, change.what) == change.ours:
                        _write(change.interface, change.what, change.before)
                        yield f"{change.interface}: {change.what.rpartition('/')[2]} set back to {change.before}"
                except OSError as error:
                    yield f"{change.interface}: {change.what} not set back to {change.before}: {error}"
                del self._changes[where]
        self._save()

    def _record(self, nic: Nic, before: Mapping[str, str], ours: Mapping[str, str]) -> None:
        self._changes |= {(nic.name, what): Change(nic.name, nic.index, what, value, ours[what]) for what, value in before.items()}
        self._save()

    def _save(self) -> None:
        if self._path and self._changes:
            write_file(self._path, msgspec.json.encode(_Record(_boot(), list(self._changes.values()))), sync=True)
        elif self._path:
            self._path.unlink(missing_ok=True)


def prepare(nic: Nic, settings: Settings) -> Iterator[str]:
    """Accept neighbour solicitations for VIPs, and let the kernel route packets from here; yield what changed.  Raises NicError."""
    v6 = f"ipv6/conf/{nic.name}"
    # A router ignores router advertisements unless configured otherwise; this one may depend on them.
    depends_on_them = _read(nic.name, f"{v6}/accept_ra") == "1" and _read(nic.name, f"{v6}/forwarding") == "0"
    # The stack forwards only if all interfaces do, or since Linux 6.17 if this one is forced to.
    wanted = {ALLMULTI: "1", **({f"{v6}/accept_ra": "2"} if depends_on_them else {}), f"{v6}/force_forwarding": "1"}
    for family in ("ipv4", "ipv6"):
        wanted[f"{family}/conf/{nic.name}/forwarding"] = "1"
        wanted |= {f"{family}/neigh/{nic.name}/{setting}": value for setting, value in _NEIGHBOURS.items()}
    changed = settings.apply(nic, wanted)
    if ALLMULTI in changed:
        yield f"{nic.name}: allmulti set"
    for family in ("ipv4", "ipv6"):
        if f"{family}/conf/{nic.name}/forwarding" in changed:
            yield f"{nic.name}: {family} forwarding set"


def _recorded(path: Path | None) -> list[Change]:
    """Return the changes of this boot whose interfaces are still the same."""
    try:
        record = msgspec.json.decode(path.read_bytes(), type=_Record) if path else None
    except (FileNotFoundError, msgspec.MsgspecError):
        return []
    present = socket.if_nameindex()
    return [each for each in record.changes if (each.index, each.interface) in present] if record and record.boot == _boot() else []


def _boot() -> str:
    return _BOOT.read_text(encoding="ascii").strip()


def _read(interface: str, what: str) -> str | None:
    """Read a setting; None where it does not exist, for example because a family is disabled."""
    if what == ALLMULTI:
        return "1" if _flags(interface) & _IFF_ALLMULTI else "0"
    try:
        return (SYSCTLS / what).read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None


def _write(interface: str, what: str, value: str) -> None:
    if what != ALLMULTI:
        (SYSCTLS / what).write_text(value, encoding="ascii")
        return
    flags = _flags(interface) & ~_IFF_ALLMULTI | (_IFF_ALLMULTI if value == "1" else 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as via:
        fcntl.ioctl(via, _SIOCSIFFLAGS, struct.pack("=16sH14x", interface.encode(), flags))


def _flags(interface: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as via:
        answer = fcntl.ioctl(via, _SIOCGIFFLAGS, struct.pack("=16s16x", interface.encode()))
    return int(struct.unpack("=16xH14x", answer)[0])
