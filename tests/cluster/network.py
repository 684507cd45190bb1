"""A pod's network on its node: a namespace with one cable to the node, and addresses of the node's range.

Pods share the node's bridge, as with Flannel.  Where the node has pods apart, each of an even number has an interface of the node
to itself and reaches the rest by the node's word alone, as with Calico.
"""

import ipaddress
import subprocess
from collections import deque
from pathlib import Path

import msgspec

NAMESPACES = Path("/run/netns")
_GATEWAYS = ("169.254.1.1", "fe80::1")  # of pods apart: the node answers for any


class Plugged(msgspec.Struct, frozen=True):
    """A pod's namespace and addresses, IPv4 first."""

    namespace: str
    addresses: tuple[str, ...]

    @property
    def path(self) -> Path:
        return NAMESPACES / self.namespace


class Ranges:
    """The addresses of a node's pods; one that was given back is given out as late as can be."""

    def __init__(self, networks: tuple[str, ...], mtu: int, *, apart: bool = False) -> None:
        self._v4, self._v6 = ipaddress.IPv4Network(networks[0]), ipaddress.IPv6Network(networks[1])
        self._free = deque(range(2, 251))
        self._mtu = mtu
        self._apart = apart

    def plug(self, namespace: str) -> Plugged:
        """Makes a namespace that reaches all the node does.  Raises IndexError when the node is full."""
        number = self._free.popleft()
        addresses = (str(self._v4[number]), str(self._v6[number]))
        apart, link = self._apart and is_even(number), self._link(number)
        subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)  # of a node that was killed
        subprocess.run(["ip", "link", "del", link], capture_output=True, check=False)
        _ip(f"netns add {namespace}\nlink add {link} mtu {self._mtu} type veth peer name eth0 mtu {self._mtu} netns {namespace}\n")
        quiet = [f"net.ipv6.conf.{each}.accept_dad=0" for each in ("all", "default", "eth0")]
        subprocess.run(["nsenter", f"--net={NAMESPACES / namespace}", "sysctl", "-q", *quiet], check=True)
        _ip("link set lo up\nlink set eth0 up\n", "-n", namespace)
        (self._to_itself if apart else self._bridged)(link, namespace, addresses)
        return Plugged(namespace, addresses)

    def _bridged(self, link: str, namespace: str, addresses: tuple[str, str]) -> None:
        _ip(f"link set {link} master pods up\n")
        _ip(
            f"address add {addresses[0]}/{self._v4.prefixlen} dev eth0\naddress add {addresses[1]}/{self._v6.prefixlen} dev eth0\n"
            f"route add default via {self._v4[1]}\nroute add default via {self._v6[1]}\n",
            "-n",
            namespace,
        )

    def _to_itself(self, link: str, namespace: str, addresses: tuple[str, str]) -> None:
        sysctls = [f"net.ipv4.conf.{link}.proxy_arp=1", f"net.ipv4.neigh.{link}.proxy_delay=0", f"net.ipv6.conf.{link}.accept_dad=0"]
        subprocess.run(["sysctl", "-q", *sysctls], check=True)
        routes = "".join(f"route add {address} dev {link}\n" for address in addresses)
        _ip(f"link set {link} up\naddress add {_GATEWAYS[1]}/64 dev {link}\n{routes}neigh add proxy {addresses[1]} dev pods\n")
        _ip(
            f"address add {addresses[0]}/32 dev eth0\naddress add {addresses[1]}/128 dev eth0\nroute add {_GATEWAYS[0]} dev eth0\n"
            + "".join(f"route add default via {gateway} dev eth0\n" for gateway in _GATEWAYS),
            "-n",
            namespace,
        )

    def unplug(self, plugged: Plugged) -> None:
        number = int(ipaddress.ip_address(plugged.addresses[0])) - int(self._v4.network_address)
        if self._apart and is_even(number):
            subprocess.run(["ip", "neigh", "del", "proxy", plugged.addresses[1], "dev", "pods"], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", self._link(number)], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "del", plugged.namespace], capture_output=True, check=False)
        self._free.append(number)

    def _link(self, number: int) -> str:
        """The node's end of a pod's cable."""
        return f"{'cali' if self._apart and is_even(number) else 'pod'}{number}"


def is_even(number: int) -> bool:
    """Whether the pod of this number stands apart where there are such."""
    return number % 2 == 0


def _ip(batch: str, *options: str) -> None:
    subprocess.run(["ip", *options, "-batch", "-"], input=batch, text=True, check=True)
