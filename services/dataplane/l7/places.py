"""Where the proxy of an installation has its files."""

from pathlib import Path

from services.dataplane.keeper import Kept, confined
from services.dataplane.l7.judge import envoy_binary
from services.dataplane.l7.protobuf import Files
from weir.where import Where


def files_of(where: Where) -> Files:
    """Configuration outlives a reboot; certificates and keys are in memory."""
    return Files(str(where.state / "envoy"), str(where.run / "envoy" / "sds"))


def admin_of(where: Where) -> str:
    """The socket of Envoy's admin interface."""
    return str(where.run / "envoy" / "admin.sock")


def kept(files: Files, log: Path) -> Kept:
    """Envoy, which may bind low ports and nothing else.  Raises NoEnvoy."""
    bootstrap = files.bootstrap()
    command = (*confined("net_bind_service"), envoy_binary(), "-c", bootstrap, "--disable-hot-restart", "-l", "warning")
    return Kept("envoy", command, Path(bootstrap), log)
