"""Paths of an installation, and how its files are written.  Light to import: every command begins here."""

import os
from functools import partial
from pathlib import Path

import msgspec


class Where(msgspec.Struct, frozen=True):
    """One installation on this machine; all its paths follow from its name."""

    instance: str = "weir"

    @property
    def state(self) -> Path:
        """State that outlives a reboot: the log's store, the last plan, logs."""
        return Path("/var/lib") / self.instance

    @property
    def run(self) -> Path:
        """State that does not: pids, and the services' reports on themselves."""
        return Path("/run") / self.instance

    @property
    def pins(self) -> Path:
        """Programs, maps and links of the packet path."""
        return Path("/sys/fs/bpf") / self.instance

    @property
    def settings(self) -> Path:
        """What the loader changed on interfaces, until it is put back."""
        return self.state / "settings.json"

    def nats_url(self) -> str:
        """Where the log is; WEIR_NATS overrides the embedded one."""
        named = self.state / "nats.url"
        return os.environ.get("WEIR_NATS") or (named.read_text().strip() if named.exists() else "nats://127.0.0.1:4222")


class Health(msgspec.Struct, frozen=True, omit_defaults=True):
    """A service's report on itself, in `run`/NAME.json; rewritten every second while its event loop turns."""

    service: str
    pid: int
    state: str  # starting | standby | following | degraded; of weir up itself: starting, then up
    reason: str = ""
    beat_s: float = 0.0  # when it was written, by the monotonic clock
    position: int = 0  # sequence of the last event it has consumed
    kinds: tuple[str, ...] = ()  # that it consumes


def node_name(text: str) -> str:
    """A machine's name as Kubernetes names its Node: in lower case (kubelet lowers the hostname)."""
    return text.strip().lower()


def write_file(path: Path, content: bytes, *, sync: bool = False, secret: bool = False) -> None:
    """Write a file atomically: a reader sees the old content or the new, never a part.

    sync: it survives a power loss.   secret: readable by its owner alone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")  # one writer per file, so one name: what a kill leaves is overwritten
    temporary.unlink(missing_ok=True)
    with open(temporary, "wb", opener=partial(os.open, mode=0o600 if secret else 0o644)) as file:
        file.write(content)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)
    if sync:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames, creations and removals in a folder survive a power loss."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def listen_address(text: str) -> tuple[str, int]:
    """`127.0.0.1:9600`, `[::1]:9600`; brackets may be left out: the last colon is that of the port.  Raises ValueError."""
    host, _, port = text.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError(f"got {text!r}, expected ADDRESS:PORT, as in 127.0.0.1:9600")
    return host.strip("[]"), int(port)
