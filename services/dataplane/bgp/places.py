"""Where FRR of an installation has its files and sockets, and how its daemons are started."""

import grp
import pwd
import shutil
import sys
from pathlib import Path
from typing import Final

from services.dataplane.keeper import Kept, confined
from weir.where import Where

DAEMONS: Final = ("bgpd", "bfdd", "zebra")  # in the order in which their files are written: with the last, they start
GROUP: Final = "frrvty"  # of the package: whoever may speak to the daemons
_NEVER_S: Final = 2_000_000_000
_USER: Final = "frr"
_FOLDERS: Final = ("/usr/lib/frr", "/usr/libexec/frr")  # Debian's, and others'
_CAPABILITIES: Final = "net_admin,net_bind_service,net_raw,sys_admin"  # all three daemons refuse to start without


def config_of(where: Where, daemon: str) -> Path:
    """What a daemon reads when it starts.  It does not outlive a reboot: routers are told of VIPs once the agent has them in the kernel."""
    return where.run / "frr.conf.d" / f"{daemon}.conf"


def socket_of(where: Where, daemon: str) -> Path:
    """Where a daemon takes commands."""
    return where.run / "frr" / f"{daemon}.vty"


def folder() -> Path | None:
    """Where the daemons are; None where FRR is not installed, with its user."""
    try:
        pwd.getpwnam(_USER), grp.getgrnam(GROUP)
    except KeyError:
        return None
    return next((path for text in _FOLDERS if (path := Path(text)).joinpath("bgpd").exists()), None)


def kept(where: Where) -> Kept | None:
    """The daemons together, under one that may look into their folder; None where FRR is not installed."""
    if not folder():
        return None
    zebra, group = config_of(where, "zebra"), str(grp.getgrnam(GROUP).gr_gid)
    together = ("setpriv", "--groups", group, sys.executable, "-m", "services.dataplane.bgp", "--run", str(where.run / "frr"), str(zebra))
    return Kept("frr", together, zebra, where.state / "frr.log")


def command(run: Path, configs: Path, daemon: str) -> list[str]:
    """Of one daemon, as the user of FRR's package.   run: of sockets and pids."""
    options = ["--vty_socket", str(run), "-i", str(run / f"{daemon}.pid"), "-z", str(run / "zserv.api")]
    options += ["-f", str(configs / f"{daemon}.conf"), "-P", "0"]  # no port for commands
    more = {
        "bfdd": ["--bfdctl", str(run / "bfdd.sock")],
        "zebra": ["-K", str(_NEVER_S)],  # else it sweeps away the routes of the machine's own FRR
    }
    options += more.get(daemon, [])
    return [*confined(_CAPABILITIES, _USER), str((folder() or Path()) / daemon), *options]


def make_folders(where: Where) -> None:
    """The folders of sockets and of configurations, which the daemons may write to, and read."""
    sockets = where.run / "frr"
    config_of(where, "zebra").parent.mkdir(parents=True, exist_ok=True)
    if not sockets.exists():  # later it is theirs, and not to be changed without more rights
        sockets.mkdir(parents=True)
        sockets.chmod(0o750)
        shutil.chown(sockets, _USER, GROUP)
