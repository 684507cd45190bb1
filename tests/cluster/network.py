"""A pod's network on its node: a namespace with one cable into the node's bridge, and addresses of the node's range."""

import ipaddress
import subprocess
from collections import deque
from pathlib import Path

import msgspec

NAMESPACES = Path("/run/netns")


class Plugged(msgspec.Struct, frozen=True):
    """A pod's namespace and addresses, IPv4 first."""

    namespace: str
    addresses: tuple[str, ...]

    @property
    def path(self) -> Path:
        return NAMESPACES / self.namespace


class Ranges:
    """The addresses of a node's pods; one that was given back is given out as late as can be."""

    def __init__(self, networks: tuple[str, ...], mtu: int) -> None:
        self._v4, self._v6 = ipaddress.IPv4Network(networks[0]), ipaddress.IPv6Network(networks[1])
        self._free = deque(range(2, 251))
        self._mtu = mtu

    def plug(self, namespace: str) -> Plugged:
        """Makes a namespace that reaches all the node does.  Raises IndexError when the node is full."""
        number = self._free.popleft()
        addresses = (str(self._v4[number]), str(self._v6[number]))
        link = f"pod{number}"
        subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)  # of a node that was killed
        subprocess.run(["ip", "link", "del", link], capture_output=True, check=False)
        _ip(
            f"netns add {namespace}\n"
            f"link add {link} mtu {self._mtu} type veth peer name eth0 mtu {self._mtu} netns {namespace}\n"
            f"link set {link} master pods up\n"
        )
        quiet = ["sysctl", "-q", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.eth0.accept_dad=0"]
        subprocess.run(["nsenter", f"--net={NAMESPACES / namespace}", *quiet], check=True)
        _ip(
            "link set lo up\nlink set eth0 up\n"
            f"address add {addresses[0]}/{self._v4.prefixlen} dev eth0\naddress add {addresses[1]}/{self._v6.prefixlen} dev eth0\n"
            f"route add default via {self._v4[1]}\nroute add default via {self._v6[1]}\n",
            "-n",
            namespace,
        )
        return Plugged(namespace, addresses)

    def unplug(self, plugged: Plugged) -> None:
        number = int(ipaddress.ip_address(plugged.addresses[0])) - int(self._v4.network_address)
        subprocess.run(["ip", "link", "del", f"pod{number}"], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "del", plugged.namespace], capture_output=True, check=False)
        self._free.append(number)


def _ip(batch: str, *options: str) -> None:
    subprocess.run(["ip", *options, "-batch", "-"], input=batch, text=True, check=True)
