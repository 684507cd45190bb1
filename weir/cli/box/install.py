"""`weir install`: a systemd unit for `weir up` or `weir join` on this machine, with the least privileges that it needs.

Stopping the unit ends processes and leaves the kernel forwarding; only `weir down` removes the packet path.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from services.dataplane.bgp.places import folder
from weir.cli.box.supervise import UpError
from weir.view.processes import running
from weir.where import Where, write_file

UNITS = Path("/etc/systemd/system")
# The loader: BPF, NET_ADMIN, PERFMON; gratuitous ARP: NET_RAW; manifests anywhere: DAC_READ_SEARCH; children with less: SETPCAP;
# Envoy: NET_BIND_SERVICE.
CAPABILITIES = (
    *("CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON", "CAP_NET_RAW", "CAP_DAC_READ_SEARCH", "CAP_SETPCAP"),
    "CAP_NET_BIND_SERVICE",
)
# Where FRR is installed: its user, its folder, its end, and what its daemons refuse to start without.
OF_FRR = ("CAP_SETUID", "CAP_SETGID", "CAP_CHOWN", "CAP_KILL", "CAP_SYS_ADMIN", "CAP_SYS_NICE")
_REAL_TIME = "CAP_SYS_NICE"  # of hellos and BFD

_UNIT = """\
# Written by weir install.  What differs on this machine belongs into a drop-in: systemctl edit {name}
[Unit]
Description=Weir load balancer, instance {instance}
Wants=network-online.target
After=network-online.target
# The kernel forwards meanwhile, so there is no reason to give up.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
Restart=on-failure
RestartSec=2
# weir up restarts children that hang; one that hangs itself is restarted by systemd.  Traffic flows on either way.
WatchdogSec=30
# weir up ends its children in order, and they end with it where it is killed.  Envoy and its keeper stay, so that requests go on.
KillMode=process
TimeoutStopSec=30
LimitNOFILE=1048576
CapabilityBoundingSet={capabilities}
NoNewPrivileges=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET
LockPersonality=yes
RestrictRealtime={real_time}
RestrictSUIDSGID=yes
# Nothing here that gives the unit a mount namespace (PrivateTmp=, ProtectSystem= …): pins made in one can vanish with it.

[Install]
WantedBy=multi-user.target
"""


def install(instance: str, command: Sequence[str], *, only_print: bool) -> None:
    """command: of `weir`, with its options."""
    text = unit(instance, [sys.executable, "-m", "weir.cli", *command])
    if only_print:
        typer.echo(text, nl=False)
        return
    path = _path(instance)
    write_file(path, text.encode())
    typer.echo(f"{path} written; start it, now and at each boot:\n  systemctl daemon-reload && systemctl enable --now {path.name}")


def uninstall(instance: str) -> None:
    """Raises UpError while it runs, or where there is no such unit."""
    path, where = _path(instance), Where(instance)
    if not path.exists():
        raise UpError(f"{path}: no such unit")
    if running(where):
        raise UpError(f"instance {instance} is up: run systemctl disable --now {path.name} first")
    path.unlink()
    typer.echo(f"{path} removed; then: systemctl daemon-reload")
    if where.pins.exists():
        typer.echo(f"the kernel keeps forwarding until: weir down --instance {instance}")
    typer.echo(f"the log and the last plan stay in {where.state}")


def unit(instance: str, command: Sequence[str]) -> str:
    """The unit's text."""
    words = " ".join(_quoted(word) for word in command)
    capabilities = rights(command)
    real_time = "no" if _REAL_TIME in capabilities else "yes"
    more = {"capabilities": " ".join(capabilities), "real_time": real_time}
    return _UNIT.format(name=_path(instance).name, instance=instance, command=words, **more)


def rights(command: Sequence[str]) -> tuple[str, ...]:
    """The capabilities of the unit."""
    hellos = (_REAL_TIME,) if "join" in command else ()
    return tuple(dict.fromkeys((*CAPABILITIES, *hellos, *(OF_FRR if folder() else ()))))


def _path(instance: str) -> Path:
    return UNITS / ("weir.service" if instance == "weir" else f"weir-{instance}.service")


def _quoted(word: str) -> str:
    """Quote a word of a command line for systemd.service(5)."""
    doubled = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return doubled if re.fullmatch(r"[\w@%+=:,./$-]+", doubled) else f'"{doubled}"'
