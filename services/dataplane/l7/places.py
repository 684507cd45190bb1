"""Where the proxy of an installation has its files."""

from pathlib import Path

from services.dataplane.l7.protobuf import Files
from weir.where import Where


def files_of(where: Where) -> Files:
    """Configuration outlives a reboot; certificates and keys are in memory."""
    return Files(str(where.state / "envoy"), str(where.run / "envoy" / "sds"))


def admin_of(where: Where) -> str:
    """The socket of Envoy's admin interface."""
    return str(where.run / "envoy" / "admin.sock")


def keeper_options(where: Where) -> list[str]:
    """Of the keeper's command line."""
    run: Path = where.run / "envoy"
    return ["--run", str(run), "--bootstrap", files_of(where).bootstrap(), "--log", str(where.state / "envoy.log")]
