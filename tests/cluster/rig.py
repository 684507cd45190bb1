"""The machines of a cluster as network namespaces: a client, the LB node, further nodes, and the control plane's machine.

    client eth0 ── front ┐                      ┌ back ── lb back,  n1 eth0, n2 eth0, … control back
    10.76.0.2            edge (router, 2 switches) .254    10.77.0.1   .12      .13          .2
    lb front 10.76.0.1 ──┘                      └

Nodes send what is for the client through the edge, not through the LB node: replies come back to it only where it put its own
address into the packet, as in most clusters.  Each node i has the pods 10.44.i.0/24 and fd44:i::/64.  Those of a `routed` node
are known to everybody; those of an `overlay` node are reached through VXLAN between the nodes alone, and the switch takes no
packet that bears their addresses.  The machine the tests run on reaches the control plane by one link and one address.
"""

import contextlib
import fcntl
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from tests.cluster.node import sweep
from weir.demo.network import Network

Kind = Literal["routed", "overlay"]
NODES: Mapping[str, Kind] = {"n1": "routed", "n2": "routed", "n3": "overlay"}
LB = "lb"
PODS = "10.44.0.0/16,fd44::/16"
_EDGE = ("10.76.0.254", "fd76::fe", "10.77.0.254", "fd77::fe")
_VXLAN_PORT, _VXLAN_BYTES = 8472, 50
_SLOTS = 250
_LOCK = Path("/run/lock/weir-rig")


