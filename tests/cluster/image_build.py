"""`make images`: OCI images of Weir, and of what clusters of the tests run besides, built by buildah with nothing pulled.

debian:bookworm-slim is made here, by mmdebstrap from Debian's archive.  Layers are kept outside the tree, and so are finished images,
in one OCI layout named after the content of all that went into it.
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from services.dataplane.l7.judge import envoy_binary
from tests.cluster.binaries import ROOT, BuildError, cache, install, module

DEPLOY, HERE = ROOT / "deploy", Path(__file__).parent
PROXY = DEPLOY / "components" / "proxy" / "kustomization.yaml"
FRR = DEPLOY / "components" / "bgp" / "kustomization.yaml"
RECIPE, TESTS_RECIPE = DEPLOY / "images" / "weir.Dockerfile", HERE / "testdata" / "images.Dockerfile"
PAUSE, BACKEND, TOOLS = "localhost/pause:1", ("docker.io/weir/backend:1", "docker.io/weir/backend:2"), "docker.io/weir/tools:1"
_DEBIAN = "docker.io/library/debian:bookworm-slim"
_SUITE = "bookworm"
_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
_KEPT = 4  # finished layouts, the newest: other checkouts may be at work on theirs
_SLIM = (  # as the image of that name has it
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
)
_PRIVATE = ("unshare", "--mount", "--propagation", "private")  # no mount of a build outlives it


def weir_images() -> dict[str, str]:
    """Target of the Dockerfile -> the image's whole name, with the tag that the manifests use."""
    return {name.removeprefix("weir-"): f"docker.io/library/{name}:{tag}" for name, tag in _tags(DEPLOY / "base" / "kustomization.yaml")}


def proxy_image() -> str:
    """The whole name of Envoy's image."""
    ((name, tag),) = _tags(PROXY)
    return f"docker.io/{name}:{tag}"


def frr_image() -> str:
    """The whole name of the image with FRR."""
    ((name, tag),) = _tags(FRR)
    return f"docker.io/library/{name}:{tag}"


def _tags(kustomization: Path) -> list[tuple[str, str]]:
    return [(one["name"], one["newTag"]) for one in yaml.safe_load(kustomization.read_text())["images"]]


def layout() -> Path:
    """The OCI layout with every image, built first unless it exists.  Raises BuildError."""
    folder = cache() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    found = folder / f"layout-{_digest()}"
    if not found.exists():
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not found.exists():
                _build(folder, found)
    os.utime(found)
    return found


def sizes(found: Path) -> dict[str, int]:
    """Bytes of each image of a layout, unpacked."""
    blobs = found / "blobs" / "sha256"
    manifests = {one["annotations"]["org.opencontainers.image.ref.name"]: _read(blobs, one) for one in _index(found)}
    return {name: sum(layer["size"] for layer in manifest["layers"]) for name, manifest in manifests.items()}


def _index(found: Path) -> list[dict[str, Any]]:
    index: list[dict[str, Any]] = json.loads((found / "index.json").read_text())["manifests"]
    return index


def _read(blobs: Path, descriptor: dict[str, Any]) -> dict[str, Any]:
    """The manifest that an index names."""
    found: dict[str, Any] = json.loads((blobs / descriptor["digest"].removeprefix("sha256:")).read_text())
    return found


