"""`make conformance`: the Gateway API's conformance suite against Weir, which stands outside of a real cluster on a machine of its own.

    make conformance                                          every profile; the report goes to docs/conformance/
    make conformance T=HTTPRouteSimpleSameNamespace           one test

The suite runs in the client's namespace: it reaches VIPs as any client does, and the API by the cluster's address.
"""

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.balanced import Balanced
from tests.cluster.binaries import BuildError, binary
from tests.cluster.cluster import ROOT
from tests.cluster.machines import Machines, cluster_on, condition
from tests.cluster.rig import Rig
from tests.conformance.images import layout
from tests.own import own

PROFILES = ("GATEWAY-HTTP", "GATEWAY-GRPC", "GATEWAY-TLS", "GATEWAY-TCP", "GATEWAY-UDP")
REPORT = ROOT / "docs" / "conformance" / "weir.yaml"
UNUSABLE = "192.0.2.7"  # in no pool
USABLE = "203.0.113.200"
CLASS = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "GatewayClass",
    "metadata": {"name": "gateway-conformance"},
    "spec": {"controllerName": "weir.dev/weir"},
}
POOL = {
    "apiVersion": "weir.dev/v1alpha1",
    "kind": "VIPPool",
    "metadata": {"name": "conformance"},
    "spec": {"addresses": ["203.0.113.10-203.0.113.209"]},
}
_PROJECT = {"organization": "weir", "project": "weir", "url": "https://weir.dev", "version": "main", "contact": "https://weir.dev"}


@contextlib.contextmanager
def site(name: str) -> Iterator[tuple[Machines, Balanced]]:
    """A cluster of two nodes, and Weir that follows it from the LB node's machine."""
    with Rig(name, {"n1": "routed"}) as rig, cluster_on(rig, images=layout()) as machines:
        machines.start()
        machines.cluster.install_gateway_api("experimental")
        machines.cluster.install_crds()
        machines.cluster.api.apply(POOL, CLASS)
        with Balanced(rig, {"kube": machines.cluster}) as weir:
            path = machines.cluster.api.path(CLASS)
            machines.cluster.wait_for("the class Accepted", lambda: condition(machines.cluster.api.get(path), "Accepted"))
            yield machines, weir


def suite(machines: Machines, test: str, report: Path) -> int:
    """The exit code of the suite."""
    report.parent.mkdir(parents=True, exist_ok=True)
    flags = {
        "gateway-class": CLASS["metadata"]["name"],  # type: ignore[index]
        "report-output": str(report),
        "usable-address": USABLE,
        "unusable-address": UNUSABLE,
        **({"run-test": test} if test else {"conformance-profiles": ",".join(PROFILES)}),
        **_PROJECT,
    }
    words = [f"-{name}={value}" for name, value in flags.items()]
    argv = [str(binary("conformance.test")), "-test.run=^TestConformance$", "-test.v", "-test.timeout=90m", *words]
    env = {**os.environ, "KUBECONFIG": str(machines.cluster.kubeconfig)}
    env = {name: value for name, value in env.items() if not name.lower().endswith("_proxy")}
    return machines.rig.popen("client", *argv, env=env, cwd=machines.cluster.folder).wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--test", default="", metavar="NAME", help="one test of the suite instead of all")
    parser.add_argument("--report", type=Path, default=REPORT)
    parser.add_argument("--hold", action="store_true", help="run nothing: keep all of it until Ctrl-C")
    args = parser.parse_args()
    if os.geteuid():
        sys.exit("conformance: network namespaces need root")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began_s = time.monotonic()
    try:
        with site(own("weircf")) as (machines, _):
            print(f"the cluster and Weir are up after {time.monotonic() - began_s:.0f} s", flush=True)
            if args.hold:
                print(f"KUBECONFIG={machines.cluster.kubeconfig} {binary('conformance.test')}", flush=True)
                signal.pause()
            code = suite(machines, args.test, args.report)
    except BuildError as error:
        sys.exit(f"conformance: {error}")
    sys.exit(code)


if __name__ == "__main__":
    main()