class Rig(Network):
    """Namespaces NAME-client, NAME-edge, NAME-lb, NAME-control and NAME-<node>; those of pods are NAME-pod-….

    nodes: besides the LB node, which is a routed one.   through_lb: replies to the client take the way by the LB node.
    apart: every second pod of the LB node has an interface of that node to itself, `cali…`.
    """

    def __init__(
        self,
        name: str,
        nodes: Mapping[str, Kind] = NODES,
        *,
        through_lb: bool = False,
        apart: bool = False,
        controls: Sequence[str] = ("control",),
    ) -> None:
        """controls: machines of control planes; more than one where several clusters share the LB node.  name: at most 10 letters."""
        super().__init__(name, backends=0)
        self.nodes: dict[str, Kind] = {LB: "routed", **nodes}
        self.controls = tuple(controls)
        self.apart = apart
        self._through_lb = through_lb
        self._slots: dict[str, int] = {}
        self._places = ("client", "edge", *controls, *self.nodes)

    # ── where things are ───────────────────────────────────────────────────────────────────────────────────────────

    def number(self, node: str) -> int:
        """Of a node, in its addresses."""
        return 1 if node == LB else 11 + list(self.nodes).index(node)

    def node_addresses(self, node: str) -> tuple[str, str]:
        number = self.number(node)
        return f"10.77.0.{number}", f"fd77::{number}"

    def pod_networks(self, node: str) -> tuple[str, str]:
        number = self.number(node)
        return f"10.44.{number}.0/24", f"fd44:{number}::/64"

    def mtu(self, node: str) -> int:
        """Of the node's pods."""
        return 1500 - (_VXLAN_BYTES if self.nodes[node] == "overlay" else 0)

    def control_address(self, control: str = "control") -> str:
        """Of a control plane's machine: the same for the rig and for the machine the tests run on."""
        return f"10.78.{self._slots[control]}.2"

    # ── building ───────────────────────────────────────────────────────────────────────────────────────────────────

    def build(self) -> None:
        """Makes the network anew."""
        self.destroy()
        _ip("".join(f"netns add {self.namespace(place)}\n" for place in self._places))
        for place in self._places:
            self._sysctl(place, ("net.ipv6.conf.all.accept_dad", "net.ipv6.conf.default.accept_dad"), 0)
            self._sysctl(place, ("net.ipv4.conf.all.rp_filter", "net.ipv4.conf.default.rp_filter"), 0)
        _ip(self._cables())
        for place in ("edge", *self.nodes):
            self._sysctl(place, ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"), 1)
        self._edge()
        networks = ("203.0.113.0/24", "198.18.0.0/15", "2001:db8:113::/64")
        self._up("client", ("eth0",), [("eth0", "10.76.0.2/24", "fd76::2/64")], _EDGE[:2], networks)
        for node in self.nodes:
            self._node(node)
        for control in self.controls:
            self._control(control)
        for node in self.nodes:
            self._pod_routes(node)

    def destroy(self) -> None:
        """Removes all of it, also the links of the tests' machine and the cgroups of nodes."""
        super().destroy()
        sweep(self.name)
        for link in self._links():
            subprocess.run(["ip", "link", "del", link], capture_output=True, check=False)

    def renew_overlay(self, node: str) -> None:
        """A routed node's device of the overlay, and what leads there, as a CNI that starts again makes them anew."""
        _ip("link del overlay\n", "-n", self.namespace(node))
        self._tunnel(node, self.node_addresses(node)[0])
        self._overlay_routes(node)

    def _links(self) -> list[str]:
        """Of the tests' own machine to the control planes, at most 15 letters each."""
        return [f"{self.name}-{number}" for number in range(len(self.controls))]

    def _cables(self) -> str:
        space = self.namespace
        cables = [("client", "eth0", "front0"), (LB, "front", "front1"), (LB, "back", "back0")]
        cables += [(node, "eth0", node) for node in self.nodes if node != LB]
        cables += [(control, "eth0", control) for control in self.controls]
        lines = [f"link add {switch} netns {space('edge')} type bridge mcast_snooping 0" for switch in ("front", "back")]
        for place, link, port in cables:
            lines.append(f"link add {link} netns {space(place)} type veth peer name {port} netns {space('edge')}")
        return "\n".join(lines) + "\n"

    def _edge(self) -> None:
        ports = {"front": ["front0", "front1"], "back": ["back0", *(node for node in self.nodes if node != LB), *self.controls]}
        lines = [f"link set {port} master {switch}\nlink set {port} up" for switch, found in ports.items() for port in found]
        _ip("\n".join(lines), "-n", self.namespace("edge"))
        v4, v6, *back = _EDGE
        self._up("edge", ("front", "back"), [("front", f"{v4}/24", f"{v6}/64"), ("back", f"{back[0]}/24", f"{back[1]}/64")])
        hidden = [network for node, kind in self.nodes.items() if kind == "overlay" for network in self.pod_networks(node)]
        self._firewall(
            "edge", "bridge", "forward", *(f"{_family(network)} {end} {network} drop" for network in hidden for end in ("saddr", "daddr"))
        )

    def _node(self, node: str) -> None:
        v4, v6 = self.node_addresses(node)
        link = "back" if node == LB else "eth0"
        pods = tuple(network.replace(".0/", ".1/").replace("::/", "::1/") for network in self.pod_networks(node))
        gateways = ("10.77.0.1", "fd77::1") if self._through_lb and node != LB else _EDGE[2:]
        bridge = f"link add pods address {_mac(self.number(node), 0x44)} type bridge mcast_snooping 0"  # a MAC that no port of it changes
        _ip(bridge, "-n", self.namespace(node))
        # Pods of the bridge ask there for those that have an interface of the node to themselves, too.
        if self.apart and node == LB:
            self._sysctl(node, ("net.ipv4.conf.pods.proxy_arp", "net.ipv6.conf.pods.proxy_ndp"), 1)
            self._sysctl(node, ("net.ipv4.neigh.pods.proxy_delay", "net.ipv6.neigh.pods.proxy_delay"), 0)
        front = [("front", "10.76.0.1/24", "fd76::1/64")] if node == LB else []
        links = (link, "pods", *(("front",) if node == LB else ()))
        self._up(node, links, [*front, (link, f"{v4}/24", f"{v6}/64"), ("pods", *pods)], gateways)
        if any(kind == "overlay" for kind in self.nodes.values()):
            self._tunnel(node, v4)

    def _tunnel(self, node: str, address: str) -> None:
        """An end of the overlay; what pods of an overlay node send elsewhere leaves with their node's address."""
        number = self.number(node)
        made = f"link add overlay address {_mac(number)} type vxlan id 1 dstport {_VXLAN_PORT} local {address} nolearning"
        _ip(f"{made}\naddress add 10.45.0.{number}/24 dev overlay\naddress add fd45::{number}/64 dev overlay", "-n", self.namespace(node))
        _ip("link set overlay up", "-n", self.namespace(node))
        if self.nodes[node] == "overlay":
            own, _ = self.pod_networks(node)
            self._firewall(node, "ip", "postrouting", f"oifname eth0 ip saddr {own} masquerade")

    def _pod_routes(self, node: str) -> None:
        """To the pods of the others; the edge and the control planes know those of routed nodes alone."""
        lines = [line for other in self._others(node, tunnelled=False) for line in self._to_pods(other, *self.node_addresses(other))]
        _ip("\n".join([*lines, *self._control_routes()]), "-n", self.namespace(node))
        self._overlay_routes(node)

    def _overlay_routes(self, node: str) -> None:
        lines = []
        for other in self._others(node, tunnelled=True):
            number = self.number(other)
            gateways = (f"10.45.0.{number}", f"fd45::{number}")
            lines += self._to_pods(other, *gateways)
            lines += [f"neigh replace {gateway} lladdr {_mac(number)} dev overlay nud permanent" for gateway in gateways]
            self.run(node, "bridge", "fdb", "append", _mac(number), "dev", "overlay", "dst", self.node_addresses(other)[0])
        _ip("\n".join(lines), "-n", self.namespace(node))

    def _others(self, node: str, *, tunnelled: bool) -> list[str]:
        """Nodes whose pods are reached through the overlay, or not."""
        return [other for other, kind in self.nodes.items() if other != node and tunnelled == ("overlay" in (kind, self.nodes[node]))]

    def _to_pods(self, node: str, *gateways: str) -> list[str]:
        return [f"route add {network} via {gateway}" for network, gateway in zip(self.pod_networks(node), gateways, strict=True)]

    def _control(self, control: str) -> None:
        at = self.controls.index(control)
        slot = self._slots[control] = _claim(self._links()[at], self.namespace(control))
        own = [("root", f"10.78.{slot}.2/30"), ("eth0", f"10.77.0.{2 + at}/24", f"fd77::{2 + at}/64")]
        self._up(control, ("root", "eth0"), own, _EDGE[2:])
        _ip("\n".join(self._known_routes()), "-n", self.namespace(control))
        if control == self.controls[-1]:
            _ip("\n".join([*self._known_routes(), *self._control_routes()]), "-n", self.namespace("edge"))

    def _known_routes(self) -> list[str]:
        routed = [node for node, kind in self.nodes.items() if kind == "routed"]
        pairs = [pair for node in routed for pair in zip(self.pod_networks(node), self.node_addresses(node), strict=True)]
        return [f"route add {network} via {gateway}" for network, gateway in pairs]

    def _control_routes(self) -> list[str]:
        return [f"route add 10.78.{self._slots[control]}.0/30 via 10.77.0.{2 + at}" for at, control in enumerate(self.controls)]

    def _firewall(self, place: str, family: str, hook: str, *rules: str) -> None:
        """A table of one chain in a place."""
        kind = "nat hook postrouting priority srcnat" if hook == "postrouting" else f"filter hook {hook} priority 0"
        table = f"table {family} rig {{ chain {hook} {{ type {kind};\n" + "\n".join(rules) + "\n}\n}\n"
        self.run(place, "nft", "-f", "-", input=table)


def _claim(link: str, namespace: str) -> int:
    """Connects this machine to a namespace by a link with addresses nobody here has; returns their number."""
    with _locked():
        taken = subprocess.run(["ip", "-4", "-o", "address"], text=True, capture_output=True, check=True).stdout
        slot = next(number for number in range(1, _SLOTS) if f" 10.78.{number}.1/" not in taken)
        _ip(f"link add {link} type veth peer name root netns {namespace}\naddress add 10.78.{slot}.1/30 dev {link}\nlink set {link} up")
    return slot


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _mac(number: int, network: int = 0x45) -> str:
    """network: as in IPv4, 44 the pods' and 45 the overlay."""
    return f"02:{network:02x}:00:00:00:{number:02x}"


def _family(network: str) -> str:
    return "ip6" if ":" in network else "ip"


def _ip(batch: str, *options: str) -> None:
    if batch:
        subprocess.run(["ip", *options, "-batch", "-"], input=batch, text=True, check=True)
