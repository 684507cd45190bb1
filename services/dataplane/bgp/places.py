"""Where FRR of an installation has its files and sockets, and how its daemons are started."""

import grp
import pwd
import shutil
from pathlib import Path
from typing import Final

from services.dataplane.keeper import Kept, confined
from weir.where import Where

DAEMONS: Final = ("bgpd", "bfdd", "zebra")  # in the order in which their files are written: with the last, they start
GROUP: Final = "frrvty"  # of the package: whoever may speak to the daemons
_USER: Final = "frr"
_FOLDERS: Final = ("/usr/lib/frr", "/usr/libexec/frr")  # Debian's, and others'
_CAPABILITIES: Final = "net_admin,net_bind_service,net_raw,sys_admin"  # all three daemons refuse to start without


def config_of(where: Where, daemon: str) -> Path:
    """What a daemon reads when it starts; it outlives a reboot."""
    return where.state / "frr" / f"{daemon}.conf"


def socket_of(where: Where, daemon: str) -> Path:
    """Where a daemon takes commands."""
    return where.run / "frr" / f"{daemon}.vty"


def kept(where: Where) -> list[Kept]:
    """The daemons, which run as the user of FRR's package; none where it is not installed."""
    folder = next((path for text in _FOLDERS if (path := Path(text)).joinpath("bgpd").exists()), None)
    try:
        pwd.getpwnam(_USER), grp.getgrnam(GROUP)
    except KeyError:
        return []
    return [_kept(where, folder, daemon) for daemon in DAEMONS] if folder else []


def _kept(where: Where, folder: Path, daemon: str) -> Kept:
    """The others wait for zebra: they would try again only after 10 s."""
    run, config = where.run / "frr", config_of(where, daemon)
    zebra = run / "zserv.api"
    options = ["--vty_socket", str(run), "-i", str(run / f"{daemon}.pid"), "-z", str(zebra), "-f", str(config)]
    options += ["-P", "0"]  # no port for commands
    options += ["--bfdctl", str(run / "bfdd.sock")] if daemon == "bfdd" else []
    command = (*confined(_CAPABILITIES, _USER), str(folder / daemon), *options)
    return Kept(daemon, command, config if daemon == "zebra" else zebra, where.state / "frr.log", real_time=daemon == "bfdd")


def make_folders(where: Where) -> None:
    """The folders of sockets and of configurations, which the daemons may write to, and read."""
    for path, mode in ((where.run / "frr", 0o750), (where.state / "frr", 0o755)):
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)
    shutil.chown(where.run / "frr", _USER, GROUP)
