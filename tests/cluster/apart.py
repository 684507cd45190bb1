"""A CNI plugin: each pod has an interface of the node to itself, `cali…`, and the node answers for all others, as with Calico.

containerd runs it as containernetworking's specification 1.0.0 says; addresses come from host-local.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

GATEWAYS = ("169.254.1.1", "fe80::1")  # the node answers for any


def add(config: dict[str, Any], link: str, namespace: str) -> dict[str, Any]:
    """Connects the pod of a network namespace by a cable whose end here is `link`; returns CNI's result."""
    given = json.loads(_ipam(config))
    addresses = [one["address"].partition("/")[0] for one in given["ips"]]
    mtu = config["mtu"]
    # The cable's end has its name from the start; DAD off, so that it answers at once.
    _ip(f"link add {link} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {namespace}\n")
    _sysctl(f"net.ipv4.conf.{link}.proxy_arp=1", f"net.ipv4.neigh.{link}.proxy_delay=0", f"net.ipv6.conf.{link}.accept_dad=0")
    routes = "".join(f"route add {address} dev {link}\n" for address in addresses)
    proxied = "".join(f"neigh add proxy {address} dev pods\n" for address in addresses if ":" in address)
    _ip(f"link set {link} up\naddress add {GATEWAYS[1]}/64 dev {link}\n{routes}{proxied}")
    inside = ["nsenter", f"--net={namespace}"]
    _sysctl(*(f"net.ipv6.conf.{each}.accept_dad=0" for each in ("all", "default", "eth0")), inside=inside)
    own = "".join(f"address add {address}/{128 if ':' in address else 32} dev eth0\n" for address in addresses)
    ways = "".join(f"route add default via {gateway} dev eth0\n" for gateway in GATEWAYS)
    _ip(f"link set lo up\nlink set eth0 up\n{own}route add {GATEWAYS[0]} dev eth0\n{ways}", inside=inside)
    interfaces = [{"name": link}, {"name": "eth0", "sandbox": namespace}]
    return {"cniVersion": config["cniVersion"], "interfaces": interfaces, "ips": [{**one, "interface": 1} for one in given["ips"]]}


def delete(config: dict[str, Any], link: str) -> None:
    """Does nothing where nothing is."""
    _ipam(config)
    found = subprocess.run(["ip", "-6", "-json", "route", "show", "dev", link], capture_output=True, check=False).stdout
    for route in json.loads(found or "[]"):
        subprocess.run(["ip", "neigh", "del", "proxy", route["dst"], "dev", "pods"], capture_output=True, check=False)
    subprocess.run(["ip", "link", "del", link], capture_output=True, check=False)


def _ipam(config: dict[str, Any]) -> bytes:
    """What host-local answers to the same command."""
    return subprocess.run(["host-local"], input=json.dumps(config).encode(), stdout=subprocess.PIPE, check=True).stdout


def _ip(batch: str, inside: Sequence[str] = ()) -> None:
    subprocess.run([*inside, "ip", "-batch", "-"], input=batch, text=True, check=True)


def _sysctl(*settings: str, inside: Sequence[str] = ()) -> None:
    subprocess.run([*inside, "sysctl", "-q", *settings], check=True)


def main() -> None:
    config, link = json.load(sys.stdin), f"cali{os.environ.get('CNI_CONTAINERID', '')[:11]}"
    match os.environ["CNI_COMMAND"]:
        case "ADD":
            json.dump(add(config, link, os.environ["CNI_NETNS"]), sys.stdout)
        case "DEL":
            delete(config, link)
        case "VERSION":
            json.dump({"cniVersion": "1.0.0", "supportedVersions": ["1.0.0"]}, sys.stdout)


if __name__ == "__main__":
    main()
