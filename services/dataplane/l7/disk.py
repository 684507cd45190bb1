"""The files that Envoy reads.  A file changes by renaming, and only where its content differs; its version is a digest of that.

So an agent that starts again writes nothing that is there already, and Envoy's word on a version is the word on a content.
"""

import os
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path

import msgspec

from services.dataplane.l7.protobuf import any_of
from weir.where import sync_folder, write_file

_TYPES = {
    "lds": "config.listener.v3.Listener",
    "rds": "config.route.v3.RouteConfiguration",
    "cds": "config.cluster.v3.Cluster",
    "eds": "config.endpoint.v3.ClusterLoadAssignment",
    "sds": "extensions.transport_sockets.tls.v3.Secret",
}
_HEADS = {kind: msgspec.json.encode(any_of(name))[:-1] + b"," for kind, name in _TYPES.items()}
_HEAD_BYTES = 64


class _Response(msgspec.Struct):
    resources: list[msgspec.Raw]


class _Named(msgspec.Struct):
    name: str


class Disk:
    """What is written, and in which version."""

    def __init__(self) -> None:
        self._versions: dict[str, str] = {}
        self._unsynced: set[str] = set()

    def put(self, path: str, kind: str, resources: Sequence[bytes], *, secret: bool = False) -> str:
        """Writes a file of resources in JSON, each an object; returns its version.  Raises OSError."""
        body = b"[" + b",".join(_HEADS[kind] + each[1:] for each in resources) + b"]"
        version = blake2b(body, digest_size=8).hexdigest()
        if self.version(path) != version:
            write_file(Path(path), b'{"version_info":"' + version.encode() + b'","resources":' + body + b"}", secret=secret)
            self._versions[path] = version
            if not secret:
                self._unsynced.add(path)
        return version

    def version(self, path: str) -> str:
        """The version that the file has; empty where there is none of ours."""
        if path not in self._versions:
            try:
                with open(path, "rb") as file:
                    parts = file.read(_HEAD_BYTES).split(b'"')
            except FileNotFoundError:
                return ""
            self._versions[path] = parts[3].decode() if len(parts) > 3 else ""
        return self._versions[path]

    def read(self, path: str, kind: str) -> dict[str, bytes]:
        """The resources of a file as they were put there, by name; none where there is none of ours."""
        try:
            found = msgspec.json.decode(Path(path).read_bytes(), type=_Response)
        except (FileNotFoundError, msgspec.MsgspecError):
            return {}
        contents = (bytes(raw) for raw in found.resources if bytes(raw).startswith(_HEADS[kind]))
        plain = [b"{" + content[len(_HEADS[kind]) :] for content in contents]
        return {msgspec.json.decode(content, type=_Named).name: content for content in plain}

    def remove(self, path: str) -> None:
        """The file is of no more use."""
        self._versions.pop(path, None)
        self._unsynced.discard(path)
        Path(path).unlink(missing_ok=True)

    def keep_only(self, folder: str, paths: Iterable[str]) -> None:
        """Removes what else is in `folder`, such as what a killed agent left."""
        kept = set(paths)
        if Path(folder).is_dir():
            for entry in list(os.scandir(folder)):
                if entry.path not in kept:
                    self.remove(entry.path)

    def sync(self) -> None:
        """What was written survives a power loss."""
        paths, self._unsynced = self._unsynced, set()
        for path in paths:
            try:
                opened = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                continue
            try:
                os.fsync(opened)
            finally:
                os.close(opened)
        for folder in {os.path.dirname(path) for path in paths}:
            sync_folder(Path(folder))
