"""What of the machines' network the tests stand on, and would not blame."""

from tests.cluster.conftest import unused
from tests.cluster.rig import Rig


def test_a_nodes_mac_towards_its_pods_outlasts_those_that_come_and_go(root: None) -> None:
    """A bridge takes the lowest of its ports' unless it was given one; over IPv6 pods then answer to the old one for ten seconds."""
    with unused("weirrig") as name, Rig(name, {"n1": "routed"}) as rig:
        before = _mac_of_bridge(rig)
        rig.run("n1", "ip", "link", "add", "pod", "address", "02:00:00:00:00:01", "master", "pods", "type", "veth", "peer", "peer")
        assert _mac_of_bridge(rig) == before
        rig.run("n1", "ip", "link", "del", "pod")
        assert _mac_of_bridge(rig) == before


def _mac_of_bridge(rig: Rig) -> str:
    return rig.run("n1", "ip", "-brief", "link", "show", "pods").stdout.split()[2]
