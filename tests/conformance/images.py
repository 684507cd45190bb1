"""The images of the suite's pods, as an OCI layout: one static program each, nothing pulled."""

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from tests.cluster.binaries import binary, cache, module
from tests.cluster.image_build import PAUSE

_ECHO = tuple(f"registry.k8s.io/gateway-api/echo-basic:{tag}" for tag in ("v1.5.1", "v1.6.0-dev.2", "v1.6.0-dev.3"))
_DNS = "registry.k8s.io/coredns/coredns:v1.12.2"
_OCI = "application/vnd.oci.image"


def layout() -> Path:
    """The folder with every image, built first unless it exists.  Raises BuildError."""
    programs = {_ECHO: binary("echo-basic"), (_DNS,): binary("dns")}
    digest = hashlib.sha256("".join(str(path) for path in programs.values()).encode() + Path(__file__).read_bytes()).hexdigest()[:16]
    found = cache() / "conformance" / "images" / f"layout-{digest}"
    if not found.exists():
        new = found.with_name(f".{found.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        (new / "blobs" / "sha256").mkdir(parents=True)
        entries = [entry for names, path in programs.items() for entry in _image(new, path, names)]
        with tempfile.TemporaryDirectory() as scratch:
            entries += _image(new, _pause(Path(scratch)), (PAUSE,))
        (new / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
        (new / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        new.rename(found)
    return found


def _pause(folder: Path) -> Path:
    source = module("k8s.io/kubernetes") / "build" / "pause" / "linux" / "pause.c"
    subprocess.run(["gcc", "-Os", "-static", "-o", folder / "pause", source], check=True)
    return folder / "pause"


def _image(to: Path, program: Path, names: tuple[str, ...]) -> list[dict[str, object]]:
    """The entries of an index for an image that runs a program."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        entry = tarfile.TarInfo(program.name)
        entry.mode, entry.size = 0o755, program.stat().st_size
        with program.open("rb") as file:
            tar.addfile(entry, file)
    layer = _blob(to, packed.getvalue(), f"{_OCI}.layer.v1.tar")
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": [f"/{program.name}"]},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    }
    made = {
        "schemaVersion": 2,
        "mediaType": f"{_OCI}.manifest.v1+json",
        "config": _blob(to, json.dumps(config).encode(), f"{_OCI}.config.v1+json"),
        "layers": [layer],
    }
    manifest = _blob(to, json.dumps(made).encode(), f"{_OCI}.manifest.v1+json")
    return [{**manifest, "annotations": {"org.opencontainers.image.ref.name": name}} for name in names]


def _blob(to: Path, content: bytes, kind: str) -> dict[str, object]:
    digest = hashlib.sha256(content).hexdigest()
    (to / "blobs" / "sha256" / digest).write_bytes(content)
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}
