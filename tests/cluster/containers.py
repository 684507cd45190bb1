"""What a node's containerd starts with: a store with every image unpacked, made once, of which each node takes links."""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.binaries import BuildError, binary
from tests.cluster.image_build import layout
from weir.cli.box.supervise import die_with_parent
from weir.demo.network import wait_until

_CONTENT = Path("io.containerd.content.v1.content", "blobs", "sha256")
_SNAPSHOTS = Path("io.containerd.snapshotter.v1.overlayfs", "snapshots")
_DATABASES = (Path("io.containerd.metadata.v1.bolt", "meta.db"), Path("io.containerd.snapshotter.v1.overlayfs", "metadata.db"))
_UNUSED = (
    "io.containerd.nri.v1.nri",
    "io.containerd.snapshotter.v1.erofs",
    "io.containerd.differ.v1.erofs",
    "io.containerd.snapshotter.v1.blockfile",
)
_SERVERS = """
[plugins.'io.containerd.server.v1.grpc']
address = '{socket}'
[plugins.'io.containerd.server.v1.ttrpc']
address = '{socket}.ttrpc'
"""
_QUIET = ("nice",)
_CRI = ("io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime")
_KEPT = 3  # stores, the newest and all that are in use
_PATIENCE_S = 60


@contextlib.contextmanager
def store(images: Path | None = None) -> Iterator[Path]:
    """containerd's folder with every image, built first unless it exists; it stays for as long as the block lasts.  Raises BuildError.

    images: an OCI layout `layout-…`, in a folder `images` beside which the stores are kept; Weir's where none is named.
    """
    images = images or layout()
    folder = images.parents[1] / "stores"
    folder.mkdir(parents=True, exist_ok=True)
    name = images.name.removeprefix("layout-")
    with (folder / f".{name}.lock").open("w") as lock:
        found = folder / name
        fcntl.flock(lock, fcntl.LOCK_SH)
        if not found.exists():
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not found.exists():
                _remove_old(folder)
                _fill(images, found)
            fcntl.flock(lock, fcntl.LOCK_SH)
        os.utime(found)
        yield found


def take(store: Path, root: Path) -> None:
    """Makes `root` the folder of a containerd that has what the store has."""
    for path in _DATABASES:
        (root / path).parent.mkdir(parents=True)
        shutil.copyfile(store / path, root / path)
    for path in (_CONTENT, _SNAPSHOTS):
        (root / path).mkdir(parents=True)
        for each in (store / path).iterdir():
            (root / path / each.name).symlink_to(each)


def settings(root: Path, state: Path, disabled: tuple[str, ...] = ()) -> str:
    """The beginning of containerd's configuration."""
    return f"version = 4\nroot = '{root}'\nstate = '{state}'\ndisabled_plugins = {[*_UNUSED, *disabled]}\n"


def _fill(images: Path, found: Path) -> None:
    new = found.with_name(f".{found.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    if others := _stores(found.parent):
        _clone(others[0], new)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        socket = scratch / "containerd.sock"
        (scratch / "config.toml").write_text(settings(new, scratch / "state", _CRI) + _SERVERS.format(socket=socket))
        with _containerd(scratch, socket):
            ctr = [*_QUIET, str(binary("ctr")), "--address", str(socket), "--namespace", "k8s.io", "images"]
            with subprocess.Popen(["tar", "-C", images, "-c", "."], stdout=subprocess.PIPE) as packed:
                _call([*ctr, "import", "--local", "--digests=false", "-"], stdin=packed.stdout)
            for image in _call([*ctr, "ls", "-q"]).split():
                _call([*ctr, "label", image, "io.cri-containerd.image=managed"])
    new.rename(found)


def _clone(store: Path, new: Path) -> None:
    """A store of its own that starts with another's layers: files are shared, for none is ever written again, but for databases."""
    subprocess.run(["cp", "-al", store, new], check=True)
    for path in new.rglob("*.db"):
        path.unlink()
        shutil.copyfile(store / path.relative_to(new), path)


@contextlib.contextmanager
def _containerd(scratch: Path, socket: Path) -> Iterator[None]:
    """One that knows nothing of Kubernetes, in a mount namespace of its own."""
    private = ("unshare", "--mount", "--propagation", "private")
    argv = [*private, *_QUIET, str(binary("containerd")), "--config", str(scratch / "config.toml")]
    log = scratch / "log"
    with log.open("w") as out:
        process = subprocess.Popen(argv, stdout=out, stderr=out, preexec_fn=die_with_parent)
    try:
        if not wait_until(lambda: socket.exists() or process.poll() is not None, _PATIENCE_S) or process.poll() is not None:
            raise BuildError(f"containerd does not start: {log.read_text()[-2000:]}")
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _call(argv: list[str], stdin: object = None) -> str:
    done = subprocess.run(argv, stdin=stdin, text=True, capture_output=True, check=False)  # type: ignore[call-overload]
    if done.returncode:
        raise BuildError(f"`{' '.join(argv)}`: {done.stderr.strip()[-2000:]}")
    return str(done.stdout)


def _stores(folder: Path) -> list[Path]:
    """Finished ones, the newest first."""
    found = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def _remove_old(folder: Path) -> None:
    """Stores that no cluster uses, but for the newest, and what a killed run left unfinished."""
    for old in (*_stores(folder)[_KEPT - 1 :], *folder.glob(".*.new")):
        with (folder / f".{old.name.removesuffix('.new').lstrip('.')}.lock").open("w") as lock, contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(old)
