"""`make conformance`: the Gateway API's conformance suite against Weir, which stands outside of a real cluster on a machine of its own.

    make conformance                                          every profile; the report goes to docs/conformance/
    make conformance T=HTTPRouteSimpleSameNamespace           one test

The suite runs in the client's namespace: it reaches VIPs as any client does, and the API by the cluster's address.
"""

import argparse
import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.api import Object
from tests.cluster.balanced import Balanced
from tests.cluster.binaries import BuildError, binary
from tests.cluster.cluster import ROOT
from tests.cluster.machines import Machines, cluster_on, condition
from tests.cluster.rig import Rig
from tests.conformance.images import layout
from tests.own import own

PROFILES = ("GATEWAY-HTTP", "GATEWAY-GRPC", "GATEWAY-TLS", "GATEWAY-TCP", "GATEWAY-UDP")
LOG = ROOT / "out" / "conformance.log"
REPORT = ROOT / "docs" / "conformance" / "weir.yaml"
UNUSABLE = "192.0.2.7"  # in no pool
USABLE = "203.0.113.200"
CLASS: Object = {
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
def site(name: str) -> Iterator[Machines]:
    """A cluster of two nodes, and Weir that follows it from the LB node's machine."""
    with Rig(name, {"n1": "routed"}) as rig, cluster_on(rig, images=layout()) as machines:
        machines.start()
        machines.cluster.install_gateway_api("experimental")
        machines.cluster.install_crds()
        machines.cluster.api.apply(POOL, CLASS)
        with Balanced(rig, {"kube": machines.cluster}):
            path = machines.cluster.api.path(CLASS)
            machines.cluster.wait_for("the class Accepted", lambda: condition(machines.cluster.api.get(path), "Accepted"))
            yield machines


def suite(machines: Machines, *options: str, report: Path | None = None) -> int:
    """Run the suite; its exit code.  Its output goes to LOG.

    options: its own, `-run-test=NAME` say.   report: where one is written.
    """
    flags = {
        "gateway-class": CLASS["metadata"]["name"],
        "usable-address": USABLE,
        "unusable-address": UNUSABLE,
        **({"report-output": str(report.absolute()), **_PROJECT} if report else {}),
    }
    words = [*(f"-{name}={value}" for name, value in flags.items()), *options]
    argv = [str(binary("conformance.test")), "-test.run=^TestConformance$", "-test.v", "-test.timeout=90m", *words]
    env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    env["KUBECONFIG"] = str(machines.cluster.kubeconfig)
    for folder in {LOG.parent, report.parent if report else LOG.parent}:  # the suite makes none
        folder.mkdir(parents=True, exist_ok=True)
    if report:
        report.unlink(missing_ok=True)
    with LOG.open("w") as log:
        return machines.rig.popen("client", *argv, env=env, cwd=machines.cluster.folder, stdout=log, stderr=log).wait()


def results() -> dict[str, str]:
    """Test of the suite -> PASS, FAIL or SKIP, of the last run."""
    return {name: word for word, name in re.findall(r"^    --- (PASS|FAIL|SKIP): TestConformance/(\w+) \(", LOG.read_text(), re.MULTILINE)}


def summary(report: Path) -> str:
    """A line for each profile of a report."""
    lines = []
    for profile in yaml.safe_load(report.read_text())["profiles"]:
        for level in ("core", "extended"):
            found = profile.get(level, {})
            counted = {name: found.get("statistics", {}).get(name, 0) for name in ("Passed", "Failed", "Skipped")}
            counts = ", ".join(f"{count} {name.lower()}" for name, count in counted.items())
            lines.append(f"{profile['name']:14} {level:9} {found.get('result', '-'):8} {counts}; {_not_passed(found)}")
    return "\n".join(lines)


def _not_passed(found: dict[str, Any]) -> str:
    lists = {"failed": "failedTests", "skipped": "skippedTests", "unsupported": "unsupportedFeatures"}
    return "; ".join(f"{word}: {', '.join(found[name])}" for word, name in lists.items() if found.get(name)) or "nothing else"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--test", default="", metavar="NAME", help="one test of the suite instead of all")
    parser.add_argument("--report", type=Path, default=REPORT, help="where the report of a whole run goes")
    parser.add_argument("--hold", action="store_true", help="keep cluster and Weir until Ctrl-C, and run nothing")
    args = parser.parse_args()
    if os.geteuid():
        sys.exit("conformance: network namespaces need root")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began_s = time.monotonic()
    try:
        with site(own("weircf")) as machines:
            print(f"up after {time.monotonic() - began_s:.0f} s: KUBECONFIG={machines.cluster.kubeconfig}", flush=True)
            if args.hold:
                signal.pause()
            if args.test:
                code = suite(machines, f"-run-test={args.test}")
            else:
                code = suite(machines, f"-conformance-profiles={','.join(PROFILES)}", report=args.report)
    except BuildError as error:
        sys.exit(f"conformance: {error}")
    if not args.test and args.report.exists():
        print(summary(args.report))
    print("\n".join(f"{word} {name}" for name, word in results().items() if word == "FAIL" or (args.test and word == "PASS")))
    print(f"{time.monotonic() - began_s:.0f} s; output of the suite: {LOG}")
    sys.exit(code)


if __name__ == "__main__":
    main()
