"""Values of Envoy's API in their JSON form (proto3 JSON mapping): typed extensions, durations, and the files they are read from."""

from collections.abc import Mapping
from hashlib import blake2b

import msgspec

Json = dict[str, object]
_PACKAGE = "type.googleapis.com/envoy."
_READABLE = 80  # characters of a name that its file's name shows


def any_of(kind: str, fields: Mapping[str, object] | None = None) -> Json:
    """A google.protobuf.Any.   kind: "config.cluster.v3.Cluster", without the first package."""
    return {"@type": _PACKAGE + kind, **(fields or {})}


def extension(name: str, kind: str, fields: Mapping[str, object] | None = None) -> Json:
    """A TypedExtensionConfig, as filters and transport sockets are configured."""
    return {"name": name, "typed_config": any_of(kind, fields)}


def duration(ms: int) -> str:
    """A google.protobuf.Duration."""
    return f"{ms // 1000}.{ms % 1000:03}s" if ms % 1000 else f"{ms // 1000}s"


def file_name(name: str) -> str:
    """The name of the file for a resource: readable, and unique for any name."""
    readable = "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in name)[:_READABLE]
    return f"{readable}-{blake2b(name.encode(), digest_size=6).hexdigest()}.json"


class Files(msgspec.Struct, frozen=True):
    """The folders that Envoy reads from: `folder` outlives a reboot, `secrets` is memory."""

    folder: str
    secrets: str

    def listeners(self) -> str:
        """LDS: all listeners."""
        return f"{self.folder}/lds/listeners.json"

    def clusters(self) -> str:
        """CDS: all clusters."""
        return f"{self.folder}/cds/clusters.json"

    def routes(self, name: str) -> str:
        """RDS: one route configuration."""
        return f"{self.folder}/rds/{file_name(name)}"

    def endpoints(self, name: str) -> str:
        """EDS: the endpoints of one cluster."""
        return f"{self.folder}/eds/{file_name(name)}"

    def bootstrap(self) -> str:
        """What Envoy is started with."""
        return f"{self.folder}/bootstrap.json"

    def path(self, kind: str, name: str = "") -> str:
        """The file of a resource.   kind: lds, rds, cds, eds."""
        match kind:
            case "lds":
                return self.listeners()
            case "cds":
                return self.clusters()
            case "rds":
                return self.routes(name)
        return self.endpoints(name)

    def secret(self, name: str) -> str:
        """SDS: one certificate and its key."""
        return f"{self.secrets}/{file_name(name)}"


def source(path: str) -> Json:
    """A ConfigSource: the file at `path`, read again when a file is renamed to it."""
    return {"resource_api_version": "V3", "path_config_source": {"path": path}}


def secret_config(files: Files, name: str) -> Json:
    """An SdsSecretConfig."""
    return {"name": name, "sds_config": source(files.secret(name))}