# ── building ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _build(folder: Path, found: Path) -> None:
    print("building images: about 3 minutes on a new machine, 30 s after a change of Weir", file=sys.stderr, flush=True)
    install("buildah", "skopeo", "mmdebstrap")
    layouts = sorted(folder.glob("layout-*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in layouts[_KEPT - 1 :]:
        shutil.rmtree(old)
    new = folder / "new"
    shutil.rmtree(new, ignore_errors=True)
    if layouts:  # layers that have not changed are not written again
        new.mkdir()
        subprocess.run(["cp", "-al", layouts[0] / "blobs", new], check=True)
        (new / "oci-layout").write_text((layouts[0] / "oci-layout").read_text())
    with Builder(folder) as builder:
        builder.debian()
        names = weir_images()
        nats = names.pop("nats")
        builder.build(RECIPE, "weir", ROOT, names.pop("weir"), "localhost/weir:latest")  # and with it what the others share
        with _context() as context, ThreadPoolExecutor(4) as several:
            others = {"pause": (PAUSE,), "nats": (nats,), "tools": (TOOLS,), "backend": BACKEND, "envoy": (proxy_image(),)}
            names["frr"] = frr_image()
            made = [several.submit(builder.build, RECIPE, target, ROOT, name) for target, name in names.items()]
            made += [several.submit(builder.build, TESTS_RECIPE, target, context, *tags) for target, tags in others.items()]
            for each in made:
                each.result()
        builder.copy([*weir_images().values(), proxy_image(), frr_image(), PAUSE, TOOLS, *BACKEND], new)
    _remove_unnamed(new)
    new.rename(found)


def _remove_unnamed(found: Path) -> None:
    """Blobs of a layout that no image of it has."""
    blobs = found / "blobs" / "sha256"
    named = set()
    for manifest in _index(found):
        parts = _read(blobs, manifest)
        named |= {one["digest"].removeprefix("sha256:") for one in (manifest, parts["config"], *parts["layers"])}
    for path in blobs.iterdir():
        if path.name not in named:
            path.unlink()


class Builder:
    """buildah with a storage of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._scratch = contextlib.ExitStack()

    def __enter__(self) -> "Builder":
        self._run = Path(self._scratch.enter_context(tempfile.TemporaryDirectory()))
        self._policy, settings = self._run / "policy.json", self._run / "uv.toml"
        self._policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        settings.write_text("system-certs = true\n")
        # What this machine takes for true counts inside too: its certificate authorities, its package index.
        shared = {
            _AUTHORITIES: "/usr/local/share/ca-certificates/machine.crt",
            settings: "/etc/uv/uv.toml",
            Path("/etc/pip.conf"): "/etc/pip.conf",
        }
        self._volumes = [f"--volume={path}:{inside}:ro" for path, inside in shared.items() if path.exists()]
        self._buildah("rm", "--all")  # of a build that was killed
        return self

    def __exit__(self, *_: object) -> None:
        self._scratch.close()

    def debian(self) -> None:
        """The base of every image, of this month."""
        packed = self._folder / f"debian-{_month()}.tar"
        if not packed.exists():
            for old in self._folder.glob("debian-*.tar"):
                old.unlink()
            self._buildah("rmi", "--all", "--force")  # with it goes what was built on the last month's
            self._debootstrap(packed)
        context = self._run / "debian"
        context.mkdir()
        (context / "Dockerfile").write_text('FROM scratch\nADD debian.tar /\nCMD ["bash"]\n')
        shutil.copyfile(packed, context / "debian.tar")
        self.build(context / "Dockerfile", "", context, _DEBIAN)

    def build(self, recipe: Path, target: str, context: Path, *names: str) -> None:
        words = ["--quiet", "--pull-never", "--layers", "--force-rm", "--isolation=chroot", "--network=host"]
        words += [f"--cni-config-dir={self._run}"]
        words += [f"--signature-policy={self._policy}", *self._volumes, *(f"--tag={name}" for name in names)]
        words += [f"--target={target}"] if target else []
        self._buildah("bud", *words, "--file", str(recipe), str(context))

    def copy(self, names: Sequence[str], to: Path) -> None:
        """Into an OCI layout, uncompressed: nothing of it travels."""
        storage = f"containers-storage:[overlay@{self._folder}/storage+{self._run}/storage]"
        words = ["skopeo", "copy", "--quiet", "--policy", str(self._policy), "--dest-oci-accept-uncompressed-layers"]
        unseen = ("sh", "-euc", 'mount -t tmpfs none /var/lib/containers; exec "$@"', "sh")  # skopeo's notes on layers
        for name in names:
            _call(*unseen, *words, storage + name, f"oci:{to}:{name}")

    def _debootstrap(self, packed: Path) -> None:
        settings, new = self._run / "apt.conf", self._run / "debian.tar"
        settings.write_text(_acquire())
        words = ["mmdebstrap", "--quiet", "--variant=minbase", "--include=usr-is-merged", f"--aptopt={settings}"]
        words += ["--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr", *(f"--dpkgopt={one}" for one in _SLIM)]
        _call(*words, _SUITE, str(new))
        shutil.move(new, packed)

    def _buildah(self, *words: str) -> None:
        places = ("--root", str(self._folder / "storage"), "--runroot", str(self._run / "storage"), "--storage-driver", "overlay")
        _call("buildah", *places, *words)


def _acquire() -> str:
    """How packages are fetched on this machine (proxies, checks of dates)."""
    words = ("apt-config", "dump", "--no-empty", "--format", '%F "%v";%n', "Acquire")
    lines = subprocess.run(words, text=True, capture_output=True, check=True).stdout.splitlines()
    here = ("Acquire::IndexTargets", "Acquire::GzipIndexes", "Acquire::Languages")
    return "".join(f"{line}\n" for line in lines if not line.startswith(here))


@contextlib.contextmanager
def _context() -> Iterator[Path]:
    """A folder with what the images of the tests are made of."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(Path(sys.executable).with_name("nats-server"), folder / "nats-server")
        shutil.copy(envoy_binary(), folder / "envoy")
        source = module("k8s.io/kubernetes") / "build" / "pause" / "linux" / "pause.c"
        subprocess.run(["gcc", "-Os", "-static", "-o", folder / "pause", source], check=True)
        (folder / "tests" / "cluster").mkdir(parents=True)
        for path in _ours():
            shutil.copy(path, folder / path.relative_to(ROOT))
        yield folder


def _ours() -> tuple[Path, ...]:
    """What the backend's image has of the tests."""
    return (ROOT / "tests" / "__init__.py", HERE / "__init__.py", HERE / "echo.py")


def _call(*words: str) -> None:
    done = subprocess.run([*_PRIVATE, "nice", *words], text=True, capture_output=True, check=False)
    if done.returncode:
        raise BuildError(f"`{' '.join(words)}`: {done.stdout.strip()[-2000:]} {done.stderr.strip()[-4000:]}")


def _month() -> str:
    return time.strftime("%Y-%m")


def _digest() -> str:
    """Of all that goes into the images."""
    found = hashlib.sha256(_month().encode())
    folders = [ROOT / name for name in ("weir", "services", "bpf")]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    single = [
        ROOT / "pyproject.toml",
        ROOT / "uv.lock",
        DEPLOY / "base" / "kustomization.yaml",
        PROXY,
        RECIPE,
        TESTS_RECIPE,
        Path(__file__),
        *_ours(),
    ]
    for path in (*sorted(files), *single):
        found.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return found.hexdigest()[:16]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.image_build", description=__doc__)
    parser.add_argument("--output", type=Path, help="folder that the OCI layout is copied to")
    args = parser.parse_args()
    if os.geteuid():
        sys.exit("images: buildah needs root here")
    try:
        found = layout()
    except BuildError as error:
        sys.exit(f"images: {error}")
    if args.output:
        shutil.rmtree(args.output, ignore_errors=True)
        shutil.copytree(found, args.output)
    for name, size in sorted(sizes(found).items()):
        print(f"{size / 1e6:8.1f} MB  {name}")
    blobs = sum(path.stat().st_size for path in (found / "blobs" / "sha256").iterdir())
    print(f"{blobs / 1e6:8.1f} MB  all of them, for layers are shared: {args.output or found}")


if __name__ == "__main__":
    main()
